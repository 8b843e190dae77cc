"""Rules in words: what each compression keeps, as tables. Records in, text out; no torch."""

from collections.abc import Sequence

from rulekeep.language.figures import Followed, cell
from rulekeep.printable import markdown_table
from rulekeep.records import Record

_HEADER = (
    "distance", "rules at", "mentions", "control", "cache", "KiB", "retention", "all rules",
    "gain, nats", "minus whole cache", "said", "stored",
)  # fmt: skip


def table(records: Sequence[Record]) -> str:
    """A line for each cell and compression, chance first."""
    found = sorted(records, key=_place)
    body, chances = list[list[str]](), set[str]()
    for record in found:
        for name, one in cell(record).items():
            body.append([*_place_text(record), name, *_figures(record, name, one)])
            chances.add(f"{one.chance:.3f}")
    said = f"Chance: {', '.join(sorted(chances))}. Intervals: bootstrap over prompts, 95 %."
    return f"{markdown_table(_HEADER, body)}\n\n{said}\n"


def _place(record: Record) -> tuple[str, str, str, int]:
    rest = record.spec.rest
    asked = (str(rest.get(key, "")) for key in ("placement", "mentions", "control"))
    placement, mentions, control = asked
    return control, mentions, placement, int(float(str(rest.get("distance", 0))))


def _place_text(record: Record) -> list[str]:
    control, mentions, placement, distance = _place(record)
    return [str(distance), placement, mentions, control]


def _figures(record: Record, name: str, one: Followed) -> list[str]:
    size = record.cache_bytes.get(name)
    return [
        "–" if size is None else f"{size / 1024:,.0f}",
        one.retention.text(),
        f"{one.all_rules.mean:.3f}",
        f"{one.gain.mean:+.2f}",
        *(
            "–" if of is None else of.text() if of is one.difference else f"{of.mean:.3f}"
            for of in (one.difference, one.said, one.stored)
        ),
    ]
