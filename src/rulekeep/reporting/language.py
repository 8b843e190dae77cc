"""Rules in words: what each compression keeps. Records in, tables and figures out; no torch."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rulekeep.analysis.charts import Chart, Panel, Point, Series, styles
from rulekeep.language.calibration import WRITTEN
from rulekeep.language.figures import (
    RIVALS_ALONE,
    Followed,
    Unread,
    admitted,
    cell,
    left_out,
    mentions_of,
    without_rules,
)
from rulekeep.language.intervals import Estimate
from rulekeep.records import Record
from rulekeep.records.record import name
from rulekeep.reporting.tables import MISSING_CELL, Cell, Table, csv_lines, number_cell
from rulekeep.specs import LanguageSpec
from rulekeep.specs.language import NO_COMPRESSION

_WHOLE = NO_COMPRESSION
NO_RULES = "no_rules"
_MENTIONS = {
    "none": "no option mentioned",
    "word": "options as words",
    "instruction": "options as rules",
    f"word{RIVALS_ALONE}": "rivals alone as words",
    f"instruction{RIVALS_ALONE}": "rivals alone as rules",
}
_HEADER = (
    "model", "distance", "chat", "tokens", "rules at", "rules", "mentions", "control",
    "families", "replies", "compression", "tokens left", "KiB",
    "retention", "floor", "over families", "all rules", "gain, nats", "minus whole", "said",
    "stored", "prompts", "seed",
)  # fmt: skip
CSV_HEADER = (
    "model", "distance", "tokens_read", "placement", "rules", "mentions", "control", "compression",
    "cache_bytes", "tokens_left", "family", "figure", "mean", "low_95", "high_95", "chance",
    "prompts", "seed", "chat",
)  # fmt: skip
_LEAST_KEPT = 3
_UNCHOSEN = (
    "A written reply is not chosen among options: without rules it is right less often than chance."
)
# What tells cells apart beside where their rules stand: shown where it differs.
_APART = ("model", "families", "replies", "seed")
# What a guess gets right is known of these alone.
_OF_A_RULE = ("retention", "retention_over_families", "said")


class Place(NamedTuple):
    """A cell: where the rules stand, how far, what else is in the text, and how it was asked.

    `model`, `families` and `chat` are labels that tell apart what is called alike. `asked` tells
    cells apart that differ in anything else but their compressions.
    """

    model: str
    control: str
    mentions: str
    placement: str
    distance: int
    chat: str
    rules: int
    seed: int
    families: str
    replies: str
    asked: str

    @classmethod
    def of(cls, record: Record, labels: Sequence[Mapping[str, str]]) -> "Place":
        """The cell of a record; `labels` are those of `_NAMED`, by what tells each apart."""
        rest = record.spec.rest
        control, placement = (name(rest.get(key), "?") for key in ("control", "placement"))
        mentions = mentions_of(record)
        distance, rules = (
            one if isinstance(one := rest.get(key), int) else missing
            for key, missing in (("distance", record.spec.context), ("rules_at_once", 0))
        )
        # Files count by their content. An option newer than a record is empty in others.
        places = ("model", "device", "rules", "template", "chat", "replies")
        asked = {key: one for key, one in rest.items() if one and key not in places}
        # What is from outside is named with its content.
        outside = {one.rpartition("@")[0] for one in record.spec.compress}
        versions = {key: one for key, one in record.versions.items() if key not in outside}
        said = json.dumps([asked, record.spec.families, versions], sort_keys=True)
        model, families, chat = (
            of[named(record).key] for of, named in zip(labels, _NAMED, strict=True)
        )
        return cls(
            model, control, mentions, placement, distance, chat, rules, record.spec.seed, families,
            record.choices[0].judged, said,
        )  # fmt: skip


class _Named(NamedTuple):
    """What a record is of: what tells it from others, its name, and a mark beside others of it."""

    key: str
    called: str
    mark: str


def _model(record: Record) -> _Named:
    called, digest = name(record.spec.mixer, "?"), str(record.versions.get("model", ""))
    mark = digest[:6]
    if endpoint := name(record.spec.rest.get("endpoint"), ""):
        mark = f"{digest} at {endpoint}".removeprefix("named ").removeprefix(f"{called} ")
    return _Named(f"{digest or called} {endpoint}", called, mark)


def _asked_families(record: Record) -> _Named:
    names, digest = record.spec.families, str(record.versions.get("rules", ""))
    file = Path(name(record.spec.rest.get("rules"), "")).name
    called = f"{len(names)} of {file}" if file else f"{len(names)} shipped"
    return _Named(f"{digest} {names}", called, digest[:6])


def _chat(record: Record) -> _Named:
    digest = str(record.versions.get("chat", ""))
    called = Path(name(record.spec.rest.get("chat"), "?")).name if digest else ""
    return _Named(digest, called, digest[:6])


_NAMED = (_model, _asked_families, _chat)


def _labels(named: Callable[[Record], _Named], records: Sequence[Record]) -> dict[str, str]:
    """What to call each: its name, and its mark where several have that name."""
    in_order = sorted(records, key=lambda one: one.id, reverse=True)
    every = {one.key: one for one in map(named, in_order)}
    counts = Counter(one.called for one in every.values())
    return {
        key: one.called if counts[one.called] == 1 else f"{one.called} ({one.mark})"
        for key, one in every.items()
    }


Cells = Mapping[Place, tuple[Record, Mapping[str, Followed]]]


def is_in_words(record: Record) -> bool:
    """Whether a record is of rules in words."""
    return record.spec.kind == LanguageSpec.kind


def cells(records: Sequence[Record]) -> Cells:
    """What each compression keeps in each cell; the one that admits families is left out."""
    alike: dict[Place, list[Record]] = defaultdict(list)
    records = [one for one in records if is_in_words(one)]
    labels = [_labels(named, records) for named in _NAMED]
    for record in sorted(records, key=lambda one: one.id):
        if record.choices and record.spec.families:
            alike[Place.of(record, labels)].append(record)
    joined = {at: _joined(found) for at, found in sorted(alike.items())}
    return {at: (record, cell(record)) for at, record in joined.items()}


def _joined(alike: Sequence[Record]) -> Record:
    """Records of one cell as one: each compression of the first that has it."""
    first, *others = alike
    choices, known = [*first.choices], {*first.spec.compress}
    sizes, left = first.cache_bytes, first.tokens_left
    for other in others:
        choices += [one for one in other.choices if one.compress not in known]
        sizes, left = other.cache_bytes | sizes, other.tokens_left | left
        known |= {*other.spec.compress}
    joined = {"choices": tuple(choices), "cache_bytes": sizes, "tokens_left": left}
    return first.model_copy(update=joined)


def sentences(found: Cells) -> list[str]:
    """What the cell with most compressions keeps: of several the farthest, with mentions.

    Models, families, replies or seeds that differ have each sentences of their own.
    """
    kinds = [*_MENTIONS]
    ruled = [at for at in found if at.control == "none" and at.mentions in kinds and found[at][1]]
    apart = _apart(ruled, _APART[1:])
    ruled.sort(
        key=lambda one: (len(found[one][1]), one.distance, kinds.index(one.mentions)), reverse=True
    )
    best, said = dict[tuple[object, ...], Place](), []
    for at in ruled:
        best.setdefault(tuple(getattr(at, key) for key in _APART), at)
    for at in best.values():
        kept = found[at][1]
        if whole := kept.get(_WHOLE):
            place = f"after {at.distance:,} tokens of chat, {_said(at, apart)}"
            said.append(f"{at.model} follows {whole.retention.mean:.3f} of its rules {place}.")
        means = {one: of.retention.mean for one, of in kept.items() if one != _WHOLE}
        if not means:
            continue
        ranked = sorted(means, key=lambda one: -means[one])
        shown = [f"{means[one]:.3f} under {one}" for one in dict.fromkeys((ranked[0], ranked[-1]))]
        said.append(f"Compressed, it follows {' and '.join(shown)}.")
        if len(best) == 1:
            least = kept[ranked[-1]].by_family
            families = sorted(least, key=lambda one: least[one])[:_LEAST_KEPT]
            named = ", ".join(f"{one} ({least[one]:.2f})" for one in families)
            said.append(f"Under {ranked[-1]} it keeps these least: {named}.")
    return said


def tables(found: Cells) -> list[Table]:
    """Every cell and compression, and what each family keeps."""
    made = [_cells(found), _families(found)] if found else []
    certified = unread(found)
    return [*made, _certificate(certified)] if certified else made


def unread(found: Cells) -> Mapping[Place, Sequence[Unread]]:
    """What a reader of everything but the rules gets right, in each cell of the control."""
    return {
        at: without_rules(kept[_WHOLE])
        for at, (_, kept) in found.items()
        if at.control == NO_RULES and _WHOLE in kept
    }


def notes(found: Cells) -> Iterator[str]:
    """Where the control without rules is not at chance, or was not run."""
    certified, apart = unread(found), _apart(found)
    for at, every in certified.items():
        off = [one for one in every if not one.is_at_chance]
        if off:
            listed = ", ".join(f"{one.family} {one.share.text()}" for one in off)
            yield (
                f"without rules, {at.distance:,} tokens, {_said(at, apart)}: chance "
                f"{off[0].chance:.3f} is outside {listed}; do not read these as rules kept"
            )
    if found and not certified:
        shows = "whether chance is chance" if _chosen(found) else "the floor of written replies"
        yield f"no cell is without rules: --control none,no_rules shows {shows}"
    if any(_WHOLE not in kept for _, kept in found.values()):
        yield "a cell has no uncompressed cache to compare with: add none to --compress"


def notes_of(records: Sequence[Record]) -> Iterator[str]:
    """Which families a model was not asked for, and which cells have no result."""
    labels = _labels(_model, records)
    for record in records:
        named = labels[_model(record).key]
        if not record.is_result:
            yield f"{named}, run {record.id}: {record.status}: {record.reason}"
        elif not record.spec.families:
            _, lost = admitted(record)
            if lost:
                yield f"{named}: left out, since it fails them without chat: {', '.join(lost)}"
    yield from dict.fromkeys(note for record in records for note in record.notes)


def charts(found: Cells) -> list[Chart]:
    """Retention over distance, and over the bytes of the cache."""
    caption = (
        "Rules that a model follows; bars are 95 % intervals of a bootstrap over prompts. Where "
        "every option is mentioned too, this is binding. "
        + ("The dotted line is chance." if _chosen(found) else _UNCHOSEN)
    )
    every = {
        "language": ("Rules followed over the tokens read", [*_over_distance(found)]),
        "language-bytes": ("Rules followed over the size of the cache", [*_over_bytes(found)]),
    }
    return [
        Chart(key=key, title=title, caption=caption, panels=panels)
        for key, (title, panels) in every.items()
        if panels
    ]


def _cells(found: Cells) -> Table:
    rows = []
    for place, (record, kept) in found.items():
        for compression, one in kept.items():
            size = record.cache_bytes.get(compression)
            rows.append(
                (
                    Cell(place.model),
                    Cell(f"{place.distance:,}", place.distance),
                    Cell(place.chat),
                    number_cell(record.costs.get("tokens_per_prompt"), 0),
                    Cell(place.placement),
                    number_cell(place.rules, 0),
                    *map(Cell, (place.mentions, place.control, place.families, place.replies)),
                    Cell(compression),
                    number_cell(record.tokens_left.get(compression), 0),
                    number_cell(None if size is None else size / 1024, 0),
                    _interval(one.retention),
                    number_cell(None if _has_no_floor(place) else one.chance),
                    _interval(one.over_families),
                    number_cell(one.all_rules.mean),
                    number_cell(None if one.gain is None else one.gain.mean, 2),
                    _interval(one.difference),
                    *(
                        number_cell(None if of is None else of.mean)
                        for of in (one.said, one.stored)
                    ),
                    number_cell(one.prompts, 0),
                    number_cell(place.seed, 0),
                )
            )
    floor = "Floor: what the same text gives without the rule, one in the number of options. "
    if len(_chosen(found)) < len(found):
        floor += f"{_UNCHOSEN} Its floor is --control no_rules. "
    if any(at.mentions.endswith(RIVALS_ALONE) for at in found):
        floor += "Where rivals alone were mentioned it is lower, and not known. "
    meaning = (
        "Retention: share of rules followed; where every option is mentioned, this is binding. "
        f"{floor}Over families: the same with families as the unit, for sentences about rules in "
        "general. Tokens: "
        "of a whole conversation before any compression, its rules and mentions too. Tokens left: "
        "what the model sees of it. KiB: of the cache, 16 bits a number where it is not rounded. "
        "All rules: prompts whose every rule is "
        "followed. Gain: how much likelier the right reply is than its rivals, each less what it "
        "is in prompts that do not state it. Minus whole: against the uncompressed cache, paired "
        "by prompt. Said: rules given back when asked for. Stored: options left in the text. "
        "Intervals: 95 %, a bootstrap over prompts with the calibration drawn too."
    )
    for lost in sorted({left_out(record) for record, _ in found.values()}):
        if lost.rules:
            meaning += (
                f" {lost.rules} of {lost.of} rules of a cell are left out: too few other prompts "
                f"ask for {', '.join(lost.families)} without stating the same."
            )
    # A terminal has no room for what is the same in every row, and usual.
    usual = {"chat": "", "rules at": "start", "control": "none", "rules": "4", "seed": "1"}
    # Not known of any: an endpoint's cache, and the tokens left in older records.
    usual |= {"tokens left": MISSING_CELL.text, "KiB": MISSING_CELL.text}
    first, differing = next(iter(found)), _differing(found)
    usual |= {key: str(getattr(first, key)) for key in _APART[:3] if key not in differing}
    kept_at = [
        at
        for at, head in enumerate(_HEADER)
        if any(row[at].text != usual.get(head) for row in rows)
    ]
    models = sorted({at.model for at in found})
    return Table(
        key="language", title=", ".join(["Rules in words", *models]), meaning=meaning,
        header=tuple(_HEADER[at] for at in kept_at),
        rows=tuple(tuple(row[at] for at in kept_at) for row in rows),
    )  # fmt: skip


def csv_text(found: Cells) -> str:
    """Every figure of every cell on a line of its own, unrounded."""
    more = [key for key in _differing(found) if key not in CSV_HEADER]
    return csv_lines((*CSV_HEADER, *more), _csv_lines(found, more))


def _csv_lines(found: Cells, more: Sequence[str]) -> Iterator[list[object]]:
    for at, (record, kept) in found.items():
        for compression, one in kept.items():
            read = record.costs.get("tokens_per_prompt")
            place = [at.model, at.distance, read, at.placement, at.rules, at.mentions, at.control]
            sizes = record.cache_bytes, record.tokens_left
            place += [compression, *(one.get(compression) for one in sizes)]
            last = [at.seed, at.chat, *(getattr(at, key) for key in more)]
            figures = {
                "retention": one.retention, "retention_over_families": one.over_families,
                "all_rules": one.all_rules, "gain_nats": one.gain,
                "minus_whole": one.difference, "said": one.said, "stored": one.stored,
            }  # fmt: skip
            for figure, of in figures.items():
                if of is not None:
                    has_chance = figure in _OF_A_RULE and not _has_no_floor(at)
                    chance = one.chance if has_chance else None
                    yield [*place, "", figure, *of, chance, one.prompts, *last]
            for rank, mean in one.by_rank.items():
                figure = f"retention_of_rule_{rank + 1}"
                yield [*place, "", figure, mean, None, None, None, one.prompts, *last]
            for family, mean in one.by_family.items():
                rules = one.rules_of[family]
                yield [*place, family, "retention", mean, None, None, None, rules, *last]


def _families(found: Cells) -> Table:
    """A line a family and cell, a column a compression."""
    names = list(dict.fromkeys(one for _, kept in found.values() for one in kept))
    rows, apart = [], _apart(found)
    for at, (_, kept) in found.items():
        counts = next(iter(kept.values())).rules_of if kept else {}
        for family, rules in sorted(counts.items()):
            of = [kept[one].by_family.get(family) if one in kept else None for one in names]
            place = Cell(f"{at.distance:,}", at.distance), Cell(_said(at, apart))
            row = (Cell(family), *place, number_cell(rules, 0), *(number_cell(v, 2) for v in of))
            rows.append(row)
    meaning = "Retention under each compression, by family; rules: how many a share is of."
    return Table(
        key="families", title="Rules in words, by family", meaning=meaning,
        header=("family", "distance", "cell", "rules", *names), rows=tuple(rows),
    )  # fmt: skip


def _certificate(every: Mapping[Place, Sequence[Unread]]) -> Table:
    """A line a family, a column a cell without rules."""
    by_family = {at: {one.family: one for one in rows} for at, rows in every.items()}
    names = dict.fromkeys(one.family for rows in every.values() for one in rows)
    apart = _apart(every)
    header = ("family", *(f"{at.distance:,} {_said(at, apart)}" for at in every))
    rows = [
        (Cell(name), *(_at_chance(of.get(name)) for of in by_family.values())) for name in names
    ]
    meaning = "What the model gets right without rules, by family."
    if _chosen(every):
        meaning += ' Each interval must hold chance; "off" marks one that does not.'
    if len(_chosen(every)) < len(every):
        meaning += f' {_UNCHOSEN} This is its floor: "off" marks only an interval above chance.'
    meaning += " Intervals: exact, for all families of a cell at once."
    return Table(
        key="certificate", title="Rules in words, without rules", meaning=meaning, header=header,
        rows=tuple(rows),
    )  # fmt: skip


def _chosen(places: Iterable[Place]) -> list[Place]:
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


def _differing(places: Iterable[Place], keys: Sequence[str] = _APART) -> list[str]:
    """Which of these differ among cells."""
    every = [*places]
    return [key for key in keys if len({getattr(at, key) for at in every}) > 1]


def _apart(places: Iterable[Place], keys: Sequence[str] = _APART) -> dict[Place, str]:
    """What tells each cell from others beside where its rules stand, in words."""
    every = [*places]
    differing = _differing(every, keys)
    return {
        at: ", ".join(
            at.model if key == "model" else f"{key} {getattr(at, key)}" for key in differing
        )
        for at in every
    }


def _said(place: Place, apart: Mapping[Place, str]) -> str:
    """What is unusual in a cell, in words, and what tells it from others."""
    placement = "" if place.placement == "start" else f"rules in the {place.placement}"
    control = "" if place.control == "none" else place.control.replace("_", " ")
    mentions = _MENTIONS.get(place.mentions, place.mentions)
    return ", ".join(filter(None, (mentions, place.chat, placement, control, apart[place])))


def _over_distance(found: Cells) -> Iterator[Panel]:
    """A panel for all that differs but distance and mentions, a line a kind of mention."""
    look = styles([*_MENTIONS.values()])
    keys = ("model", "placement", "rules", "chat", "families", "replies", "seed")
    # Without any chat a cell is of every kind of chat.
    far = [at for at in found if at.distance] or [*found]
    apart = _apart(found, _APART[1:])
    for of, one in sorted({tuple(getattr(at, key) for key in keys): at for at in far}.items()):
        lines = []
        for mentions, label in _MENTIONS.items():
            # Of cells that differ in their prompts, the one with most.
            points = {
                at.distance: _point(
                    record.costs.get("tokens_per_prompt", at.distance), kept[_WHOLE].retention
                )
                for at, (record, kept) in sorted(found.items(), key=_prompts)
                if _WHOLE in kept
                and (at.control, at.mentions) == ("none", mentions)
                and of == tuple(
                    getattr(one if key == "chat" and not at.distance else at, key) for key in keys
                )
            }  # fmt: skip
            if len(points) > 1:
                by_tokens = sorted(points.values())
                lines.append(Series(label=label, style=look[label], points=by_tokens))
        if lines:
            where = f"{one.rules} rules at the {one.placement}"
            title = ", ".join(filter(None, [one.model, where, one.chat, apart[one]]))
            yield Panel(
                title=title, x_label="tokens read", y_label="rules followed", series=lines,
                score=True, chance=_chance(lines, one, found),
            )  # fmt: skip


def _prompts(cell: tuple[Place, tuple[Record, Mapping[str, Followed]]]) -> int:
    return max((one.prompts for one in cell[1][1].values()), default=0)


def _over_bytes(found: Cells) -> Iterator[Panel]:
    """A panel a cell with several compressions: retention over the bytes of its cache."""
    labels = {
        compression.partition("@")[0]
        for _, kept in found.values()
        for compression in kept
    }  # fmt: skip
    look, apart = styles(sorted(labels), [_WHOLE]), _apart(found)
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
                title=f"{at.distance:,} tokens of chat, {_said(at, apart)}",
                x_label="KiB of cache, log scale", y_label="rules followed", series=lines,
                x_log=True, score=True, chance=_chance(lines, at, found),
            )  # fmt: skip


def _point(x: float, one: Estimate) -> Point:
    return Point(x, one.mean, one.low, one.high)


def _chance(lines: Sequence[Series], at: Place, found: Cells) -> list[tuple[float, float]]:
    every = [point.x for line in lines for point in line.points]
    levels = [one.chance for one in found[at][1].values() if _chosen([at])]
    return [(end, level) for level in levels[:1] for end in (min(every), max(every))]


def _interval(one: Estimate | None) -> Cell:
    return MISSING_CELL if one is None else Cell(one.text(), one.mean)
