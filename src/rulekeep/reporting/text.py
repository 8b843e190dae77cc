"""Tables as Markdown and as CSV, with every name kept as text in both."""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from rulekeep.analysis.cells import Contest, Group
from rulekeep.analysis.summary import (
    Summary,
    chance_corrected,
    summarise,
    summarise_scores,
)
from rulekeep.records.figures import SCORES
from rulekeep.records.record import PARTS
from rulekeep.reporting.tables import Table, verdict

CSV_HEADER = (
    "table", "task", "mixer", "trained_at", "tested_at", "learning_rate", "figure", "mean",
    "deviation", "low_95", "high_95", "seeds", "diverged", "few_seeds", "note",
)  # fmt: skip


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, also in a table cell."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", plain)


def code_block(text: str) -> str:
    """A fenced block, its fence longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def markdown(table: Table) -> str:
    """A table with its title and meaning; rows with fewer than 5 seeds say "few" themselves."""
    head = f"## {escaped(table.title)}\n\n{escaped(table.meaning)}\n\n"
    lines = [
        " | ".join(escaped(title) for title in table.header),
        "|".join("--:" if right else "---" for right in table.numbers()),
        *(" | ".join(escaped(cell.text) or " " for cell in row) for row in table.rows),
    ]
    return head + "\n".join(f"| {line} |" for line in lines)


def csv_text(found: Sequence[Contest]) -> str:
    """Every figure of every cell on a line of its own, unrounded."""
    return csv_lines(CSV_HEADER, _lines(found))


def csv_lines(header: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """A CSV with numbers unrounded and no text that a spreadsheet runs."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for line in lines:
        writer.writerow([_csv_cell(value) for value in line])
    return buffer.getvalue()


def _lines(found: Sequence[Contest]) -> Iterable[list[object]]:
    for contest in found:
        for group in contest.groups:
            place = [contest.task, group.label, group.trained_at]
            for test in group.test_contexts:
                here = [*place, test, group.rate]
                for figure in (*SCORES, "val_loss", "intrusion_rate"):
                    summary = group.summary(figure, test)
                    if summary is not None:
                        yield ["scores", *here, figure, *_statistics(summary), ""]
                yield from ([table, *here, *line] for table, line in _beside_chance(group, test))
                if (rival := contest.against_attention(group, "retention", test)) is not None:
                    note = f"retention minus that of {rival[0].label}, paired by seed"
                    values = _statistics(rival[1])
                    yield ["differences", *here, "retention", *values, note]
                for figure, by_seed in (
                    ("state_bytes", group.state_bytes(test)),
                    ("decode_ms_per_token", group.decode_ms(test)),
                ):
                    if by_seed:
                        values = _statistics(summarise(list(by_seed.values())))
                        yield ["costs", *here, figure, *values, ""]
            for figure in (
                "train_seconds", "steps_to_solve", "tokens_per_second", "peak_memory_bytes",
                "parameters",
            ):  # fmt: skip
                if by_seed := group.cost(figure):
                    values = _statistics(summarise(list(by_seed.values())))
                    yield ["costs", *place, None, group.rate, figure, *values, ""]
        for rates in contest.rates:
            for tried in rates.choice.grid if rates.choice else ():
                tried_at = [contest.task, rates.label, rates.context, None, tried.rate]
                values = _statistics(summarise(list(tried.losses)))
                yield ["learning_rates", *tried_at, "dev_loss", *values, verdict(rates, tried.rate)]


def _beside_chance(group: Group, test: int) -> Iterable[tuple[str, list[object]]]:
    """Chance levels, scores without them, and retention by parts: a table's name and a line."""
    tests = group.tests(test)
    for figure in (*SCORES, "intrusion_rate"):
        levels = [one.chance[figure] for one in tests.values() if figure in one.chance]
        if figure == "intrusion_rate":
            levels = list(group.finite("intrusion_chance", test).values())
        if levels:
            yield "chance", [figure, *_statistics(summarise(levels)), ""]
        if by_seed := group.corrected(figure, test):
            yield "corrected", [figure, *_statistics(summarise(list(by_seed.values()))), ""]
    for part in PARTS:
        labels = dict.fromkeys(label for one in tests.values() for label in one.parts[part])
        for label in labels:
            of = [one.parts[part][label] for one in tests.values() if label in one.parts[part]]
            kept = _statistics(summarise_scores([one.retention for one in of]))
            yield "parts", [f"retention, {part} {label}", *kept, ""]
            level = _statistics(summarise_scores([one.chance for one in of]))
            yield "chance", [f"retention, {part} {label}", *level, ""]
            # A default is no retention: its chance is 1, and nothing is left to correct.
            over = [chance_corrected(one.retention, one.chance) for one in of if one.chance < 1]
            if over:
                values = _statistics(summarise(over))
                yield "corrected", [f"retention, {part} {label}", *values, ""]


def _statistics(summary: Summary) -> list[object]:
    few = "yes" if summary.few else "no"
    return [*summary[:4], summary.seeds, summary.diverged, few]


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value)
    text = str(value)
    return f"'{text}" if _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet may run it: it opens like a formula, also in a full-width letter."""
    # Some programs read ＝ (U+FF1D) and its like as the ASCII letter that they stand for.
    opens = unicodedata.normalize("NFKC", text.lstrip()[:1])
    return opens[:1] in ("=", "+", "-", "@", "|", "%", "\N{MINUS SIGN}")
