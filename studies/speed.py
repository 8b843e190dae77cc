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
from rulekeep.analysis.summary import Interval
from rulekeep.printable import markdown_table
from rulekeep.speed import figures
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
def shares() -> dict[tuple[int, str], Interval]:
    """Shares of attention's time for a step of the whole model on one thread."""
    return figures.shares(record(), "model")


def aim(context: int, mixer: str) -> float | None:
    """The largest share of attention's time that a step should take, if it has an aim."""
    found = (shares for mixers, shares in AIMS.items() if mixer in mixers)
    return next((shares[CONTEXTS.index(context)] for shares in found), None)


def judged() -> dict[tuple[int, str], bool]:
    """Steps that an aim is set for, and whether they meet it."""
    return {at: one.mean <= most for at, one in shares().items() if (most := aim(*at)) is not None}


@cache
def slow() -> set[str]:
    """The mixers that take longer for a token of a long text, though their state stops growing."""
    growing = figures.growing(record())
    slopes = figures.slopes(record()).items()
    return {one for one, ratio in slopes if ratio.mean > TOKEN_AIM and growing[one] != "growing"}


def mark(missed: bool) -> str:
    """A missed aim."""
    return " ✗" if missed else ""


def name(mixer: str) -> str:
    """As a table has it."""
    return NAMES.get(mixer, mixer)


def table(_: Rows) -> str:
    """A line a mixer: shares of attention's step, and what a long text and decoding take."""
    head = ["share of attention's step", *(f"{context:,} tokens" for context in CONTEXTS)]
    head += ["a token, long", "product rate", "peak, MiB", "decode, ms", "late / early"]
    body, met = [], judged()
    slopes, memories = figures.slopes(record()), figures.memories(record())
    rates = figures.product_shares(record())
    for mixer, ms in figures.decode_ms(record()).items():
        rate, peak = rates.get((CONTEXTS[-1], mixer)), memories[mixer]
        cells = [
            f"{shares()[at, mixer].mean:.3f}{mark(met.get((at, mixer)) is False)}"
            for at in CONTEXTS
        ]
        cells.append(f"{slopes[mixer].mean:.2f}{mark(mixer in slow())}")
        cells.append("" if rate is None else f"{rate:.2f}")
        cells.append(f"{peak[max(peak)] / 2**20:.0f}")
        cells.append(f"{figures.spread(ms[max(ms)]).mean:.2f}")
        body.append([name(mixer), *cells, f"{figures.late_over_early(ms).mean:.2f}"])
    return markdown_table(head, body)


def spread(_: Rows) -> str:
    """The same shares with their quartiles."""
    head = ["median (quartiles)", *(f"{context:,} tokens" for context in CONTEXTS)]
    body = [
        [name(mixer), *(shares()[at, mixer].text(to="–") for at in CONTEXTS)]
        for mixer in record().spec.mixers
        if mixer != BASELINE
    ]
    return markdown_table(head, body)


def only_gru(_: Rows) -> bool:
    """Whether `gru` alone takes longer for a token of a long text, and memory is met."""
    growths = [figures.growth(bytes_at) for bytes_at in figures.memories(record()).values()]
    return slow() == {"gru"} and all(found and found[0] <= MEMORY_AIM for found in growths)


def decoding_early(_: Rows) -> float:
    """What a token after 64 tokens takes of our memory, over what it takes of attention."""
    ms = figures.decode_ms(record())
    ours, attention = (figures.spread(ms[one][64]).mean for one in (OURS, BASELINE))
    return ours / attention


def reached(of: Iterable[str]) -> Span:
    """The share of the machine's product rate that these reach in the longest text."""
    rates = figures.product_shares(record())
    return Span.of(rates[CONTEXTS[-1], one] for one in of if (CONTEXTS[-1], one) in rates)


STUDY = Study(
    question="How fast is each mixer beside attention?",
    variants={},
    settings=[],
    context=1,
    tables={"shares": table, "spread": spread},
    claims={
        "aims": Claim(lambda _: len(judged()), 0),
        "met": Claim(lambda _: sum(judged().values()), 0, holds=only_gru),
        "decoding_early": Claim(decoding_early, 1),
        "reached": Claim(lambda _: reached(set(record().spec.mixers) - {BASELINE}), 2),
        "reached_attention": Claim(lambda _: reached([BASELINE]).low, 2),
    },
)
