"""A KV cache compressed once a text is read: what the scripts of it share; itself no script.

The runs are committed ones of `recite`, at the rate that dev chose: attention with rotary positions
(results/exam) and with eight taps and earliness (results/attention-controls). A model comes
from its kept weights or is trained again, and must give the figures of its record to the bit. It
reads a text; then the cache of each layer is compressed, once. The request and the answer go on
from what is left: the cache is compressed before it is known what is asked.
"""

import argparse
import json
import math
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from keeping import keep
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from rulekeep.analysis.plots import COLOURS, as_bytes
from rulekeep.analysis.rows import text_of
from rulekeep.analysis.summary import summarise_scores
from rulekeep.analysis.variants import is_of_task, is_variant
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record, RunFolder, Values, packed_values, read_runs, write_bytes
from rulekeep.running import costs
from rulekeep.running.evaluation import ModelPredictor, evaluate_samples
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.running.resolving import resolve
from rulekeep.running.trained import trained_model
from rulekeep.specs import RunSpec, contestants
from rulekeep.tasks import FewCombinationsWarning, SampledTask

RESULTS = Path(__file__).parent.parent / "results"
RUNS = ("attention-controls", "exam")
MIXERS = contestants(
    "attention[positions=rotary],"
    "benchmarks/convolved_attention.py:ConvolvedAttention[added_positions=earliness]"
)
# Weights are kept here, so that a second call trains nothing.
WORK = Path("runs") / "caches"
# Examples of each length, of test: at the first as many as the record has.
EXAMPLES = {256: 1000, 1028: 256}
# A process holds some 3 GB at 1,028 tokens.
_MOST_AT_ONCE = 4


class Compression(NamedTuple):
    """What is done to a cache, and how much is left: tokens, or bits of a number."""

    name: str
    amount: int


WHOLE = Compression("none", 0)
Row: TypeAlias = tuple[int, str, int, float, float]


class Reading(NamedTuple):
    """Texts that were read: how many were before them, and what came of it."""

    number: int
    state: ModelState
    seen: Any


