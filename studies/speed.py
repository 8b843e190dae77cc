"""How fast each mixer is beside attention: training steps, long texts, decoding, memory.

    rulekeep speed --out results/speed       # measures: not what `run` does
    rulekeep study speed build|check

Shares of attention's time for a training step of the whole model, on one thread, with the aims set
for them. Our memory without convolution was measured later, beside attention again. A record of
another machine has the share of its matrix-product rate that a step reaches. Fills docs/speed.md.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from rulekeep.analysis.rows import Rows, Span
from rulekeep.printable import markdown_table
from rulekeep.specs.speed import BASELINE
from rulekeep.speed.figures import (
    AIM_CONTEXTS,
    StepTime,
    decode_times,
    memories,
    slopes,
    step_times,
)
from rulekeep.speed.record import SpeedRecord, read_speed
from rulekeep.study import Claim, Study

RESULTS = Path(__file__).parent.parent / "results"
OURS = "sparse_delta"
CONVOLVED = "sparse_delta[penalty_start=0,short_convolution=true]"


@cache
def record(folder: str) -> SpeedRecord:
    """A record of `rulekeep speed`."""
    return read_speed(RESULTS / folder / "speed.json")


def every() -> SpeedRecord:
    """The record of the whole catalogue."""
    return record("speed")


def later() -> SpeedRecord:
    """That of our memory without convolution, with its penalty due."""
    return record("speed-sparse-delta")


def elsewhere() -> SpeedRecord:
    """That of mixers that miss an aim and of our memory, on a machine with faster products."""
    return record("speed-products")


def measured() -> list[tuple[str, SpeedRecord]]:
    """Each mixer with the record that counts."""
    found = [row.mixer for row in decode_times(every()) if not row.mixer.startswith(OURS)]
    ours = [row.mixer for row in decode_times(later()) if row.mixer.startswith(OURS)]
    return [*((mixer, every()) for mixer in found), *((mixer, later()) for mixer in ours)]


def steps(of: SpeedRecord, mixer: str) -> dict[int, StepTime]:
    """Training steps of the whole model on one thread, by context."""
    return {row.context: row for row in step_times(of, "model", 1) if row.mixer == mixer}


def mark(met: bool | None) -> str:
    """A missed aim."""
    return " ✗" if met is False else ""


def share(row: StepTime) -> str:
    """The share of attention's time, with its aim."""
    assert row.share is not None, row
    aim = "" if row.aim is None else f" of {row.aim:g}{mark(row.met)}"
    return f"{row.share.median:.3f}{aim}"


def table(_: Rows) -> str:
    """A line a mixer: shares of attention's step, and what a long text and decoding take."""
    head = ["share of attention's step", *(f"{context:,} tokens" for context in AIM_CONTEXTS)]
    head += ["a token, long", "peak, MiB", "decode, ms", "late / early"]
    body = []
    for mixer, of in measured():
        (slope,) = (row for row in slopes(of) if row.mixer == mixer)
        (peak,) = (row for row in memories(of) if row.mixer == mixer)
        (decoding,) = (row for row in decode_times(of) if row.mixer == mixer)
        cells = [share(row) for _, row in sorted(steps(of, mixer).items())]
        cells.append(f"{slope.ratio.median:.2f}{mark(slope.met)}")
        cells.append(f"{peak.bytes_at[max(peak.bytes_at)] / 2**20:.0f}")
        cells.append(f"{decoding.ms[max(decoding.ms)].median:.2f}")
        body.append([mixer, *cells, f"{decoding.ratio.median:.2f}"])
    return markdown_table(head, body)


def spread(_: Rows) -> str:
    """The same shares with their quartiles."""
    head = ["median (quartiles)", *(f"{context:,} tokens" for context in AIM_CONTEXTS)]
    body = [
        [mixer, *(row.share.text(3) for _, row in sorted(steps(of, mixer).items()) if row.share)]
        for mixer, of in measured()
        if mixer != BASELINE
    ]
    return markdown_table(head, body)


def products(_: Rows) -> str:
    """Shares of attention's time, and the rate of matrix products over that of one large one."""
    of = elsewhere()
    contexts = of.spec.contexts
    body = []
    for label in (one.label for one in of.spec.mixers):
        found = steps(of, label)
        rates = [found[at].product_share for at in contexts]
        body.append([label, *(share(found[at]) for at in contexts), *map(rate, rates)])
    head = ["share of attention's step"]
    head += [f"{what}{at:,} tokens" for what in ("", "product rate, ") for at in contexts]
    return markdown_table(head, body)


def rate(of: float | None) -> str:
    """A share of the machine's product rate."""
    return "" if of is None else f"{of:.2f}"


def judged() -> list[StepTime]:
    """Steps of the catalogue that an aim is set for."""
    return [row for row in step_times(every(), "model", 1) if row.aim is not None]


def missed_by() -> Iterable[float]:
    """Per cent over the aim, of each that is missed."""
    for row in judged():
        if row.met is False and row.share is not None and row.aim is not None:
            yield 100 * (row.share.median / row.aim - 1)


def only_gates(_: Rows) -> bool:
    """Whether `lstm` and `gru` alone take longer for a token of a long text, and memory is met."""
    slow = {row.mixer for row in slopes(every()) if row.met is False}
    return slow == {"lstm", "gru"} and all(row.met for row in memories(every()))


def decode_ms(of: SpeedRecord) -> float:
    """Milliseconds that a token of attention takes after the longest text."""
    (row,) = (one for one in decode_times(of) if one.mixer == BASELINE)
    return row.ms[max(row.ms)].median


def decoding_early(_: Rows) -> float:
    """What a token after 64 tokens takes of our memory, over what it takes of attention."""
    ms = {one.mixer: one.ms[min(one.ms)].median for one in decode_times(elsewhere())}
    return ms[CONVOLVED] / ms[BASELINE]


def reached(mixers: Iterable[str]) -> Span:
    """The share of the machine's product rate that these reach in the longest text."""
    longest = max(elsewhere().spec.contexts)
    shares = (steps(elsewhere(), one)[longest].product_share for one in mixers)
    return Span.of(one for one in shares if one is not None)


def others() -> list[str]:
    """The mixers beside attention there."""
    return [one.label for one in elsewhere().spec.mixers if one.label != BASELINE]


def every_aim_missed(_: Rows) -> bool:
    """Whether none of them meets an aim there."""
    found = (row.met for one in others() for row in steps(elsewhere(), one).values())
    return True not in found


STUDY = Study(
    question="How fast is each mixer beside attention?",
    variants={},
    settings=[],
    context=1,
    tables={"shares": table, "spread": spread, "products": products},
    claims={
        "aims": Claim(lambda _: len(judged()), 0),
        "met": Claim(lambda _: sum(row.met is True for row in judged()), 0, holds=only_gates),
        "missed": Claim(lambda _: Span.of(missed_by()), 0),
        "decode_later": Claim(lambda _: decode_ms(later()), 2),
        "decoding_early": Claim(decoding_early, 1),
        "reached": Claim(lambda _: reached(others()), 2, holds=every_aim_missed),
        "reached_attention": Claim(lambda _: reached([BASELINE]).low, 2),
    },
)
