"""The tables of docs/literature.md, out of the records of the literature check.

    rulekeep sweep literature --out results/literature
    rulekeep sweep benchmarks/literature_table.py --out results/literature
    python benchmarks/literature_table.py

writes what stands between the marks of the page: published figures beside ours, accuracy against
tokens seen and by number of pairs. With records it draws `accuracy.svg` beside them too; without,
it says that there are none. `--runs` and `--page` name another folder and another page.

The second sweep is of attention with a short convolution on its queries, keys and values
(`convolved_attention.py`), which published attention has before it, and of Mamba-2 with twice the
key channels: its values are half as wide as published, and so it has as many numbers in its state.
"""

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from keeping import plain_table
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rulekeep.analysis.plots import COLOURS, as_bytes
from rulekeep.analysis.variants import is_variant
from rulekeep.mixed_recall import FEWEST, PAIRS, steps_of
from rulekeep.records.store import Kept, Record, read_runs, write_bytes, write_text
from rulekeep.running.model_training import lengths
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.sweeps.presets import (
    LITERATURE,
    LITERATURE_SEEDS,
    LITERATURE_STEPS,
    LITERATURE_TASK,
    literature,
)

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "results" / "literature"
PAGE = ROOT / "docs" / "literature.md"
FIGURE = "accuracy.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
# 32 passes over 100,000 sequences of 64 tokens, 20,000 of 128 and 60,000 of 256, at most: training
# stopped when accuracy exceeded 99 %.
PUBLISHED_TOKENS = 32 * (100_000 * 64 + 20_000 * 128 + 60_000 * 256)
# Points, where no deviation of the published mean is known to us; for a bound, where training
# stopped, what rounds to it.
TOLERANCE, OF_BOUND = 5.0, 0.5
# Points of dev accuracy in the last quarter of the tokens: a run that gains more is not at its end.
STILL_RISING = 2.0
# Per cent: naming any value of the text is 9.7 right. Below it the look-up is not found.
NOT_LEARNED = 10.0
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)


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