class Compressing:
    """A model whose cache is compressed once the text is read.

    `ModelPredictor` takes it for the model.
    """

    def __init__(self, model: LanguageModel, seed: int) -> None:
        self.model, self.head, self.seed = model, model.head, seed
        self.by = WHOLE
        # What one text needs is read once for all compressions.
        self._read: dict[bytes, Reading] = {}

    def __call__(self, tokens: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """What the model says next."""
        result: tuple[Tensor, ModelState] = self.model(tokens, state)
        return result

    def modules(self) -> Iterator[nn.Module]:
        """Those of the model: `ModelPredictor` turns off what is for training alone."""
        return self.model.modules()

    def advance(self, text: Tensor) -> tuple[None, ModelState]:
        """The state after the text, its caches compressed."""
        key = text.numpy().tobytes()
        if key not in self._read:
            self._read[key] = Reading(len(self._read), *self.read(text))
        reading = self._read[key]
        if self.by == WHOLE:
            return None, reading.state
        return None, ModelState(reading.state.tokens, tuple(self.compressed(reading)))

    def forget(self) -> None:
        """Counts texts anew, so that no length depends on what was read at another."""
        self._read.clear()

    def read(self, text: Tensor) -> tuple[ModelState, Any]:
        """The state after the text, and what else `compressed` needs of it."""
        return self.model.advance(text)[1], None

    def compressed(self, reading: Reading) -> Iterable[Any]:
        """The cache of each layer, compressed by `self.by`."""
        raise NotImplementedError


def rows_of(
    compressing: Compressing,
    compressions: Sequence[Compression],
    task: SampledTask,
    contexts: Sequence[int],
) -> list[Row]:
    """Retention and `exact` by context and compression, first of the whole cache."""
    rows = []
    for context in contexts:
        compressing.forget()
        for by in (WHOLE, *compressions):
            compressing.by = by
            predictor = ModelPredictor(compressing)  # type: ignore[arg-type]
            seed, examples = compressing.seed, EXAMPLES[context]
            row = evaluate_samples(predictor, task, "test", context, examples, seed)
            rows.append((context, *by, round(row["retention"], 6), round(row["exact"], 6)))
    return rows


def committed() -> list[Record]:
    """Records of the runs, marked rules last."""
    found, rate = list[Record](), dict[str, float | None]()
    for record in (one for root in RUNS for one in read_runs(RESULTS / root).records):
        if not is_of_task(record, "recite") or not any(is_variant(record, by) for by in MIXERS):
            continue
        found.append(record)
        # Early rules were run at the rate that dev chose on marked ones, and at no other.
        if is_of_task(record, "recite", placement="early"):
            rate[record.spec.mixer] = record.spec.learning_rate
    chosen = (one for one in found if one.spec.learning_rate == rate[one.spec.mixer])
    return sorted(chosen, key=_order)


def _order(record: Record) -> tuple[str, int, str, str]:
    spec = record.spec
    return str(spec.task_options["placement"]), spec.seed, spec.mixer, record.id


def measure(
    record: Record, root: Path, compressing: type[Compressing], compressions: Sequence[Compression]
) -> str:
    """One run's rows, into its file of `root`; returns a line to say."""
    warnings.simplefilter("ignore", FewCombinationsWarning)
    folder = RunFolder(WORK / record.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    asked = record.spec.parsed()
    assert isinstance(asked, RunSpec), record.id
    resolved = resolve(asked)
    costs.prepare_process(1)
    made = trained_model(folder, record, resolved, lambda _: None)
    # What counts here is the bits, not the text of the code.
    if made.differences:
        return f"{record.id}: not measured, since it came out otherwise: {made.differences}"
    spec = resolved.spec
    # Beyond the lengths trained on rotary attention has lost its rules before any compression.
    contexts = [at for at in EXAMPLES if at <= spec.context or spec.mixer != "attention"]
    rows = rows_of(compressing(made.model, spec.seed), compressions, resolved.task, contexts)
    hold(rows, record)
    keep(
        root / f"{record.id}.json",
        run=record.id,
        source_then=record.source,
        source_now=resolved.source,
        mixer=spec.mixer,
        placement=spec.task_options["placement"],
        seed=spec.seed,
        learning_rate=spec.learning_rate,
        rows=rows,
    )
    return f"{record.id} measured"


def hold(rows: Sequence[Row], record: Record) -> None:
    """The whole cache scores what the record says, where it has as many examples."""
    tested = {test.context: test for test in record.tests()}
    for context, name, _, *figures in rows:
        test = tested[context]
        if name == WHOLE.name and test.examples == EXAMPLES[context]:
            assert figures == [round(test.figures[one], 6) for one in ("retention", "exact")], test


def _is_measured(record: Record, root: Path) -> bool:
    """Under the id that it has."""
    return record.id in {one["run"] for one in measured(root)}


def measured(root: Path) -> list[Values]:
    """What was measured of each run: files of a run each, or packed."""
    files = [json.loads(path.read_text()) for path in sorted(root.glob("*.json"))]
    return [*files, *packed_values(root, [])]


def run(root: Path, compressing: type[Compressing], compressions: Sequence[Compression]) -> None:
    """Measures what `root` lacks, each run in a process of its own."""
    todo = [record for record in committed() if not _is_measured(record, root)]
    at_once = min(_MOST_AT_ONCE, os.cpu_count() or 1)
    measuring = partial(measure, root=root, compressing=compressing, compressions=compressions)
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        for said in pool.map(measuring, todo):
            print(said, flush=True)


class Cell(NamedTuple):
    """One attention, where its rules stand, and how long the text is."""

    mixer: str
    placement: str
    context: int

    @property
    def name(self) -> str:
        """As a table calls it."""
        kind = "rotary" if self.mixer == "attention" else "with taps"
        return f"{kind}, {self.placement}"


Scores: TypeAlias = dict[Cell, dict[Compression, dict[int, tuple[float, float]]]]


def scores(root: Path) -> Scores:
    """Retention and `exact` of each seed, by cell and compression."""
    found: Scores = {}
    for one in measured(root):
        for context, name, amount, retention, exact in one["rows"]:
            cell = found.setdefault(Cell(one["mixer"], one["placement"], context), {})
            cell.setdefault(Compression(name, amount), {})[one["seed"]] = (retention, exact)
    return found


def cells(found: Scores, context: int) -> list[Cell]:
    """The cells at one length, rotary positions first, early rules first."""
    chosen = (cell for cell in found if cell.context == context)
    return sorted(chosen, key=lambda cell: (cell.mixer != "attention", cell.placement))


# What a row is called, and its compressions, a column each.
Line: TypeAlias = tuple[str, Sequence[Compression]]


def page(found: Scores, head: Sequence[str], lines: Sequence[Line]) -> str:
    """A table a length, as Markdown: retention, first of the whole cache."""
    tables = []
    for context in EXAMPLES:
        body = []
        for cell in cells(found, context):
            for name, compressions in (("the whole cache", [WHOLE]), *lines):
                texts = [_text(found[cell], by) for by in compressions]
                blanks = [""] * (len(head) - 1 - len(texts))
                body.append([cell.name, name, *texts, *blanks])
        tables.append(markdown_table([f"{context:,} tokens", *head], body))
    return "\n\n".join(tables)


def _text(compressed: dict[Compression, dict[int, tuple[float, float]]], by: Compression) -> str:
    return text_of(summarise_scores(_retained(compressed, by)) if by in compressed else None)


def figure(
    found: Scores,
    lines: Sequence[Line],
    sizes: Mapping[Compression, float],
    ticks: Sequence[int],
    label: str,
    levels: Sequence[tuple[Compression, str, str]] = (),
) -> Figure:
    """A panel a cell at the length trained on: retention against what is left, a line each.

    `sizes` are how much is left by each compression; `levels` are compressions drawn as a level
    each, with their line's style and name.
    """
    context = min(EXAMPLES)
    drawn = Figure(figsize=(9, 6.5), layout="constrained")
    panels = drawn.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, cell in zip(panels, cells(found, context), strict=False):
        for (name, compressions), colour in zip(lines, COLOURS, strict=False):
            means = []
            for by in compressions:
                seeds = _retained(found[cell], by)
                axes.plot([sizes[by]] * len(seeds), seeds, ".", color=colour, alpha=0.3)
                means.append(statistics.mean(seeds) if seeds else math.nan)
            axes.plot([sizes[by] for by in compressions], means, color=colour, label=name)
        for by, style, name in ((WHOLE, "--", "the whole cache"), *levels):
            seeds = _retained(found[cell], by)
            if seeds:
                level = statistics.mean(seeds)
                axes.axhline(level, color="black", linestyle=style, linewidth=1, label=name)
        _dress(axes, cell, ticks, label)
    drawn_lines, names = panels[0].get_legend_handles_labels()
    if names:
        drawn.legend(drawn_lines, names, loc="outside upper center", ncols=4, fontsize=8)
    return drawn


def _retained(
    compressed: dict[Compression, dict[int, tuple[float, float]]], by: Compression
) -> list[float]:
    return [retention for retention, _ in compressed.get(by, {}).values()]


def _dress(axes: Axes, cell: Cell, ticks: Sequence[int], label: str) -> None:
    axes.set_title(f"attention {cell.name} rules", fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.set_xlabel(label, fontsize=9)
    axes.set_ylabel("retention", fontsize=9)
    axes.label_outer()


def main(
    root: Path,
    compressing: type[Compressing],
    compressions: Sequence[Compression],
    page: Callable[[Scores], str],
    figure: Callable[[Scores], Figure],
) -> None:
    """A script: with `--run` measures what `root` lacks, else prints its page and draws it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", action="store_true")
    if parser.parse_args().run:
        run(root, compressing, compressions)
        return
    found = scores(root)
    write_bytes(root / f"{root.name}.png", as_bytes(figure(found), "png"))
    sys.stdout.write(page(found) + "\n")
