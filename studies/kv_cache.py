"""A compressed KV cache: which rules are left when attention's cache is cut down or rounded?

    python studies/kv_cache.py               # measures what results/evictions and quantised lack
    rulekeep study kv_cache build|check

`recite`, early and marked rules, five seeds of two attentions that other studies have trained. A
model reads a text; then the cache of each layer is compressed, once; the request and the answer go
on from what is left (`studies/compressed.py`). A model comes from its kept weights or is
trained again, and must give the figures of its record. Fills docs/kv_cache.md and README.
"""

import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import Rows, Span, TaskSetting, Variant, text_of
from rulekeep.analysis.summary import paired_difference, summarise_scores
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record, RunFolder, Values, packed_values, write_text
from rulekeep.study import Claim, Study, opened

RESULTS = Path(__file__).parent.parent / "results"
# Trained models are kept here, so that a second call trains nothing.
WORK = Path("runs") / "kv_cache"
# Examples of test at each length: at the first as many as a record has.
EXAMPLES = {256: 1000, 1028: 256}
SHORT, LONG = EXAMPLES
SETTINGS = EARLY, MARKED = (TaskSetting("recite", "early"), TaskSetting("recite", "marked"))
CONVOLVED = "attention[conv_size=8,added_positions=earliness]"
VARIANTS = {
    "rotary": Variant("attention[positions=rotary]", "rotary positions"),
    "convolved": Variant(CONVOLVED, "convolution"),
}
# Tokens a layer that are left, of 512 bytes each, and bits of a number.
BUDGETS, BITS = (8, 16, 32, 64, 128), (1, 2, 4, 8)
EVICTIONS = ("random", "StreamingLLM", "K-norm", "TOVA", "H2O", "SnapKV")
FORMS = ("per token", "KIVI")
# Where each kind of compression is recorded, and what it leaves at its most and least.
CUT, BITTEN = "evictions", "quantised"
WHOLE, FIRST, HALF = ("none", 0), ("first", 1), ("half precision", 16)
# A process holds some 3 GB at 1,028 tokens.
MOST_AT_ONCE = 4

Compression = tuple[str, int]


class Cell(NamedTuple):
    """One attention, where its rules stand, and how long the text is."""

    variant: str
    setting: TaskSetting
    context: int

    @property
    def name(self) -> str:
        """As a table calls it."""
        return f"{VARIANTS[self.variant].name}, {self.setting.placement}"


class Score(NamedTuple):
    """Of one seed: shares of rules and of answers that are right."""

    retention: float
    exact: float


Scores = dict[Cell, dict[Compression, dict[int, Score]]]


# --- what was measured ---------------------------------------------------------------------------


def measured(kind: str) -> list[Values]:
    """What was measured of each run: files of a run each, or packed."""
    root = RESULTS / kind
    files = [json.loads(path.read_text()) for path in sorted(root.glob("*.json"))]
    return [*files, *packed_values(root, [])]


def runs(rows: Rows) -> dict[str, tuple[str, TaskSetting, Record]]:
    """The runs that are compressed, by id: each attention at the rate that validation chose."""
    found = {}
    for setting, variant in product(SETTINGS, VARIANTS):
        for run in rows.group(variant, setting).runs.values():
            found[run.record.id] = variant, setting, run.record
    return found


@cache
def scores(rows: Rows, kind: str) -> Scores:
    """Scores of each seed, by cell and compression: rotary positions first, early rules first."""
    of = {one["run"]: one["rows"] for one in measured(kind)}
    found: Scores = {}
    for context, (identity, (variant, setting, record)) in product(EXAMPLES, runs(rows).items()):
        for at, name, amount, *score in of[identity]:
            if at == context:
                cell = found.setdefault(Cell(variant, setting, context), {})
                cell.setdefault((name, amount), {})[record.spec.seed] = Score(*score)
    return dict(sorted(found.items(), key=lambda one: (one[0].context, one[0].variant != "rotary")))


def kept(found: Scores, cell: Cell, by: Compression) -> dict[int, float]:
    """Retention by seed."""
    return {seed: one.retention for seed, one in found[cell].get(by, {}).items()}


