"""Rules in words: what each compression keeps. Records in, tables out; no torch."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from rulekeep.language.calibration import WRITTEN
from rulekeep.language.cells import RIVALS_ALONE, Place, grouped, labels, model_of
from rulekeep.language.figures import Followed, Unread, admitted, cell, left_out, without_rules
from rulekeep.records import Record
from rulekeep.reporting.page import FIRST, HELPS, LIMITS, SURVIVE, Answer
from rulekeep.reporting.tables import (
    MISSING,
    MISSING_CELL,
    Cell,
    Table,
    Value,
    drawn_interval,
    interval_cell,
    number_cell,
    words,
    words_list,
)
from rulekeep.specs.language import NO_COMPRESSION

WHOLE = NO_COMPRESSION
NO_RULES = "no_rules"
MENTIONS = {
    "none": "no option mentioned",
    "word": "options as words",
    "instruction": "options as rules",
    f"word{RIVALS_ALONE}": "rivals alone as words",
    f"instruction{RIVALS_ALONE}": "rivals alone as rules",
}
# What is not shown where all cells have it.
USUAL = {"chat": "", "rules at": "start", "control": "none", "rules": "4", "seed": "1"}
_LEAST_KEPT = 3
# Of what the whole history keeps: what keeps as much has lost little.
KEPT = 0.9
UNCHOSEN = (
    "A written reply is not chosen among options: without rules it is right less often than chance."
)
# What tells cells apart beside where their rules stand: shown where it differs.
APART = ("model", "families", "replies", "seed")
# What a ranking shows whatever it says.
_RANKED = ("compression", "retention")
Cells: TypeAlias = Mapping[Place, tuple[Record, Mapping[str, Followed]]]


def cells(records: Sequence[Record]) -> Cells:
    """What each compression keeps in each cell; the one that admits families is left out."""
    return {place: (record, cell(record)) for place, record in grouped(records).items()}


def _leading(found: Cells) -> Place | None:
    """The cell with most compressions, its floor known: of several the farthest, with mentions."""
    kinds = [*MENTIONS]
    ruled = [at for at in found if at.control == "none" and at.mentions in kinds and found[at][1]]
    return max(
        ruled, default=None,
        key=lambda at: (
            not _has_no_floor(at), len(found[at][1]), at.distance, kinds.index(at.mentions),
        ),
    )  # fmt: skip


def answers(found: Cells) -> list[Answer]:
    """What a builder asks, each with its sentences and its table or figure."""
    if (at := _leading(found)) is None:
        return []
    record, kept = found[at]
    ranked = _by_retention(kept)
    worst, last = ranked[-1]
    whole = kept.get(WHOLE, ranked[0][1])
    survive = [
        f"{at.model} follows {whole.retention.mean:.3f} of its rules after {at.distance:,} tokens "
        f"of chat, {place_text(at, told_apart([at]))}."
    ]
    compressed = [f"{of.retention.mean:.3f} under {name}" for name, of in ranked if name != WHOLE]
    if compressed:
        ends = " and ".join(dict.fromkeys([compressed[0], compressed[-1]]))
        survive.append(f"Compressed, it follows {ends}.")
    least = last.by_family
    names = sorted(least, key=lambda family: least[family])[:_LEAST_KEPT]
    named = ", ".join(f"{family} ({least[family]:.2f})" for family in names)
    first = f"Under {worst} these are followed least: {named}."
    why = [
        f"{what} {share:.2f}"
        for what, share in (
            ("given back when asked", last.said_share),
            ("left in the text", last.stored and last.stored.mean),
        )
        if share is not None
    ]
    lost = [
        f"Under it {last.retention.mean:.2f} of all rules are obeyed, {' and '.join(why)}: what "
        "is given back or left and not obeyed was not lost, the model disobeys it."
    ]
    enough = [
        (record.tokens_left.get(name, 0), record.cache_bytes.get(name, 0), name)
        for name, of in ranked
        if name != WHOLE and of.retention.mean >= KEPT * whole.retention.mean
    ]
    smallest = min(enough)[-1] if enough else "none of these"
    helps = f"The smallest whose mean is {KEPT:g} of the whole's or more: {smallest}."
    return [
        Answer(SURVIVE, survive, ("figure-language",)),
        Answer(FIRST, [first, *(lost if why else [])], ("first-families",)),
        Answer(HELPS, [helps], ("helps",)),
        Answer(LIMITS, words_list("language_limits")),
    ]


def _by_retention(kept: Mapping[str, Followed]) -> list[tuple[str, Followed]]:
    return sorted(kept.items(), key=lambda one: -one[1].retention.mean)


def _answered(found: Cells) -> list[Table]:
    """Of the leading cell: families by compression, or by distance, and compressions ranked."""
    if (at := _leading(found)) is None:
        return []
    _, kept = found[at]
    worst_first = sorted(kept, key=lambda name: (name != WHOLE, kept[name].retention.mean))
    columns = {name: kept[name].by_family for name in worst_first}
    if len(columns) == 1:
        (name,) = columns
        columns = {
            f"{far.distance:,} tokens": of[name].by_family
            for far, (_, of) in found.items()
            if far._replace(distance=at.distance, asked="", chat="")
            == at._replace(asked="", chat="")
            and name in of
        }
    least = [*columns.values()][-1] if len(kept) == 1 else _by_retention(kept)[-1][1].by_family
    rows: Iterator[dict[str, Value]] = (
        {"family": family, **{name: number_cell(of.get(family), 2) for name, of in columns.items()}}
        for family in sorted(least, key=lambda family: least[family])
    )
    cell = f"{at.model} after {at.distance:,} tokens, {place_text(at, told_apart([at]))}"
    ranked = _rows({at: (found[at][0], dict(_by_retention(kept)))})
    helps = Table.of("helps", ranked, words("helps", cell=cell))
    return [
        Table.of("first-families", rows, words("first_families", cell=cell), shaded=True),
        helps.without({}, {*helps.header}.difference(_RANKED)),
    ]


def tables(found: Cells) -> list[Table]:
    """Every cell and compression, and what each family keeps."""
    made = [_cells(found), _families(found), *_answered(found)] if found else []
    certified = unread(found)
    return [*made, _certificate(certified)] if certified else made


def unread(found: Cells) -> Mapping[Place, Sequence[Unread]]:
    """What a reader of everything but the rules gets right, in each cell of the control."""
    return {
        at: without_rules(kept[WHOLE])
        for at, (_, kept) in found.items()
        if at.control == NO_RULES and WHOLE in kept
    }


def notes(found: Cells) -> Iterator[str]:
    """Where the control without rules is not at chance, or was not run."""
    certified, apart = unread(found), told_apart(found)
    for at, every in certified.items():
        off = [one for one in every if not one.is_at_chance]
        if off:
            listed = ", ".join(f"{one.family} {one.share.text()}" for one in off)
            yield (
                f"without rules, {at.distance:,} tokens, {place_text(at, apart)}: chance "
                f"{off[0].chance:.3f} is outside {listed}; do not read these as rules kept"
            )
    if found and not certified:
        shows = "whether chance is chance" if chosen(found) else "the floor of written replies"
        yield f"no cell is without rules: --control none,no_rules shows {shows}"
    if any(WHOLE not in kept for _, kept in found.values()):
        yield "a cell has no uncompressed cache to compare with: add none to --compress"


def notes_of(records: Sequence[Record]) -> Iterator[str]:
    """Which families a model was not asked for, and which cells have no result."""
    called = labels(model_of, records)
    for record in records:
        named = called[model_of(record).key]
        if not record.is_result:
            yield f"{named}, run {record.id}: {record.status}: {record.reason}"
        elif not record.spec.families:
            _, lost = admitted(record)
            if lost:
                yield f"{named}: left out, since it fails them without chat: {', '.join(lost)}"
    yield from dict.fromkeys(note for record in records for note in record.notes)


def _rows(found: Cells) -> list[dict[str, Value]]:
    """A row a cell and compression."""
    return [
        {
            "model": place.model,
            "distance": number_cell(place.distance, 0),
            "chat": place.chat,
            "tokens": number_cell(record.costs.get("tokens_per_prompt"), 0),
            "rules at": place.placement,
            "rules": number_cell(place.rules, 0),
            "mentions": place.mentions,
            "control": place.control,
            "families": place.families,
            "replies": place.replies,
            "compression": compression,
            "tokens left": number_cell(record.tokens_left.get(compression), 0),
            "KiB": number_cell(record.cache_bytes.get(compression, math.nan) / 1024, 0),
            "retention": drawn_interval(of.retention),
            "said": number_cell(of.said_share),
            "stored": number_cell(None if of.stored is None else of.stored.mean),
            "floor": number_cell(None if _has_no_floor(place) else of.chance),
            "over families": interval_cell(of.over_families),
            "all rules": number_cell(of.all_rules.mean),
            "gain, nats": number_cell(of.gain, 2),
            "minus whole": interval_cell(of.difference),
            "prompts": number_cell(of.prompts, 0),
            "seed": number_cell(place.seed, 0),
        }
        for place, (record, kept) in found.items()
        for compression, of in kept.items()
    ]


def _cells(found: Cells) -> Table:
    limits = list[str]()
    if len(chosen(found)) < len(found):
        limits.append(f"{UNCHOSEN} Its floor is --control no_rules.")
    limits += [
        f"{lost.rules} of {lost.of} rules of a cell are left out: too few other prompts "
        f"ask for {', '.join(lost.families)} without stating the same."
        for lost in sorted({left_out(record) for record, _ in found.values()})
        if lost.rules
    ]
    # A terminal has no room for what is the same in every row, and usual. Not known of any are an
    # endpoint's cache, and the tokens left in older records.
    usual = {"tokens left": MISSING, "KiB": MISSING, **USUAL}
    models = sorted({place.model for place in found})
    told = words("language", models=models, limits=limits)
    return Table.of("language", _rows(found), told).without(usual, APART[:3])


def _families(found: Cells) -> Table:
    """A line a family and cell, a column a compression."""
    names = list(dict.fromkeys(one for _, kept in found.values() for one in kept))
    apart = told_apart(found)
    rows = (
        {
            "family": family, "distance": number_cell(at.distance, 0),
            "cell": place_text(at, apart), "rules": number_cell(rules, 0),
            **dict.fromkeys(names),
            **{name: number_cell(of.by_family.get(family), 2) for name, of in kept.items()},
        }
        for at, (_, kept) in found.items()
        for family, rules in sorted(next(iter(kept.values())).rules_of.items() if kept else ())
    )  # fmt: skip
    return Table.of("families", rows)


def _certificate(every: Mapping[Place, Sequence[Unread]]) -> Table:
    """A line a family, a column a cell without rules."""
    by_family = {at: {one.family: one for one in rows} for at, rows in every.items()}
    names = dict.fromkeys(one.family for rows in every.values() for one in rows)
    apart = told_apart(every)
    # Two cells may be called alike.
    heads = (f"{at.distance:,} {place_text(at, apart)}" for at in every)
    rows: Iterator[list[Value]] = (
        [name, *(_at_chance(of.get(name)) for of in by_family.values())] for name in names
    )
    scored = chosen(every)
    told = words("certificate", scored=scored, written=UNCHOSEN * (len(scored) < len(every)))
    return Table.of_columns("certificate", ("family", *heads), rows, told)


def chosen(places: Iterable[Place]) -> list[Place]:
    """Cells whose replies are chosen among options, so that chance is known."""
    return [at for at in places if at.replies != WRITTEN]


def _has_no_floor(at: Place) -> bool:
    """Whether nobody knows what a cell gives without its rules."""
    return at.replies == WRITTEN or at.mentions.endswith(RIVALS_ALONE)


def _at_chance(one: Unread | None) -> Cell:
    if one is None:
        return MISSING_CELL
    text = one.share.text()
    return Cell(text if one.is_at_chance else f"{text} off", one.share.mean)


def told_apart(places: Iterable[Place], keys: Sequence[str] = APART) -> dict[Place, str]:
    """What tells each cell from others beside where its rules stand, in words."""
    every = [*places]
    differing = [key for key in keys if len({getattr(at, key) for at in every}) > 1]
    return {
        at: ", ".join(
            at.model if key == "model" else f"{key} {getattr(at, key)}" for key in differing
        )
        for at in every
    }


def place_text(place: Place, apart: Mapping[Place, str]) -> str:
    """What is unusual in a cell, in words, and what tells it from others."""
    placement = "" if place.placement == "start" else f"rules in the {place.placement}"
    control = "" if place.control == "none" else place.control.replace("_", " ")
    mentions = MENTIONS.get(place.mentions, place.mentions)
    return ", ".join(filter(None, (mentions, place.chat, placement, control, apart[place])))