WIDTHS = (16, 32, 64)
CONVOLVED = contestants(
    ",".join(
        f"benchmarks/convolved_attention.py:ConvolvedAttention[width={width},heads=1,taps=4]"
        for width in WIDTHS
    )
)
LARGER = "ssd[width=64,heads=8,key_width=32,output_gate=true,short_convolution=true]"
WIDER = contestants(LARGER)
TAPS = CONVOLVED[0].mixer
NAMES = {
    TAPS: "attention, with a convolution",
    "attention": "attention, without one",
    "ssd": "Mamba-2 (`ssd`)",
    LARGER: "Mamba-2, 32 key channels",
    "gated_delta": "Gated DeltaNet",
}
# What a mechanism may lack, if the row that has it agrees.
LACKS = {
    **{
        ("attention", width): (
            (TAPS, width),
            "no convolution, or its positions: see the row with one",
        )
        for width in WIDTHS
    },
    ("ssd", 32): ((LARGER, 64), "half the state, as at width 64"),
    ("ssd", 64): ((LARGER, 64), "half the state: see the row with 32 key channels"),
}
# No feed-forward layer to speak of, as the preset has it.
HIDDEN = 1
# What is asked for by each name and width: a run of other options is another mechanism.
ASKED = {
    (LARGER if one in WIDER else one.mixer, one.settings["width"]): one
    for one in (*LITERATURE, *CONVOLVED, *WIDER)
}
# arXiv 2506.04761: mixer and width.
PUBLISHED = {
    ("ssd", 16): Published(46.9, 2.3),
    ("ssd", 32): Published(75.1, 4.9),
    ("ssd", 64): Published(89.6, 6.1),
    (LARGER, 64): Published(89.6, 6.1),
    ("gated_delta", 16): Published(38.4),
    ("gated_delta", 32): Published(79.0),
    ("gated_delta", 64): Published(99, at_least=True),
    **{
        (mixer, width): Published(99, at_least=True)
        for mixer in (TAPS, "attention")
        for width in WIDTHS
    },
}


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Attention with a short convolution and the larger Mamba-2, as the preset runs the others."""
    return literature(records, mixers=(*CONVOLVED, *WIDER))


class Look(NamedTuple):
    """A look at dev: tokens trained on before it, and per cent right."""

    tokens: int
    accuracy: float


class Run(NamedTuple):
    """A finished run: per cent right on test, by number of pairs too, and its looks at dev."""

    rate: float
    accuracy: float
    by_pairs: Mapping[int, float]
    looks: Sequence[Look]

    def at(self, share: float) -> float:
        """Dev accuracy after a share of the tokens, on the line between two looks."""
        tokens, accuracies = zip(*self.looks, strict=True)
        return float(np.interp(share * tokens[-1], tokens, accuracies))


Cell = tuple[str, int]
Runs = dict[Cell, dict[int, Run | None]]


def read(records: Iterable[Record]) -> Runs:
    """Runs by mixer and width, then by seed; None for one that diverged.

    Runs of a rate's grid, which are shorter, and those of other tasks are left out.

    Raises:
        ValueError: two runs are of one mixer, width and seed.
    """
    found: Runs = {}
    for record in records:
        spec = record.spec
        kind = (spec.task, spec.rest.get("steps"))
        if kind != (LITERATURE_TASK, LITERATURE_STEPS) or not record.is_result:
            continue
        cell = _cell(record)
        if cell is None:
            continue
        seeds = found.setdefault(cell, {})
        if spec.seed in seeds:
            raise ValueError(
                f"{cell[0]}, width {cell[1]}, seed {spec.seed}: more than one run of "
                f"{LITERATURE_STEPS} steps; keep one of them"
            )
        seeds[spec.seed] = _run(record) if record.status == "done" else None
    return found


def _cell(record: Record) -> Cell | None:
    of = (cell for cell, one in ASKED.items() if is_variant(record, one, hidden=HIDDEN))
    return next(of, None)


def _run(record: Record) -> Run:
    spec = record.spec.parsed()
    assert isinstance(spec, RunSpec), record.id
    (test,) = record.tests()
    tokens = seen(spec)
    by_step = {int(step): part for step, part in test.parts["step"].items()}
    by_pairs = {}
    for pairs in PAIRS:
        rows = [by_step[step] for step in steps_of(pairs) if step in by_step]
        answers = sum(row.n for row in rows)
        if answers:
            by_pairs[pairs] = 100 * sum(row.n * row.retention for row in rows) / answers
    looks = [
        Look(tokens[int(row["step"]) - 1], 100 * row["token_accuracy"]) for row in record.history
    ]
    return Run(spec.learning_rate, 100 * test.figures["token_accuracy"], by_pairs, looks)


def seen(spec: RunSpec) -> list[int]:
    """Tokens trained on after each step."""
    drawn = islice(lengths(spec, 4 * FEWEST), spec.steps)
    return list(accumulate(spec.batch_size * length for length in drawn))


class Verdict(NamedTuple):
    """Whether ours agree with the published figure, and what is likely behind it if not."""

    said: str
    cause: str


def verdict(published: Published, runs: Sequence[Run | None]) -> Verdict:
    """Agrees within twice the published deviation, within 5 points where none is known."""
    if not runs:
        return Verdict("no records yet", "")
    done = [run for run in runs if run is not None]
    if not done:
        return Verdict("diverged", "the training")
    every = [run.accuracy for run in done]
    by = statistics.fmean(every) - published.mean
    asked = len(LITERATURE_SEEDS)
    few = f" ({len(done)} of {asked} seeds)" if len(done) < asked else ""
    share = f"{_tokens(done) / PUBLISHED_TOKENS:.1%} of the most published tokens"
    # Two that lie apart have no mean to speak of; what rounds to a bound is no width.
    apart = 2 * (TOLERANCE if published.at_least else published.room)
    if max(every) - min(every) > apart:
        return Verdict(f"seeds disagree{few}", share)
    if abs(by) <= published.room or (published.at_least and by > 0):
        return Verdict(f"agrees: {published.accepted}{few}", "")
    if by > 0:
        return Verdict(f"{by:.1f} above{few}", "a 32nd of the words; values already said are out")
    if max(every) < NOT_LEARNED:
        return Verdict(f"not converged: the look-up is not found{few}", share)
    gained = statistics.fmean(run.at(1) - run.at(0.75) for run in done)
    rising = f", {gained:.1f} gained in the last quarter" if gained > STILL_RISING else ""
    return Verdict(f"{'not converged: ' if rising else ''}{-by:.1f} below{rising}{few}", share)


def page(text: str, records: Iterable[Record]) -> str:
    """The page with the tables of these records between its marks.

    Raises:
        ValueError: the page has not both marks, in their order, once.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the page must have the lines {BEGIN} and {END} once, in this order")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(records)}\n{END}{rest.partition(END)[2]}"


