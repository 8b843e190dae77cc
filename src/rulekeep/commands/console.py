"""What every command says, and how it ends."""

import sys
from collections.abc import Iterable

from rulekeep.store import Record

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141

_LONGEST_LINE = 900


def say(line: str) -> None:
    """A line for the user, beside the command's output: one line, whatever stands in it."""
    text = " ".join(line.split())
    if len(text) > _LONGEST_LINE:
        # What is wrong opens a line, and the fix ends it.
        text = f"{text[: _LONGEST_LINE // 2]} … {text[-_LONGEST_LINE // 2 :]}"
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    print(shown, file=sys.stderr, flush=True)


def score_text(score: float | None) -> str:
    """A score as a table has it; none where nothing was asked that it counts."""
    return "–" if score is None else f"{score:.3f}"


def scores_table(records: Iterable[Record]) -> str:
    """What runs score on the test split, a line a length."""
    lines = []
    for record in records:
        if record.status == "diverged":
            lines.append(f"diverged: {record.reason}")
        if record.tests():
            lines.append("test context  retention  chance  exact  token accuracy  val loss")
        for row in record.tests():
            found = row.figures
            loss = f"{found['val_loss']:.4f}" if "val_loss" in found else "–"
            lines.append(
                f"{row.context:>12}  {score_text(found.get('retention')):>9}  "
                f"{score_text(row.chance.get('retention')):>6}  "
                f"{score_text(found.get('exact')):>5}  "
                f"{score_text(found.get('token_accuracy')):>14}  {loss:>8}"
            )
    return "\n".join(lines)
