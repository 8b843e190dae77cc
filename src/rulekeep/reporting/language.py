"""Rules in words: what each compression keeps. Records in, tables and figures out; no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rulekeep.analysis.panels import Chart, Panel, Point, Series, styles
from rulekeep.language.figures import Estimate, Followed, Unread, cell, left_out, without_rules
from rulekeep.records import Record
from rulekeep.records.record import name
from rulekeep.reporting.tables import MISSING_CELL, Cell, Table, number_cell
from rulekeep.reporting.text import csv_lines
from rulekeep.specs import LanguageSpec
from rulekeep.specs.language import NO_COMPRESSION

_WHOLE = NO_COMPRESSION
NO_RULES = "no_rules"
_MENTIONS = {"none": "no rival mentioned", "word": "rivals as words", "instruction": "as rules"}
_HEADER = (
    "model", "distance", "rules at", "mentions", "control", "compression", "KiB", "retention",
    "all rules", "gain, nats", "minus whole", "said", "stored", "prompts",
)  # fmt: skip
CSV_HEADER = (
    "model", "distance", "placement", "mentions", "control", "compression", "cache_bytes",
    "figure", "mean", "low_95", "high_95", "chance", "prompts",
)  # fmt: skip


class Place(NamedTuple):
    """A cell: where the rules stand, how far, what else is in the text."""

    model: str
    control: str
    mentions: str
    placement: str
    distance: int

    @classmethod
    def of(cls, record: Record) -> "Place":
        """The cell of a record."""
        rest = record.spec.rest
        control, mentions, placement = (
            name(rest.get(key), "?") for key in ("control", "mentions", "placement")
        )
        distance = rest.get("distance")
        tokens = distance if isinstance(distance, int) else record.spec.context
        return cls(name(record.spec.mixer, "?"), control, mentions, placement, tokens)


Cells = Mapping[Place, tuple[Record, Mapping[str, Followed]]]


def is_in_words(record: Record) -> bool:
    """Whether a record is of rules in words."""
    return record.spec.kind == LanguageSpec.kind


def cells(records: Sequence[Record]) -> Cells:
    """What each compression keeps in each cell; the one that admits families is left out."""
    found = {
        Place.of(record): (record, cell(record))
        for record in records
        if is_in_words(record) and record.choices and record.spec.families
    }
    return dict(sorted(found.items()))


def tables(found: Cells) -> list[Table]:
    """Every cell and compression, and what each family keeps."""
    made = [_cells(found), _families(found)] if found else []
    certified = unread(found)
    return [*made, _certificate(certified)] if certified else made


def unread(found: Cells) -> Mapping[Place, Sequence[Unread]]:
    """What a reader of everything but the rules gets right, in each cell of the control."""
    every = {
        at: without_rules(record) for at, (record, _) in found.items() if at.control == NO_RULES
    }
    return {at: one for at, one in every.items() if one}


def notes(found: Cells) -> Iterator[str]:
    """Where the control without rules is not at chance, or was not run."""
    certified = unread(found)
    for at, every in certified.items():
        off = [one for one in every if not one.is_at_chance]
        if off:
            listed = ", ".join(f"{one.family} {one.text}" for one in off)
            yield (
                f"without rules, {at.distance:,} tokens, {_said(at)}: chance {off[0].chance:.3f} "
                f"is outside {listed}; do not read these as rules kept"
            )
    if found and not certified:
        yield "no cell is without rules: --control none,no_rules shows whether chance is chance"


def charts(found: Cells) -> list[Chart]:
    """Retention over distance, and over the bytes of the cache."""
    panels = [*_over_distance(found), *_over_bytes(found)]
    if not panels:
        return []
    caption = (
        "Rules that a model follows; bars are 95 % intervals of a bootstrap over prompts. Where "
        "rivals are mentioned too, this is binding. The dotted line is chance."
    )
    return [Chart(key="language", title="Rules in words", caption=caption, panels=panels)]


def _cells(found: Cells) -> Table:
    rows = []
    for place, (record, kept) in found.items():
        for compression, one in kept.items():
            size = record.cache_bytes.get(compression)
            rows.append(
                (
                    Cell(place.model),
                    Cell(f"{place.distance:,}", place.distance),
                    *map(Cell, (place.placement, place.mentions, place.control, compression)),
                    number_cell(None if size is None else size / 1024, 0),
                    _interval(one.retention),
                    number_cell(one.all_rules.mean),
                    number_cell(None if one.gain is None else one.gain.mean, 2),
                    _interval(one.difference),
                    *(
                        number_cell(None if of is None else of.mean)
                        for of in (one.said, one.stored)
                    ),
                    number_cell(one.prompts, 0),
                )
            )
    chances = sorted({f"{one.chance:.3f}" for _, kept in found.values() for one in kept.values()})
    meaning = (
        "Retention: share of rules followed; where rivals are mentioned, this is binding. KiB: of "
        "the cache. All rules: prompts whose every rule is followed. Minus whole: against the "
        "uncompressed cache, paired by prompt. Said: rules given back when asked for. Stored: "
        f"options left in the text. Chance: {', '.join(chances)}. Intervals: bootstrap over "
        "prompts, 95 %; of few prompts they are too narrow."
    )
    for lost in sorted({left_out(record) for record, _ in found.values()}):
        if lost.rules:
            meaning += (
                f" {lost.rules} of {lost.of} rules of a cell are left out: an option of "
                f"{', '.join(lost.families)} has no validation prompt."
            )
    # A terminal has no room for what is the same in every row, and usual.
    usual = {_HEADER.index("rules at"): "start", _HEADER.index("control"): "none"}
    kept_at = [
        at for at in range(len(_HEADER)) if any(row[at].text != usual.get(at) for row in rows)
    ]
    return Table(
        key="language", title="Rules in words", meaning=meaning,
        header=tuple(_HEADER[at] for at in kept_at),
        rows=tuple(tuple(row[at] for at in kept_at) for row in rows),
    )  # fmt: skip


def csv_text(found: Cells) -> str:
    """Every figure of every cell on a line of its own, unrounded."""
    return csv_lines(CSV_HEADER, _csv_lines(found))


def _csv_lines(found: Cells) -> Iterator[list[object]]:
    for at, (record, kept) in found.items():
        for compression, one in kept.items():
            place = [at.model, at.distance, at.placement, at.mentions, at.control, compression]
            place.append(record.cache_bytes.get(compression))
            figures = {
                "retention": one.retention, "all_rules": one.all_rules, "gain_nats": one.gain,
                "minus_whole": one.difference, "said": one.said, "stored": one.stored,
            }  # fmt: skip
            for figure, of in figures.items():
                if of is not None:
                    yield [*place, figure, *of, one.chance, one.prompts]


def _families(found: Cells) -> Table:
    """A line a family, a column a cell without compression."""
    whole = {place: kept[_WHOLE] for place, (_, kept) in found.items() if _WHOLE in kept}
    names = sorted({family for one in whole.values() for family in one.by_family})
    header = ("family", *(f"{at.distance:,} {_said(at)}" for at in whole))
    rows = [
        (Cell(family), *(number_cell(one.by_family.get(family), 2) for one in whole.values()))
        for family in names
    ]
    meaning = "Retention without compression, by family of rules."
    return Table(
        key="families",
        title="Rules in words, by family",
        meaning=meaning,
        header=header,
        rows=tuple(rows),
    )


def _certificate(every: Mapping[Place, Sequence[Unread]]) -> Table:
    """A line a family, a column a cell without rules."""
    by_family = {at: {one.family: one for one in rows} for at, rows in every.items()}
    names = dict.fromkeys(one.family for rows in every.values() for one in rows)
    header = ("family", *(f"{at.distance:,} {_said(at)}" for at in every))
    rows = [
        (Cell(name), *(_at_chance(of.get(name)) for of in by_family.values())) for name in names
    ]
    meaning = (
        "What the model gets right without rules, by family. Each interval must hold chance; "
        '"off" marks one that does not. Intervals: exact, for all families of a cell at once.'
    )
    return Table(
        key="certificate", title="Rules in words, without rules", meaning=meaning, header=header,
        rows=tuple(rows),
    )  # fmt: skip


def _at_chance(one: Unread | None) -> Cell:
    if one is None:
        return MISSING_CELL
    return Cell(one.text if one.is_at_chance else f"{one.text} off", one.share)


def _said(place: Place) -> str:
    parts = (place.placement, place.mentions, place.control)
    return ", ".join(one for one in parts if one not in ("start", "none")) or "start"


def _over_distance(found: Cells) -> Iterator[Panel]:
    """A panel a model and placement, a line a kind of mention."""
    look = styles([*_MENTIONS.values()])
    for model, placement in sorted({(at.model, at.placement) for at in found}):
        lines = []
        for mentions, label in _MENTIONS.items():
            points = [
                _point(at.distance, kept[_WHOLE].retention)
                for at, (_, kept) in found.items()
                if _WHOLE in kept
                and at._replace(distance=0) == Place(model, "none", mentions, placement, 0)
            ]
            if len(points) > 1:
                lines.append(Series(label=label, style=look[label], points=points))
        if lines:
            yield Panel(
                title=f"{model}, rules at the {placement}", x_label="tokens of chat",
                y_label="rules followed", series=lines, score=True, chance=_chance(lines, found),
            )  # fmt: skip


def _over_bytes(found: Cells) -> Iterator[Panel]:
    """A panel a cell with several compressions: retention over the bytes of its cache."""
    labels = {
        compression.partition("@")[0]
        for _, kept in found.values()
        for compression in kept
    }  # fmt: skip
    look = styles(sorted(labels), [_WHOLE])
    for at, (record, kept) in found.items():
        lines = []
        for label in look:
            points = sorted(
                _point(record.cache_bytes[compression] / 1024, one.retention)
                for compression, one in kept.items()
                if compression.partition("@")[0] == label and record.cache_bytes.get(compression)
            )
            if points:
                lines.append(Series(label=label, style=look[label], points=points))
        if len(lines) > 1:
            yield Panel(
                title=f"{at.distance:,} tokens, {_MENTIONS.get(at.mentions, at.mentions)}",
                x_label="KiB of cache", y_label="rules followed", series=lines, x_log=True,
                score=True, chance=_chance(lines, found),
            )  # fmt: skip


def _point(x: float, one: Estimate) -> Point:
    return Point(x, one.mean, one.low, one.high)


def _chance(lines: Sequence[Series], found: Cells) -> list[tuple[float, float]]:
    at = [point.x for line in lines for point in line.points]
    level = next(one.chance for _, kept in found.values() for one in kept.values())
    return [(min(at), level), (max(at), level)]


def _interval(one: Estimate | None) -> Cell:
    return MISSING_CELL if one is None else Cell(one.text(), one.mean)