def tables(records: Iterable[Record]) -> str:
    """Published and ours; with records, accuracy over tokens and by number of pairs too."""
    found = read(records)
    runs = {cell: [run for _, run in sorted(found.get(cell, {}).items())] for cell in PUBLISHED}
    done = {cell: [run for run in of if run is not None] for cell, of in runs.items()}
    rows = [
        [
            "mixer", "width", "published", "ours", "seeds", "rate", "tokens seen",
            "of the most published", "verdict", "likely cause",
        ]
    ]  # fmt: skip
    over = [["mixer", "width", *(f"{share:.1%}".replace(".0", "") for share in SHARES)]]
    parts = [["mixer", "width", *(f"{pairs} pairs" for pairs in PAIRS)]]
    for (mixer, width), published in PUBLISHED.items():
        of, ended = runs[mixer, width], done[mixer, width]
        said = verdict(published, of)
        if said.cause and (mixer, width) in LACKS and not said.said.startswith("seeds disagree"):
            beside, lacks = LACKS[mixer, width]
            if verdict(PUBLISHED[beside], runs[beside]).said.startswith("agrees"):
                said = said._replace(cause=lacks)
        place = [NAMES[mixer], str(width)]
        ours = f"{_mean(run.accuracy for run in ended)}" if ended else "–"
        seeds = ", ".join("diverged" if run is None else f"{run.accuracy:.1f}" for run in of)
        rates = ", ".join(sorted({f"{run.rate:.3g}" for run in ended}))
        tokens = _tokens(ended) if ended else None
        rows.append(
            [
                *place, str(published), ours, seeds or "–", rates or "–",
                "–" if tokens is None else f"{tokens / 1e6:.1f} M",
                # Where a bound is published, training ended sooner: of how much is not known.
                "–" if tokens is None or published.at_least else f"{tokens / PUBLISHED_TOKENS:.1%}",
                *said,
            ]
        )  # fmt: skip
        if ended:
            over.append([*place, *(_mean(run.at(share) for run in ended) for share in SHARES)])
            parts.append(
                [*place, *(_mean(run.by_pairs.get(pairs) for run in ended) for pairs in PAIRS)]
            )
    shown = [plain_table(rows)]
    if any(done.values()):
        shown += [OVER, plain_table(over), BY_PAIRS, plain_table(parts)]
    return "".join(shown)


def _tokens(runs: Sequence[Run]) -> float:
    """Trained on, the mean: seeds differ in lengths, and one that is solved ends."""
    return statistics.fmean(run.looks[-1].tokens for run in runs)


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.1f}" if known else "–"


def figure(found: Runs) -> Figure:
    """Dev accuracy against tokens seen: a panel a width, a line a seed, the published dotted."""
    widths = sorted({width for _, width in found})
    drawn = Figure(figsize=(3.2 + 2.6 * len(widths), 4.3), layout="constrained")
    named: dict[str, Line2D] = {}
    (panels,) = drawn.subplots(1, len(widths), sharey=True, squeeze=False)
    for axes, width in zip(panels, widths, strict=True):
        for mixer, colour in zip(NAMES, COLOURS, strict=False):
            published = PUBLISHED.get((mixer, width))
            if published is None:
                continue
            axes.axhline(published.mean, color=colour, linestyle=":", linewidth=1)
            if published.deviation is not None:
                low, high = (published.mean + sign * published.deviation for sign in (-1, 1))
                axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
            done = [run for run in found.get((mixer, width), {}).values() if run is not None]
            for run in done:
                x = [look.tokens / 1e6 for look in run.looks]
                (line,) = axes.plot(x, [look.accuracy for look in run.looks], color=colour)
                named.setdefault(NAMES[mixer].replace("`", ""), line)
        axes.set(title=f"width {width}", xlabel="tokens seen (million)", ylim=(0, 102))
        axes.grid(alpha=0.3)
    drawn.axes[0].set_ylabel("dev accuracy (%)")
    drawn.legend([*named.values()], [*named], loc="outside lower center", ncols=2, fontsize=8)
    drawn.suptitle("A line a seed; dotted: published, with its deviation", fontsize=10)
    return drawn


OVER = f"""
### Accuracy against tokens seen

![Dev accuracy over tokens seen, a panel a width](../results/literature/{FIGURE})

Per cent right on dev (texts of 384 tokens), the mean over seeds, after a share of the tokens seen,
on the line between two looks. A run's rate falls to zero over 14,400 steps: earlier shares are not
what a shorter run would reach, and a flat end does not show that more tokens would add nothing.

"""
BY_PAIRS = """
### By number of pairs

Per cent right on test, the mean over seeds.

"""


def main() -> None:
    """Writes the page's tables; draws the figure if there are records."""
    parser = argparse.ArgumentParser(description="the tables of docs/literature.md, out of records")
    parser.add_argument("--runs", type=Path, help="folder of runs; results/literature")
    parser.add_argument("--page", type=Path, default=PAGE, help="docs/literature.md")
    options = parser.parse_args()
    folder = options.runs or RUNS
    try:
        if options.runs is not None and not folder.is_dir():
            raise ValueError(f"--runs {folder}: there is no such folder")
        kept = read_runs(folder) if folder.is_dir() else Kept([], [])
        for note in kept.notes:
            print(note, file=sys.stderr)
        text = page(options.page.read_text(), kept.records)
    except (OSError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    found = read(kept.records)
    if found:
        write_bytes(folder / FIGURE, as_bytes(figure(found), "svg"))
    write_text(options.page, text)
    runs = sum(map(len, found.values()))
    print(f"{options.page}: {f'runs of {folder}: {runs}' if runs else 'no records yet'}")


if __name__ == "__main__":
    main()
