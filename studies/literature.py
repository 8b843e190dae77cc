"""The literature check: do our mixers recall as published?

    rulekeep study literature run|build|check

Multi-query associative recall at 256 tokens (`MixedRecall`), widths 16, 32 and 64, two seeds, at
the rate that the validation set chose: per cent right on test beside what log-linear attention has
published (arXiv 2506.04761). Fills docs/literature.md.

Beside them stand attention with a convolution on queries, keys and values, which
published attention has before it, and Mamba-2 with twice the key channels: its values are half as
wide as published, and so it has as many numbers in its state.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import Rows, TaskSetting, Variant
from rulekeep.analysis.table import Run
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import AnySpec, MixerSpec, mixer_specs
from rulekeep.study import Claim, Study, Sweep
from rulekeep.sweeps.rates import tuned
from rulekeep.tasks.mixed_recall import PAIRS, steps_of

SEEDS, STEPS, GRID_STEPS = (1, 2), 14400, 5760
TASK = "rulekeep.tasks.mixed_recall:MixedRecall"
SETTING = TaskSetting(TASK, "early", 64)
CONTEXT, TESTED, WIDTHS = 384, 256, (16, 32, 64)
# 32 passes over 100,000 sequences of 64 tokens, 20,000 of 128 and 60,000 of 256, at most: training
# stopped when accuracy exceeded 99 %.
PUBLISHED_TOKENS = 32 * (100_000 * 64 + 20_000 * 128 + 60_000 * 256)
# Points, where no deviation of the published mean is known to us; for a bound, where training
# stopped, what rounds to it.
TOLERANCE, OF_BOUND = 5.0, 0.5
# Per cent: naming any value of the text is 9.7 right. Below it the look-up is not found.
NOT_LEARNED = 10.0


class Published(NamedTuple):
    """Per cent right, its deviation over seeds if known, and whether it is a lower bound only."""

    mean: float
    deviation: float | None = None
    at_least: bool = False

    def __str__(self) -> str:
        if self.at_least:
            return f"≥ {self.mean:.0f}"
        return f"{self.mean:.1f}" + ("" if self.deviation is None else f" ± {self.deviation:.1f}")

    @property
    def room(self) -> float:
        """Points by which ours may differ and agree."""
        if self.at_least:
            return OF_BOUND
        return TOLERANCE if self.deviation is None else 2 * self.deviation

    @property
    def accepted(self) -> str:
        """The figures that agree."""
        low, high = self.mean - self.room, min(100.0, self.mean + self.room)
        return f"from {low:.1f}" if self.at_least else f"{low:.1f} to {high:.1f}"


AT_LEAST_99 = Published(99, at_least=True)
# What docs/literature.md compares: heads and key widths where the literature states them, or has
# them by default; short convolutions and gates as published. Mamba-2 has heads of 8: their steps
# start spread over 0.001 to 0.1, and a sole head's at the least of it.
STATED = mixer_specs(
    ",".join(
        f"attention[width={width},heads=1,positions=rotary],"
        f"ssd[width={width},heads={width // 8},key_width=16,output_gate=true,"
        "short_convolution=true],"
        f"gated_delta[width={width},heads=2,short_convolution=true]"
        for width in WIDTHS
    )
)
CONVOLVED = mixer_specs(
    ",".join(f"attention[width={width},heads=1,conv_size=4]" for width in WIDTHS)
)
LARGER = mixer_specs("ssd[width=64,heads=8,key_width=32,output_gate=true,short_convolution=true]")
MIXERS = (*STATED, *CONVOLVED, *LARGER)
NAMES = {
    "ssd": "Mamba-2 (`ssd`)",
    "larger": "Mamba-2, 32 key channels",
    "gated_delta": "Gated DeltaNet",
    "convolved": "attention, with a convolution",
    "attention": "attention, without one",
}
# By the key of a variant: published figures of each width.
PUBLISHED = {
    "ssd-16": Published(46.9, 2.3),
    "ssd-32": Published(75.1, 4.9),
    "ssd-64": Published(89.6, 6.1),
    "larger-64": Published(89.6, 6.1),
    "gated_delta-16": Published(38.4),
    "gated_delta-32": Published(79.0),
    "gated_delta-64": AT_LEAST_99,
    **{f"{one}-{width}": AT_LEAST_99 for one in ("convolved", "attention") for width in WIDTHS},
}


def is_whole(record: Record) -> bool:
    """Whether a run is no shorter one of a rate's grid."""
    return record.spec.rest.get("steps") == STEPS


