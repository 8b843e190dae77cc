"""Charts of rules in words: retention over distance, and over the bytes of the cache. No torch."""

from collections.abc import Iterator, Mapping, Sequence

from rulekeep.analysis.charts import Chart, Panel, Point, Series, styles
from rulekeep.language.cells import Place
from rulekeep.language.figures import Followed
from rulekeep.records import Record
from rulekeep.reporting.language import (
    APART,
    MENTIONS,
    UNCHOSEN,
    WHOLE,
    Cells,
    chosen,
    place_text,
    told_apart,
)
from rulekeep.reporting.tables import words


def charts(found: Cells) -> list[Chart]:
    """Retention over distance, and over the bytes of the cache."""
    dotted = "The dotted line is chance." if chosen(found) else UNCHOSEN
    far, size = (words(name, dotted=dotted) for name in ("language_distance", "language_bytes"))
    made = [
        Chart("language", *far, [*_over_distance(found)]),
        Chart("language-bytes", *size, [*_over_bytes(found)]),
    ]
    return [one for one in made if one.panels]


def _over_distance(found: Cells) -> Iterator[Panel]:
    """A panel for all that differs but distance and mentions, a line a kind of mention."""
    look = styles([*MENTIONS.values()])
    keys = ("model", "placement", "rules", "chat", "families", "replies", "seed")
    # Without any chat a cell is of every kind of chat.
    far = [at for at in found if at.distance] or [*found]
    apart = told_apart(found, APART[1:])
    for of, one in sorted({tuple(getattr(at, key) for key in keys): at for at in far}.items()):
        lines = []
        for mentions, label in MENTIONS.items():
            # Of cells that differ in their prompts, the one with most.
            points = {
                at.distance: Point.of(
                    record.costs.get("tokens_per_prompt", at.distance), kept[WHOLE].retention
                )
                for at, (record, kept) in sorted(found.items(), key=_prompts)
                if WHOLE in kept
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
    look, apart = styles(sorted(labels), [WHOLE]), told_apart(found)
    for at, (record, kept) in found.items():
        lines = []
        for label in look:
            points = sorted(
                Point.of(record.cache_bytes[compression] / 1024, one.retention)
                for compression, one in kept.items()
                if compression.partition("@")[0] == label and record.cache_bytes.get(compression)
            )
            if points:
                lines.append(Series(label=label, style=look[label], points=points))
        if len(lines) > 1:
            yield Panel(
                title=f"{at.distance:,} tokens of chat, {place_text(at, apart)}",
                x_label="KiB of cache, log scale", y_label="rules followed", series=lines,
                x_log=True, score=True, chance=_chance(lines, at, found),
            )  # fmt: skip


def _chance(lines: Sequence[Series], at: Place, found: Cells) -> list[tuple[float, float]]:
    every = [point.x for line in lines for point in line.points]
    levels = [one.chance for one in found[at][1].values() if chosen([at])]
    return [(end, level) for level in levels[:1] for end in (min(every), max(every))]