def kib(by: Compression, context: int) -> float:
    """KiB a layer of what is cached at a context, before the answer and the token before it."""
    from rulekeep.kernels.rounding import cache_bytes
    from rulekeep.tasks import Recite

    return cache_bytes(*by, context - Recite().answer_length - 1) / 1024


def cut_kib(budget: int) -> float:
    """KiB a layer of so many tokens in half precision."""
    from rulekeep.kernels.rounding import cache_bytes

    return cache_bytes(*HALF, budget) / 1024


# --- tables and figures --------------------------------------------------------------------------

Line = tuple[str, Sequence[Compression]]
CUTS: list[Line] = [(one, [(one, budget) for budget in BUDGETS]) for one in EVICTIONS]
ROUNDINGS: list[Line] = [(one, [(one, bits) for bits in BITS]) for one in FORMS]
LINES = {
    CUT: [("the whole cache", [WHOLE]), ("the first token alone", [FIRST]), *CUTS],
    BITTEN: [("the whole cache", [WHOLE]), (HALF[0], [HALF]), *ROUNDINGS],
}
COLUMNS = {
    CUT: ["eviction", *(f"{budget} left" for budget in BUDGETS)],
    BITTEN: ["numbers", "1 bit", *(f"{bits} bits" for bits in BITS[1:])],
}


def table(kind: str, context: int) -> Callable[[Rows], str]:
    """Retention at one length, first of the whole cache."""

    def made(rows: Rows) -> str:
        found, head, body = scores(rows, kind), COLUMNS[kind], []
        for cell in (one for one in found if one.context == context):
            for name, compressions in LINES[kind]:
                each = [[*kept(found, cell, by).values()] for by in compressions]
                texts = [text_of(summarise_scores(one) if one else None) for one in each]
                body.append([cell.name, name, *texts, *[""] * (len(head) - 1 - len(texts))])
        return markdown_table([f"{context:,} tokens", *head], body)

    return made


def sizes(_: Rows) -> str:
    """KiB a layer that a text takes in so many bits."""
    body = [
        [f"{context:,} tokens", form, *(f"{kib(by, context):.1f} KiB" for by in compressions)]
        for context in EXAMPLES
        for form, compressions in ROUNDINGS
    ]
    return markdown_table(["a layer", *COLUMNS[BITTEN]], body)


class Panel(NamedTuple):
    """Its title, lines by name with their x and the seeds at each, and levels by name and style."""

    title: str
    lines: Sequence[tuple[str, Sequence[float], Sequence[Mapping[int, float]]]]
    levels: Sequence[tuple[str, str, float]]


def drawn(
    panels: Sequence[Panel], size: tuple[float, float], ticks: Sequence[int], label: str
) -> bytes:
    """Retention on a logarithm: a line through the means and a point a seed, two panels a row."""
    figure = Figure(figsize=size, layout="constrained")
    across = min(2, len(panels))
    every = figure.subplots(
        len(panels) // across, across, sharex=True, sharey=True, squeeze=False
    ).flat
    for axes, panel in zip(every, panels, strict=True):
        for (name, x, each), colour in zip(panel.lines, COLOURS, strict=False):
            for place, seeds in zip(x, each, strict=True):
                axes.plot([place] * len(seeds), [*seeds.values()], ".", color=colour, alpha=0.3)
            means = [statistics.mean(seeds.values()) for seeds in each]
            axes.plot(x, means, color=colour, label=name)
        for name, style, level in panel.levels:
            axes.axhline(level, color="black", linestyle=style, linewidth=1, label=name)
        axes.set_title(panel.title, fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.set_xlabel(label, fontsize=9)
        axes.set_ylabel("retention", fontsize=9)
        axes.label_outer()
    names = figure.axes[0].get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=across + 2, fontsize=8)
    return as_bytes(figure, "svg")


def cuts(rows: Rows, cells: Sequence[Cell], size: tuple[float, float] = (9, 6.5)) -> bytes:
    """Retention against tokens left: a line an eviction."""
    found, panels = scores(rows, CUT), []
    for cell in cells:
        lines = [(name, BUDGETS, [kept(found, cell, by) for by in each]) for name, each in CUTS]
        levels = [("the whole cache", "--", WHOLE), ("the first token", ":", FIRST)]
        panels.append(
            Panel(
                f"{cell.name} rules",
                lines,
                [(name, style, mean(found, cell, by)) for name, style, by in levels],
            )
        )
    return drawn(panels, size, BUDGETS, f"tokens a layer that are left of {SHORT}")


