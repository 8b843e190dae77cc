"""What every command says, and how it ends."""

import sys

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
