"""How fast mixers are beside attention: tables and a figure out of a record of `rulekeep speed`."""

from rulekeep.analysis.charts import Chart, Panel, Point, Series, styles
from rulekeep.analysis.summary import Interval
from rulekeep.printable import counted, name, one_line
from rulekeep.reporting.tables import Cell, Table, Value, number_cell, words
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
            for step in figures.step_times(record, part, threads):
                if step.share is not None:
                    point = Point.of(step.context, step.share)
                    lines.setdefault(_mixer(step.mixer), []).append(point)
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
    return Chart("speed", *words("speed"), panels)


def sentences(record: SpeedRecord) -> list[str]:
    """How quiet the machine was."""
    load = figures.load(record)
    return [one_line(load, 2000)] if load else []


def _steps(record: SpeedRecord, threads: int) -> Table:
    whole, alone = (
        {(one.context, one.mixer): one for one in figures.step_times(record, part, threads)}
        for part in _STEPS
    )
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
    return Table.of(f"speed-{threads}", *words("speed_steps", spec=spec, threads=shown), rows)


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
    return Table.of("speed-context", *words("speed_context", start=start, end=end), rows)


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
    return Table.of("speed-decoding", *words("speed_decoding"), rows)


def _failures(record: SpeedRecord) -> Table:
    rows: list[dict[str, Value]] = [
        {"what": what, "why": why} for what, why in figures.failures(record).items()
    ]
    return Table.of("speed-failures", *words("speed_failures"), rows)


def _mixer(label: str) -> str:
    return name(label, "(no name)")


def _spread(value: Interval | None, digits: int = 3) -> Cell | None:
    return None if value is None else Cell(value.text(f",.{digits}f", to="–"), value.mean)