def bits(rows: Rows) -> bytes:
    """Retention against KiB a layer, by form, beside the tokens in half precision of H2O."""
    found, panels = scores(rows, BITTEN), []
    for cell in SHORT_CELLS:
        lines = [
            (name, [kib(by, SHORT) for by in each], [kept(found, cell, by) for by in each])
            for name, each in ROUNDINGS
        ]
        left = [kept(scores(rows, CUT), cell, ("H2O", budget)) for budget in BUDGETS]
        lines.append(("H2O, half precision", [cut_kib(budget) for budget in BUDGETS], left))
        levels = [("the whole cache", "--", mean(found, cell, WHOLE))]
        panels.append(Panel(f"{cell.name} rules", lines, levels))
    label = f"KiB a layer, of {kib(HALF, SHORT):.1f} in half precision"
    return drawn(panels, (9, 6.5), (2, 4, 8, 16, 32, 64), label)


FIGURES: dict[str, Callable[[Rows], bytes]] = {
    # README's: attention as it is used most, early rules, small enough for a narrow page.
    "kv_cache.svg": lambda rows: cuts(rows, SHORT_CELLS[:1], (5.2, 3.5)),
    "evictions.svg": lambda rows: cuts(rows, SHORT_CELLS),
    "bits.svg": bits,
}


# --- claims --------------------------------------------------------------------------------------

# At 1,028 tokens rotary positions have lost the rules before any compression: not measured.
SHORT_CELLS = [Cell(*one, SHORT) for one in product(VARIANTS, SETTINGS)]
EARLY_CELLS, MARKED_CELLS = SHORT_CELLS[::2], SHORT_CELLS[1::2]
LONG_CELLS = [Cell("convolved", one, LONG) for one in SETTINGS]
TWO = ("per token", 2)


def mean(found: Scores, cell: Cell, by: Compression, figure: str = "retention") -> float:
    """The mean over seeds."""
    return statistics.mean(getattr(one, figure) for one in found[cell][by].values())


def means(
    kind: str, among: Sequence[Cell], *by: Compression, figure: str = "retention"
) -> Callable[[Rows], Span]:
    """The least and the most of the means."""
    return lambda rows: Span.of(
        mean(scores(rows, kind), *one, figure) for one in product(among, by)
    )


def lowest(kind: str, by: Compression) -> Callable[[Rows], Span]:
    """The least and the most of the lowest seeds, by cell at 256 tokens."""
    return lambda rows: Span.of(
        min(kept(scores(rows, kind), cell, by).values()) for cell in SHORT_CELLS
    )


def best(budget: int) -> Callable[[Rows], Span]:
    """The least and the most of the best eviction's mean, by cell at 256 tokens."""
    return lambda rows: Span.of(
        max(mean(scores(rows, CUT), cell, (one, budget)) for one in EVICTIONS)
        for cell in SHORT_CELLS
    )


def is_h2o(rows: Rows) -> bool:
    """Whether H2O keeps most with up to 64 tokens left."""
    return all(
        means(CUT, SHORT_CELLS, ("H2O", budget))(rows) == best(budget)(rows)
        for budget in BUDGETS[:-1]
    )


def lost(among: Sequence[Cell], *by: Compression) -> Callable[[Rows], float]:
    """The most by which a mean differs from that of the whole cache."""
    return lambda rows: max(
        abs(mean(scores(rows, BITTEN), *one) - mean(scores(rows, BITTEN), one[0], WHOLE))
        for one in product(among, by)
    )


def no_difference(rows: Rows) -> bool:
    """Whether no cell shows one between 2 bits per token and 64 tokens of H2O."""
    pairs = (
        [kept(scores(rows, kind), cell, by) for kind, by in ((BITTEN, TWO), (CUT, ("H2O", 64)))]
        for cell in SHORT_CELLS
    )
    summaries = (paired_difference(*pair) for pair in pairs)
    return all(one.low < 0 < one.high for one in summaries)


