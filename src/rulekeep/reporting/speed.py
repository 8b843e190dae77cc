"""How fast mixers are beside attention: tables out of a record of `rulekeep speed`."""

import math
from collections.abc import Iterator, Sequence

from rulekeep.analysis.summary import Interval
from rulekeep.printable import counted, name
from rulekeep.reporting.tables import Cell, Table, Value, interval_cell, number_cell, words
from rulekeep.speed import figures
from rulekeep.speed.record import SpeedRecord


def tables(record: SpeedRecord) -> list[Table]:
    """Steps at each number of threads, what grows with the context, decoding, what failed."""
    found = [_steps(record, threads) for threads in record.spec.threads]
    found += [_over_context(record), _decoding(record)]
    failed = ({"what": label, "why": why} for label, why in record.failures.items())
    found.append(Table.of("speed-failures", failed))
    return [table for table in found if table.rows]


def _steps(record: SpeedRecord, threads: int) -> Table:
    model, alone = (record.values("seconds", part, threads) for part in ("model", "mixer"))
    whole, layer = (figures.shares(record, part, threads) for part in ("model", "mixer"))
    calls, products = record.values("launches", "model"), figures.product_shares(record)
    rows: list[dict[str, Value]] = [
        {
            "context": number_cell(at[0], 0),
            "mixer": name(at[1]),
            "model (s)": _spread(model.get(at)),
            "share": _ratio(whole.get(at)),
            "mixer alone (s)": _spread(alone.get(at)),
            "share ": _ratio(layer.get(at)),
            **(
                {
                    "operator calls": _first(calls.get(at)),
                    "product rate": number_cell(products.get(at), 2),
                }
                if threads == 1
                else {}
            ),
        }
        for at in {**model, **alone}
    ]
    said = words("speed_steps", spec=record.spec, threads=counted(threads, "thread"))
    return Table.of(f"speed-{threads}", rows, said)


def _over_context(record: SpeedRecord) -> Table:
    slopes, memories = figures.slopes(record), figures.memories(record)
    rows = list[dict[str, Value]]()
    for mixer in record.spec.mixers:
        bytes_at = memories.get(mixer, {})
        growth, per_token = figures.growth(bytes_at) or (None, None)
        sizes = {at: bytes_at.get(at, math.nan) / 2**20 for at in record.spec.contexts}
        rows.append(
            {
                "mixer": name(mixer),
                "time a token": _ratio(slopes.get(mixer), ",.2f"),
                **{f"MiB at {at:,}": number_cell(size, 1) for at, size in sizes.items()},
                "KiB a token": number_cell(per_token and per_token / 2**10, 2),
                "growth": number_cell(growth, 2),
            }
        )
    start, end = figures.compared(record.spec)
    return Table.of("speed-context", rows, words("speed_context", start=start, end=end))


def _decoding(record: SpeedRecord) -> Table:
    sizes, growing = record.values("state_bytes", "decode"), figures.growing(record)
    contexts = sorted({at for at, _ in sizes})
    rows: Iterator[dict[str, Value]] = (
        {
            "mixer": name(mixer),
            "state": growing.get(mixer),
            **{f"bytes at {at:,}": _first(sizes.get((at, mixer))) for at in contexts},
            **{f"ms at {at:,}": _spread(ms[at]) for at in contexts},
            "last / first": _ratio(figures.late_over_early(ms), ",.2f"),
        }
        for mixer, ms in figures.decode_ms(record).items()
    )
    return Table.of("speed-decoding", rows)


def _first(values: Sequence[float] | None) -> Cell:
    return number_cell(values[0] if values else None, 0)


def _spread(values: Sequence[float] | None) -> Cell:
    return _ratio(None if values is None else figures.spread(values))


def _ratio(of: Interval | None, form: str = ",.3f") -> Cell:
    return interval_cell(of, form, to="–")
