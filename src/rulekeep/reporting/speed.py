"""How fast mixers are beside attention: tables and a figure out of a record of `rulekeep speed`."""

from rulekeep.analysis.charts import Chart, Panel, Point, Series, styles
from rulekeep.analysis.summary import Interval
from rulekeep.printable import counted, one_line
from rulekeep.records.record import name
from rulekeep.reporting.tables import Cell, Table, Value, number_cell
from rulekeep.speed import figures
from rulekeep.speed.record import BASELINE, NAMES, Part, SpeedRecord

_STEPS: tuple[Part, ...] = ("model", "mixer")


def tables(record: SpeedRecord) -> list[Table]:
    """Steps at each number of threads, what grows with the context, decoding, what failed."""
    found = [_steps(record, threads) for threads in record.spec.threads]
    found += [_over_context(record), _decoding(record), _failures(record)]
    return [table for table in found if table.rows]


def chart(record: SpeedRecord) -> Chart:
    """Shares of attention's time over the context."""
    look = styles([_mixer(label) for label in record.spec.labels], [BASELINE])
    panels = []
    for threads in record.spec.threads:
        for part in _STEPS:
            lines: dict[str, list[Point]] = {}
            for (context, mixer), step in figures.steps(record, part, threads).items():
                if step.share is not None:
                    point = Point(context, step.share.mean, step.share.low, step.share.high)
                    lines.setdefault(_mixer(mixer), []).append(point)
            panel = Panel(
                title=f"{NAMES[part]}, {counted(threads, 'thread')}",
                x_label="context (tokens, log scale)",
                y_label="share of attention’s time (log)",
                series=[
                    Series(label=label, style=look[label], points=points)
                    for label, points in lines.items()
                ],
                x_log=True,
                y_log=True,
                x_ticks=record.spec.contexts,
            )
            panels += [panel] if lines else []
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
    whole, alone = (figures.steps(record, part, threads) for part in _STEPS)
    shown, spec, is_counted = counted(threads, "thread"), record.spec, threads == 1
    rows: list[dict[str, Value]] = []
    for context, mixer in {**whole, **alone}:
        model, layer = whole.get((context, mixer)), alone.get((context, mixer))
        row: dict[str, Value] = {
            "context": Cell(f"{context:,}", context),
            "mixer": _mixer(mixer),
            "model (s)": _spread(model and model.seconds),
            "share": _spread(model and model.share),
            "mixer alone (s)": _spread(layer and layer.seconds),
            "share ": _spread(layer and layer.share),
        }
        if is_counted:
            row["operator calls"] = number_cell(model and model.launches, 0)
            row["product rate"] = number_cell(model and model.product_share, 2)
        rows.append(row)
    meaning = (
        f"Seconds a step of about {spec.tokens:,} tokens, forward and backward without optimiser, "
        f"float32, {shown}, width {spec.width}: the whole model of {spec.layers} layers "
        "(embeddings, feed-forward layers, head at every position), then one layer’s mixer alone. "
        f"Median of {spec.repeats} repeats (quartiles); the share of attention’s time is paired "
        "within a repeat."
    )
    if is_counted:
        meaning += (
            " Operator calls: what torch dispatches in a step of the whole model below autograd, "
            "without views: a proxy of what a GPU would launch. Product rate: floating-point "
            "operations a second in matrix products, over those of one large product."
        )
    return Table.of(f"speed-{threads}", f"Speed beside attention, {shown}", meaning, rows)


def _over_context(record: SpeedRecord) -> Table:
    slopes, memories = figures.slopes(record), figures.memories(record)
    contexts = record.spec.contexts
    rows: list[dict[str, Value]] = []
    for mixer in record.spec.labels:
        if mixer in slopes or mixer in memories:
            bytes_at = memories.get(mixer, {})
            growth, per_token = figures.growth(bytes_at) or (None, None)
            mebibytes = {at: bytes_at[at] / 2**20 if at in bytes_at else None for at in contexts}
            rows.append(
                {
                    "mixer": _mixer(mixer),
                    "time a token": _spread(slopes.get(mixer), 2),
                    **{f"MiB at {at:,}": number_cell(size, 1) for at, size in mebibytes.items()},
                    "KiB a token": number_cell(per_token and per_token / 2**10, 2),
                    "growth": number_cell(growth, 2),
                }
            )
    start, end = figures.compared(record.spec) if slopes else (contexts[0], contexts[-1])
    return Table.of(
        key="speed-context",
        title="What a longer context costs",
        meaning=f"Time a token at {end:,} tokens over that at {start:,} (whole model, one "
        "thread; median and quartiles over all pairs of repeats). Peak memory: what a step of one "
        "sequence, forward and backward, adds to a fresh process, with the allocator as runs have "
        "it. Growth: by how much more memory grows than the context over the last two, where it "
        "takes 8 MiB or more (1 is linear).",
        rows=rows,
    )


def _decoding(record: SpeedRecord) -> Table:
    every = figures.decodings(record)
    contexts = sorted({one.context for decoded in every.values() for one in decoded})
    rows: list[dict[str, Value]] = []
    for mixer, decoded in every.items():
        by_context = {one.context: one for one in decoded}
        sizes = {at: one.state_bytes for at, one in by_context.items()}
        ms = {at: figures.spread(one.ms_per_token) for at, one in by_context.items()}
        rows.append(
            {
                "mixer": _mixer(mixer),
                "state": figures.grows(decoded),
                **{f"bytes at {at:,}": number_cell(sizes.get(at), 0) for at in contexts},
                **{f"ms at {at:,}": _spread(ms.get(at)) for at in contexts},
                "last / first": _spread(figures.late_over_early(decoded), 2),
            }
        )
    return Table.of(
        key="speed-decoding",
        title="Decoding",
        meaning="One token after another, one sequence, one thread, after so many random tokens: "
        "milliseconds a token (median and quartiles over rounds of all contexts in turn), the time "
        "after the longest over that after the shortest, paired within a round, and the bytes of "
        "the state.",
        rows=rows,
    )


def _failures(record: SpeedRecord) -> Table:
    return Table.of(
        key="speed-failures",
        title="What could not be measured",
        meaning="Each ended alone.",
        rows=[{"what": what, "why": why} for what, why in figures.failures(record).items()],
    )


def _mixer(label: str) -> str:
    return name(label, "(no name)")


def _spread(value: Interval | None, digits: int = 3) -> Cell | None:
    return None if value is None else Cell(value.text(f",.{digits}f", to="–"), value.mean)