FOUR = [(form, 4) for form in FORMS]
CLAIMS = {
    "streaming_early": Claim(
        means(CUT, [*EARLY_CELLS, LONG_CELLS[0]], *(("StreamingLLM", budget) for budget in BUDGETS))
    ),
    "streaming_marked": Claim(means(CUT, [*MARKED_CELLS, LONG_CELLS[1]], ("StreamingLLM", 32))),
    "blind": Claim(means(CUT, SHORT_CELLS + LONG_CELLS, ("random", 32), ("K-norm", 32))),
    "best_32": Claim(best(32), holds=is_h2o),
    "best_32_lowest": Claim(lowest(CUT, ("H2O", 32))),
    "best_64": Claim(best(64), holds=is_h2o),
    "best_64_lowest": Claim(lowest(CUT, ("H2O", 64))),
    "best_64_kib": Claim(lambda _: cut_kib(64), 0),
    "four_lost": Claim(lost(SHORT_CELLS + LONG_CELLS, *FOUR)),
    "two": Claim(means(BITTEN, SHORT_CELLS, *((form, 2) for form in FORMS))),
    "two_marked": Claim(means(BITTEN, LONG_CELLS[1:], *((form, 2) for form in FORMS))),
    "two_256": Claim(means(BITTEN, SHORT_CELLS, TWO), holds=no_difference),
    "two_lowest": Claim(lowest(BITTEN, TWO)),
    "two_kib": Claim(lambda _: kib(TWO, SHORT), 1),
    "one": Claim(means(BITTEN, SHORT_CELLS + LONG_CELLS, *((form, 1) for form in FORMS))),
    "whole_answers": Claim(lambda rows: mean(scores(rows, BITTEN), LONG_CELLS[1], WHOLE, "exact")),
    "two_answers": Claim(lambda rows: mean(scores(rows, BITTEN), LONG_CELLS[1], TWO, "exact")),
}


# --- measuring -----------------------------------------------------------------------------------


def measure(identity: str) -> str:
    """Both kinds of compression of one run, into files of results; returns a line to say."""
    from compressed import Compression as By
    from compressed import Evicting, Rounding

    from rulekeep.running.building import environment, prepare_process, resolve
    from rulekeep.running.trained import trained_model

    variant, setting, record = runs(opened(__file__).rows())[identity]
    folder = RunFolder(WORK / identity)
    folder.path.mkdir(parents=True, exist_ok=True)
    resolved = resolve(record.spec.parsed())
    prepare_process(1)
    made = trained_model(folder, record, resolved, lambda _: None)
    # What counts here is the bits, not the text of the code.
    if made.differences:
        return f"{identity}: not measured, since it came out otherwise: {made.differences}"
    lengths = {at: n for at, n in EXAMPLES.items() if at == SHORT or variant == "convolved"}
    for kind, model in ((CUT, Evicting), (BITTEN, Rounding)):
        compressions = [by for _, each in LINES[kind][1:] for by in each]
        compressing = model(made.model, record.spec.seed)
        rows = [*compressing.scores([By(*by) for by in compressions], resolved.task, lengths)]
        (whole,) = (one for one in rows if one.context == SHORT and one.name == WHOLE[0])
        (test,) = (one for one in record.tests() if one.context == SHORT)
        assert whole[3:] == tuple(round(test.figures[one], 6) for one in Score._fields), whole
        values = {"run": identity, "placement": setting.placement, "seed": record.spec.seed}
        values |= {"mixer": record.spec.mixer, "environment": environment(), "rows": rows}
        write_text(RESULTS / kind / f"{identity}.json", json.dumps(values, indent=1) + "\n")
    return f"{identity} measured"


def main() -> None:
    """Measures what is lacking, each run in a process of its own."""
    have = [{one["run"] for one in measured(kind)} for kind in (CUT, BITTEN)]
    todo = [one for one in runs(opened(__file__).rows()) if not all(one in of for of in have)]
    at_once = min(MOST_AT_ONCE, os.cpu_count() or 1)
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        for said in pool.map(measure, todo):
            sys.stdout.write(f"{said}\n")


STUDY = Study(
    question="Which rules are left when attention's cache is cut down or rounded?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=SHORT,
    reads=("exam", "attention-controls"),
    tables={
        "sizes": sizes,
        **{f"{kind}-{at}": table(kind, at) for kind, at in product((CUT, BITTEN), EXAMPLES)},
    },
    figures=FIGURES,
    claims=CLAIMS,
)

if __name__ == "__main__":
    main()