def least(one: MixerSpec) -> str:
    """A mixer with the least feed-forward layer, as `literature` has it."""
    return one._replace(settings={**one.settings, "hidden": 1}).text


def variants() -> dict[str, Variant]:
    """By mixer and width."""
    found = {}
    for kind, mixers in (("", STATED), ("convolved", CONVOLVED), ("larger", LARGER)):
        for one in mixers:
            mixer, width = kind or one.mixer, one.settings["width"]
            found[f"{mixer}-{width}"] = Variant(least(one), NAMES[mixer], is_whole)
    return found


def literature(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Every mixer, and each seed at the rate that its grid chooses.

    14,400 steps of 16 sequences, up to 384 tokens long: 33 million tokens, or until it is solved.
    Each learning rate is chosen on runs of 5,760 steps with seed 1. Thousands of tokens trained per
    CPU second, on a core with another such run beside it:

        width   attention   ssd   gated_delta
           16         205   112            95
           32         183    81            82
           64         112    48            48

    A run takes 3 to 12 minutes, and 1 more for its evaluations: 20 at most. These 18 take 2.2
    core-hours. The grids take 1.4, and 0.5 more if every grid is extended.
    """
    grid = _recall_run(GRID_STEPS, looks=4, tested=20, seed=SEEDS[0])
    # As published, when it is solved; rates are compared after as many steps.
    runs = [_recall_run(STEPS, looks=16, tested=2000, seed=seed, stops=True) for seed in SEEDS]
    specs: list[AnySpec] = []
    for one in MIXERS:
        found = tuned(one, records, grid)
        specs += found.grid
        if found.rate is not None:
            specs += [one.spec(**values, learning_rate=found.rate) for values in runs]
    return specs


def _recall_run(
    steps: int, *, looks: int, tested: int, seed: int, stops: bool = False
) -> dict[str, Any]:
    return {
        "task": TASK,
        # 64 pairs need 256 tokens, which lengths up to 256 hardly ever have.
        "context": CONTEXT,
        "test_contexts": (TESTED,),
        # Short texts all along, as published, and few at a step: at 64 in a batch and lengths in
        # order, no mixer but attention with a convolution found the look-up (notes/log.md).
        "length_growth": 0.5,
        # The published models have no feed-forward layer: the least that ours can have.
        "hidden": 1,
        "weight_decay": 0.1,
        "final_share": 0.0,
        "warmup_steps": 100,
        "steps": steps,
        "batch_size": 16,
        "stop_when_solved": stops,
        "evaluate_every": steps // looks,
        "validation_examples": 256,
        "test_examples": tested,
        "seed": seed,
    }


# --- figures of a variant ------------------------------------------------------------------------


def runs(rows: Rows, key: str) -> list[Run]:
    """The runs of a variant by seed."""
    return [run for _, run in sorted(rows.group(key, SETTING).runs.items())]


def right(rows: Rows, key: str) -> list[float]:
    """Per cent right on test, by seed."""
    found = rows.known(key, SETTING, "token_accuracy", TESTED).seeds
    return [100 * value for _, value in sorted(found.items())]


def tokens(rows: Rows, key: str) -> float:
    """Trained on, the mean: seeds differ in lengths, and one that is solved ends."""
    costs = (run.record.costs for run in runs(rows, key))
    return statistics.fmean(one["tokens_per_second"] * one["train_seconds"] for one in costs)


def by_pairs(rows: Rows, key: str, pairs: int) -> str:
    """Per cent right of so many pairs, the mean over seeds."""
    each = []
    for run in runs(rows, key):
        (test,) = run.record.tests()
        parts = [part for step in steps_of(pairs) if (part := test.parts["step"].get(str(step)))]
        answers = sum(part.n for part in parts)
        each.append(100 * sum(part.n * part.retention for part in parts) / answers)
    return f"{statistics.fmean(each):.1f}"


def difference(rows: Rows, key: str) -> float:
    """The mean less the published one, in points."""
    return statistics.fmean(right(rows, key)) - PUBLISHED[key].mean


def verdict(published: Published, every: Sequence[float]) -> str:
    """Whether ours agree: within twice the published deviation, 5 points where none is known."""
    by = statistics.fmean(every) - published.mean
    # Two that lie apart have no mean to speak of; what rounds to a bound is no width.
    if max(every) - min(every) > 2 * (TOLERANCE if published.at_least else published.room):
        return "seeds disagree"
    if abs(by) <= published.room or (published.at_least and by > 0):
        return f"agrees: {published.accepted}"
    if by > 0:
        return f"{by:.1f} above"
    return "the look-up is not found" if max(every) < NOT_LEARNED else f"{-by:.1f} below"


# --- tables and the figure -----------------------------------------------------------------------


def beside_published(rows: Rows) -> str:
    """Published and ours."""
    head = ["mixer", "width", "published", "ours", "seeds", "rate", "tokens seen", "verdict"]
    body = []
    for key, published in PUBLISHED.items():
        every = right(rows, key)
        body.append(
            [
                *place(rows, key),
                str(published),
                f"{statistics.fmean(every):.1f}",
                ", ".join(f"{one:.1f}" for one in every),
                f"{runs(rows, key)[0].rate:.3g}",
                f"{tokens(rows, key) / 1e6:.1f} M",
                verdict(published, every),
            ]
        )
    return markdown_table(head, body)


def place(rows: Rows, key: str) -> list[str]:
    """How a line begins."""
    return [rows.variants[key].name, key.rpartition("-")[2]]


def pairs_table(rows: Rows) -> str:
    """Per cent right by number of pairs."""
    head = ["mixer", "width", *(f"{pairs} pairs" for pairs in PAIRS)]
    body = [[*place(rows, key), *(by_pairs(rows, key, one) for one in PAIRS)] for key in PUBLISHED]
    return markdown_table(head, body)


def drawn(rows: Rows) -> bytes:
    """Validation accuracy over training: a panel a width, a line a seed, the published dotted."""
    figure = Figure(figsize=(3.2 + 2.6 * len(WIDTHS), 4.3), layout="constrained")
    named: dict[str, Line2D] = {}
    for axes, width in zip(figure.subplots(1, len(WIDTHS), sharey=True), WIDTHS, strict=True):
        for mixer, colour in zip(NAMES, COLOURS, strict=False):
            published = PUBLISHED.get(f"{mixer}-{width}")
            if published is None:
                continue
            axes.axhline(published.mean, color=colour, linestyle=":", linewidth=1)
            if published.deviation is not None:
                low, high = (published.mean + sign * published.deviation for sign in (-1, 1))
                axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
            for run in runs(rows, f"{mixer}-{width}"):
                x = [row["step"] / 1000 for row in run.record.history]
                y = [100 * row["token_accuracy"] for row in run.record.history]
                (line,) = axes.plot(x, y, color=colour)
                named.setdefault(NAMES[mixer].replace("`", ""), line)
        axes.set(title=f"width {width}", xlabel="steps (thousand)", ylim=(0, 102))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("validation accuracy (%)")
    figure.legend([*named.values()], [*named], loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle("A line a seed; dotted: published, with its deviation", fontsize=10)
    return as_bytes(figure, "svg")


# --- claims --------------------------------------------------------------------------------------


def ours(key: str) -> Callable[[Rows], float]:
    """The mean per cent of a variant."""
    return lambda rows: statistics.fmean(right(rows, key))


def says(said: str, keys: Iterable[str]) -> Callable[[Rows], bool]:
    """Whether these variants, and no others, have a verdict that begins so."""
    wanted = {*keys}
    return lambda rows: (
        wanted
        == {
            key for key, one in PUBLISHED.items() if verdict(one, right(rows, key)).startswith(said)
        }
    )


AGREE = {*(f"convolved-{width}" for width in WIDTHS), "attention-64", "gated_delta-32", "larger-64"}
APART = {"ssd-16", "gated_delta-16", "attention-32"}
CLAIMS = {
    "gated_delta_32": Claim(ours("gated_delta-32"), 1, holds=says("agrees", AGREE)),
    "larger": Claim(ours("larger-64"), 1, holds=says("seeds disagree", APART)),
    **{
        key: Claim(lambda rows, one=one: -difference(rows, one), 1, minimum=0)
        for key, one in (("ssd_32", "ssd-32"), ("ssd_64", "ssd-64"), ("gated_64", "gated_delta-64"))
    },
    "tokens": Claim(lambda rows: max(tokens(rows, key) for key in PUBLISHED) / 1e6, 0),
    "published_tokens": Claim(lambda _: PUBLISHED_TOKENS / 1e6, 0),
}

STUDY = Study(
    question="Do our mixers recall as published?",
    variants=variants(),
    settings=[SETTING],
    context=CONTEXT,
    seeds=SEEDS,
    sweeps={"literature": Sweep("literature")},
    tables={
        "published": beside_published,
        "pairs": pairs_table,
    },
    figures={"accuracy.svg": drawn},
    claims=CLAIMS,
)
