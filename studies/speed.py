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
from rulekeep.speed.figures import StepTime, decode_times, memories, slopes, step_times
from rulekeep.speed.record import SpeedRecord, read_speed
from rulekeep.study import Claim, Study

RESULTS = Path(__file__).parent.parent / "results"
OURS = "sparse_delta"
CONVOLVED = "sparse_delta[penalty_start=0,short_convolution=true]"
CONTEXTS = (256, 1028, 4096, 16384)
# At most this share of attention's time for a step of the whole model, at those contexts.
AIMS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("slots", "linear_attention", "retnet", "ssd"): (0.9, 0.5, 0.17, 0.05),
    ("gated_linear", "gated_slots", "delta", "gated_delta", "kda", CONVOLVED):
        (1.5, 0.8, 0.25, 0.07),
    ("routed_slots",): (2.0, 1.0, 0.35, 0.1),
}  # fmt: skip
# A token of a long text over one of a short one, and memory's growth over the text's, at most.
TOKEN_AIM, MEMORY_AIM = 1.2, 1.1


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


def aim(row: StepTime) -> float | None:
    """The largest share of attention's time that a step should take, if it has an aim."""
    found = (shares for mixers, shares in AIMS.items() if row.mixer in mixers)
    return next((shares[CONTEXTS.index(row.context)] for shares in found), None)


def median(row: StepTime) -> float:
    """The share of attention's time."""
    assert row.share is not None, row
    return row.share.median


def met(row: StepTime) -> bool | None:
    """Whether a step meets its aim, if it has one."""
    most = aim(row)
    return None if most is None else median(row) <= most


def slow(of: SpeedRecord) -> set[str]:
    """The mixers that take longer for a token of a long text, though their state stops growing."""
    fixed = {row.mixer for row in decode_times(of) if row.grows != "growing"}
    return {row.mixer for row in slopes(of) if row.ratio.median > TOKEN_AIM} & fixed


def mark(missed: bool) -> str:
    """A missed aim."""
    return " ✗" if missed else ""


def share(row: StepTime) -> str:
    """The share of attention's time, with its aim."""
    most = "" if aim(row) is None else f" of {aim(row):g}{mark(met(row) is False)}"
    return f"{median(row):.3f}{most}"


def table(_: Rows) -> str:
    """A line a mixer: shares of attention's step, and what a long text and decoding take."""
    head = ["share of attention's step", *(f"{context:,} tokens" for context in CONTEXTS)]
    head += ["a token, long", "peak, MiB", "decode, ms", "late / early"]
    body = []
    for mixer, of in measured():
        (slope,) = (row for row in slopes(of) if row.mixer == mixer)
        (peak,) = (row for row in memories(of) if row.mixer == mixer)
        (decoding,) = (row for row in decode_times(of) if row.mixer == mixer)
        cells = [share(row) for _, row in sorted(steps(of, mixer).items())]
        cells.append(f"{slope.ratio.median:.2f}{mark(mixer in slow(of))}")
        cells.append(f"{peak.bytes_at[max(peak.bytes_at)] / 2**20:.0f}")
        cells.append(f"{decoding.ms[max(decoding.ms)].median:.2f}")
        body.append([mixer, *cells, f"{decoding.ratio.median:.2f}"])
    return markdown_table(head, body)


def spread(_: Rows) -> str:
    """The same shares with their quartiles."""
    head = ["median (quartiles)", *(f"{context:,} tokens" for context in CONTEXTS)]
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
    return [row for row in step_times(every(), "model", 1) if aim(row) is not None]


def missed_by() -> Iterable[float]:
    """Per cent over the aim, of each that is missed."""
    for row in judged():
        if (most := aim(row)) and not met(row):
            yield 100 * (median(row) / most - 1)


def only_gates(_: Rows) -> bool:
    """Whether `lstm` and `gru` alone take longer for a token of a long text, and memory is met."""
    growths = [row.growth for row in memories(every())]
    return slow(every()) == {"lstm", "gru"} and all(g and g <= MEMORY_AIM for g in growths)


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
    found = (met(row) for one in others() for row in steps(elsewhere(), one).values())
    return True not in found


STUDY = Study(
    question="How fast is each mixer beside attention?",
    variants={},
    settings=[],
    context=1,
    tables={"shares": table, "spread": spread, "products": products},
    claims={
        "aims": Claim(lambda _: len(judged()), 0),
        "met": Claim(lambda _: sum(met(row) is True for row in judged()), 0, holds=only_gates),
        "missed": Claim(lambda _: Span.of(missed_by()), 0),
        "decode_later": Claim(lambda _: decode_ms(later()), 2),
        "decoding_early": Claim(decoding_early, 1),
        "reached": Claim(lambda _: reached(others()), 2, holds=every_aim_missed),
        "reached_attention": Claim(lambda _: reached([BASELINE]).low, 2),
    },
)
