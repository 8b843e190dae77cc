"""How fast mixers are beside attention: tables and a figure out of a record of `rulekeep speed`."""

from collections.abc import Mapping

from rulekeep.analysis.charts import Chart, Panel, Point, Series, Style, styles
from rulekeep.printable import counted, one_line
from rulekeep.records.record import name
from rulekeep.reporting.tables import MISSING, Cell, Table, number_cell
from rulekeep.speed import figures
from rulekeep.speed.figures import Spread, StepTime
from rulekeep.speed.record import BASELINE, Part, SpeedRecord

_PARTS: Mapping[Part, str] = {"model": "whole model", "mixer": "mixer alone"}


def tables(record: SpeedRecord) -> list[Table]:
    """Steps at each number of threads, what grows with the context, decoding, what failed."""
    found = [_steps(record, threads) for threads in record.spec.threads]
    found += [_over_context(record), _decoding(record), _failures(record)]
    return [table for table in found if table.rows]


def chart(record: SpeedRecord) -> Chart:
    """Shares of attention's time over the context."""
    labels = [name(mixer.label, "(no name)") for mixer in record.spec.mixers]
    look = styles(labels, [name(BASELINE, "")])
    panels = [
        panel
        for threads in record.spec.threads
        for part in _PARTS
        if (panel := _panel(record, part, threads, look))
    ]
    return Chart(
        key="speed",
        title="Share of attention’s time",
        caption="Forward and backward, as a share of attention’s time in the same repeat. Median "
        "and quartiles. A step has as many tokens at every context. Attention is black.",
        panels=panels,
    )


def sentences(record: SpeedRecord) -> list[str]:
    """How quiet the machine was."""
    load = figures.load(record)
    return [one_line(load, 2000)] if load else []


def _steps(record: SpeedRecord, threads: int) -> Table:
    alone = {(s.context, s.mixer): s for s in figures.step_times(record, "mixer", threads)}
    whole = {(s.context, s.mixer): s for s in figures.step_times(record, "model", threads)}
    with_calls = threads == 1
    rows = []
    for context, mixer in dict.fromkeys((*whole, *alone)):
        model, layer = whole.get((context, mixer)), alone.get((context, mixer))
        rows.append(
            (
                Cell(f"{context:,}", context),
                _mixer(mixer),
                *_time(model),
                *_time(layer),
                *(_made_of(model) if with_calls else ()),
            )
        )
    shown = counted(threads, "thread")
    spec = record.spec
    meaning = (
        f"Seconds a step of about {spec.tokens:,} tokens, forward and backward without optimiser, "
        f"float32, {shown}, width {spec.width}: the whole model of {spec.layers} layers "
        "(embeddings, feed-forward layers, head at every position), then one layer’s mixer alone. "
        f"Median of {spec.repeats} repeats (quartiles); the share of attention’s time is paired "
        "within a repeat."
    )
    if with_calls:
        meaning += (
            " Operator calls: what torch dispatches in a step of the whole model below autograd, "
            "without views: a proxy of what a GPU would launch. Product rate: floating-point "
            "operations a second in matrix products, over those of one large product."
        )
    return Table(
        key=f"speed-{threads}",
        title=f"Speed beside attention, {shown}",
        meaning=meaning,
        header=(
            "context", "mixer", "model (s)", "share", "mixer alone (s)", "share",
            *(("operator calls", "product rate") if with_calls else ()),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _over_context(record: SpeedRecord) -> Table:
    slopes = {row.mixer: row for row in figures.slopes(record)}
    memories = {row.mixer: row for row in figures.memories(record)}
    contexts = record.spec.contexts
    rows = []
    for mixer in (one.label for one in record.spec.mixers):
        slope, memory = slopes.get(mixer), memories.get(mixer)
        if slope is None and memory is None:
            continue
        sizes = memory.bytes_at if memory else {}
        per_token = memory.bytes_per_token if memory else None
        growth = memory.growth if memory else None
        mebibytes = {at: sizes[at] / 2**20 if at in sizes else None for at in contexts}
        rows.append(
            {
                "mixer": _mixer(mixer),
                "time a token": _spread(slope and slope.ratio, 2),
                **{f"MiB at {at:,}": number_cell(size, 1) for at, size in mebibytes.items()},
                "KiB a token": number_cell(per_token and per_token / 2**10, 2),
                "growth": number_cell(growth, 2),
            }
        )
    start = next((row.start for row in slopes.values()), contexts[0])
    return Table.of(
        key="speed-context",
        title="What a longer context costs",
        meaning=f"Time a token at {contexts[-1]:,} tokens over that at {start:,} (whole model, one "
        "thread; median and quartiles over all pairs of repeats). Peak memory: what a step of one "
        "sequence, forward and backward, adds to a fresh process, with the allocator as runs have "
        "it. Growth: by how much more memory grows than the context over the last two, where it "
        "takes 8 MiB or more (1 is linear).",
        rows=rows,
    )


def _decoding(record: SpeedRecord) -> Table:
    found = figures.decode_times(record)
    contexts = sorted({at for row in found for at in row.ms})
    return Table.of(
        key="speed-decoding",
        title="Decoding",
        meaning="One token after another, one sequence, one thread, after so many random tokens: "
        "milliseconds a token (median and quartiles over rounds of all contexts in turn), the time "
        "after the longest over that after the shortest, paired within a round, and the bytes of "
        "the state.",
        rows=[
            {
                "mixer": _mixer(row.mixer),
                "state": Cell(row.grows or MISSING),
                **{f"bytes at {at:,}": number_cell(row.state_bytes.get(at), 0) for at in contexts},
                **{f"ms at {at:,}": _spread(row.ms.get(at), 3) for at in contexts},
                "last / first": _spread(row.ratio, 2),
            }
            for row in found
        ],
    )


def _failures(record: SpeedRecord) -> Table:
    return Table.of(
        key="speed-failures",
        title="What could not be measured",
        meaning="Each ended alone.",
        rows=[
            {"what": Cell(one_line(what)), "why": Cell(one_line(why, 600))}
            for what, why in figures.failures(record).items()
        ],
    )


def _panel(
    record: SpeedRecord, part: Part, threads: int, look: Mapping[str, Style]
) -> Panel | None:
    lines: dict[str, list[Point]] = {}
    for step in figures.step_times(record, part, threads):
        if step.share is not None:
            label = name(step.mixer, "(no name)")
            point = Point(step.context, step.share.median, *step.share[1:3])
            lines.setdefault(label, []).append(point)
    if not lines:
        return None
    series = [
        Series(label=label, style=look[label], points=points) for label, points in lines.items()
    ]
    return Panel(
        title=f"{_PARTS[part]}, {counted(threads, 'thread')}",
        x_label="context (tokens, log scale)",
        y_label="share of attention’s time (log)",
        series=series,
        x_log=True,
        y_log=True,
        x_ticks=record.spec.contexts,
    )


def _mixer(label: str) -> Cell:
    return Cell(name(label, "(no name)"))


def _time(step: StepTime | None) -> tuple[Cell, Cell]:
    if step is None:
        return Cell(MISSING), Cell(MISSING)
    return _spread(step.seconds, 3), _spread(step.share, 3)


def _made_of(step: StepTime | None) -> tuple[Cell, Cell]:
    return number_cell(step and step.launches, 0), number_cell(step and step.product_share, 2)


def _spread(value: Spread | None, digits: int) -> Cell:
    return Cell(MISSING) if value is None else Cell(value.text(digits), value.median)
