"""How fast each mixer is beside attention: training steps, long texts, decoding, memory.

    rulekeep speed --out results/speed       # measures: not what `run` does
    rulekeep study speed build|check

Shares of attention's time for a training step of the whole model, on one thread, with the aims set
for them. Beside them what a long text takes, and the share of the machine's matrix-product rate
that a step reaches. Fills docs/speed.md.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from rulekeep.analysis.rows import Rows, Span
from rulekeep.printable import markdown_table
from rulekeep.speed.figures import StepTime, decode_times, memories, slopes, step_times
from rulekeep.speed.record import BASELINE, SpeedRecord, read_speed
from rulekeep.study import Claim, Study

RESULTS = Path(__file__).parent.parent / "results"
# With the penalty due from the first step, as in most of a training.
OURS = "sparse_delta[penalty_start=0,short_convolution=true]"
NAMES = {
    OURS: "sparse_delta",
    "sparse_delta[penalty_start=0,short_convolution=false]": "sparse_delta, no convolution",
}
CONTEXTS = (256, 1028, 4096, 16384)
# At most this share of attention's time for a step of the whole model, at those contexts.
AIMS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("slots", "linear_attention", "retnet", "ssd"): (0.9, 0.5, 0.17, 0.05),
    ("gated_linear", "gated_slots", "delta", "gated_delta", "kda", OURS): (1.5, 0.8, 0.25, 0.07),
    ("routed_slots",): (2.0, 1.0, 0.35, 0.1),
}
# A token of a long text over one of a short one, and memory's growth over the text's, at most.
TOKEN_AIM, MEMORY_AIM = 1.2, 1.1


@cache
def record() -> SpeedRecord:
    """What `rulekeep speed` measured."""
    return read_speed(RESULTS / "speed" / "speed.json")


@cache
def steps(mixer: str) -> dict[int, StepTime]:
    """Training steps of the whole model on one thread, by context."""
    return {row.context: row for row in step_times(record(), "model", 1) if row.mixer == mixer}


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


@cache
def slow() -> set[str]:
    """The mixers that take longer for a token of a long text, though their state stops growing."""
    fixed = {row.mixer for row in decode_times(record()) if row.grows != "growing"}
    return {row.mixer for row in slopes(record()) if row.ratio.median > TOKEN_AIM} & fixed


def mark(missed: bool) -> str:
    """A missed aim."""
    return " ✗" if missed else ""


def name(mixer: str) -> str:
    """As a table has it."""
    return NAMES.get(mixer, mixer)


def mixers() -> list[str]:
    """Attention and what was measured beside it."""
    return [row.mixer for row in decode_times(record())]


def table(_: Rows) -> str:
    """A line a mixer: shares of attention's step, and what a long text and decoding take."""
    head = ["share of attention's step", *(f"{context:,} tokens" for context in CONTEXTS)]
    head += ["a token, long", "product rate", "peak, MiB", "decode, ms", "late / early"]
    body = []
    for mixer in mixers():
        (slope,) = (row for row in slopes(record()) if row.mixer == mixer)
        (peak,) = (row for row in memories(record()) if row.mixer == mixer)
        (decoding,) = (row for row in decode_times(record()) if row.mixer == mixer)
        found = steps(mixer)
        rate = found[max(found)].product_share
        cells = [f"{median(row):.3f}{mark(met(row) is False)}" for _, row in sorted(found.items())]
        cells.append(f"{slope.ratio.median:.2f}{mark(mixer in slow())}")
        cells.append("" if rate is None else f"{rate:.2f}")
        cells.append(f"{peak.bytes_at[max(peak.bytes_at)] / 2**20:.0f}")
        cells.append(f"{decoding.ms[max(decoding.ms)].median:.2f}")
        body.append([name(mixer), *cells, f"{decoding.ratio.median:.2f}"])
    return markdown_table(head, body)


def spread(_: Rows) -> str:
    """The same shares with their quartiles."""
    head = ["median (quartiles)", *(f"{context:,} tokens" for context in CONTEXTS)]
    body = [
        [name(mixer), *(row.share.text(3) for _, row in sorted(steps(mixer).items()) if row.share)]
        for mixer in mixers()
        if mixer != BASELINE
    ]
    return markdown_table(head, body)


def judged() -> list[StepTime]:
    """Steps that an aim is set for."""
    return [row for row in step_times(record(), "model", 1) if aim(row) is not None]


def only_gru(_: Rows) -> bool:
    """Whether `gru` alone takes longer for a token of a long text, and memory is met."""
    growths = [row.growth for row in memories(record())]
    return slow() == {"gru"} and all(g and g <= MEMORY_AIM for g in growths)


def decoding_early(_: Rows) -> float:
    """What a token after 64 tokens takes of our memory, over what it takes of attention."""
    ms = {one.mixer: one.ms[min(one.ms)].median for one in decode_times(record())}
    return ms[OURS] / ms[BASELINE]


def reached(of: Iterable[str]) -> Span:
    """The share of the machine's product rate that these reach in the longest text."""
    shares = (steps(one)[max(CONTEXTS)].product_share for one in of)
    return Span.of(one for one in shares if one is not None)


STUDY = Study(
    question="How fast is each mixer beside attention?",
    variants={},
    settings=[],
    context=1,
    tables={"shares": table, "spread": spread},
    claims={
        "aims": Claim(lambda _: len(judged()), 0),
        "met": Claim(lambda _: sum(met(row) is True for row in judged()), 0, holds=only_gru),
        "decoding_early": Claim(decoding_early, 1),
        "reached": Claim(lambda _: reached(set(mixers()) - {BASELINE}), 2),
        "reached_attention": Claim(lambda _: reached([BASELINE]).low, 2),
    },
)
