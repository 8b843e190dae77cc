"""Which rules does a KV cache keep when most of it is thrown away? Evictions, side by side.

    python benchmarks/evictions.py --run                  # what results/evictions lacks
    python benchmarks/evictions.py                        # the tables, and evictions.png

The runs are committed ones of `recite`, at the rate that dev chose: attention with rotary positions
(results/exam) and with eight taps and earliness (results/attention-controls). Each is trained
again, which has to give its record to the bit, and reads a text; then the cache of each layer is
cut down to so many tokens, once, and the request and the answer go on from what is left. So it is
where a cache is compressed before it is known what is asked next.

    first           the first token alone, `<bos>`: what gets past any cut
    random          any tokens
    StreamingLLM    the first 4 and the last                                   arXiv 2309.17453
    K-norm          keys of the smallest norm                                  arXiv 2406.11430
    TOVA            most attended by the last query, mean over heads           arXiv 2401.06104
    H2O             half the last; half most attended by all queries so far    arXiv 2306.14048
    SnapKV          the last w; most attended by them, mean over 5 neighbours  arXiv 2404.14469

Each head is cut by itself but for TOVA, StreamingLLM and `first`. Departures: H2O, TOVA and
StreamingLLM go on evicting while they answer, and here do not; TOVA's, H2O's and SnapKV's prompts
end with the question, and here it comes after the cut; w is 32, or half the budget if that is less;
K-norm leaves the first two layers whole in its authors' code, and these models have two. With
rotary positions the next token's place is the number of tokens that are left: keys are turned
so that each keeps its distance to what comes, but for the first 4 of StreamingLLM, whose places are
those in the cache. The taps' own state, the last seven tokens of a layer, is not cut.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from keeping import keep
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from rulekeep import costs
from rulekeep.article.report import markdown_table
from rulekeep.evaluation import ModelPredictor, evaluate_samples
from rulekeep.explain.remade import remade
from rulekeep.mixers.attention import Attention
from rulekeep.model import LanguageModel, ModelState
from rulekeep.plots import COLOURS, as_bytes
from rulekeep.positions import rotate
from rulekeep.resolving import resolve
from rulekeep.seeds import named_seed
from rulekeep.specs import RunSpec
from rulekeep.store import Record, RunFolder, read_record, write_bytes
from rulekeep.summary import summarise_scores
from rulekeep.tasks import FewCombinationsWarning

RESULTS = Path(__file__).parent.parent / "results"
ROOT = RESULTS / "evictions"
RUNS = ("attention-controls", "exam")
FIGURE = "evictions.png"
# Weights are kept here, so that a second call trains nothing.
WORK = Path("runs") / "evictions"
# Tokens a layer that are left: 512 bytes each at width 64.
BUDGETS = (8, 16, 32, 64, 128)
# Examples of each length, of test: at the first as many as the record has.
EXAMPLES = {256: 1000, 1028: 256}
SINKS, WINDOW, NEIGHBOURS = 4, 32, 5
NONE, FIRST = "none", "first"
EVICTIONS = ("random", "StreamingLLM", "K-norm", "TOVA", "H2O", "SnapKV")
# Numbers of attention weights at once: 128 MB in float32, of which three are there.
_WEIGHTS_AT_ONCE = 2**25
# A process holds some 3 GB at 1,028 tokens.
_MOST_AT_ONCE = 4


def attended(queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """How much each token is attended to, by what counts it; both `[batch heads time k]`.

    `H2O` is the sum over all queries, `[batch heads time]`, `TOVA` the last query's mean over
    heads, and `SnapKV` each of the last queries by itself, `[batch heads window time]`.
    """
    batch, heads, time, k = queries.shape
    found: dict[str, list[Tensor]] = {"H2O": [], "TOVA": [], "SnapKV": []}
    rows = max(1, _WEIGHTS_AT_ONCE // (heads * time * time))
    later = torch.ones(time, time, dtype=torch.bool).triu(1)
    for start in range(0, batch, rows):
        part = slice(start, start + rows)
        scores = queries[part] @ keys[part].transpose(2, 3) / k**0.5
        weights = scores.masked_fill(later, -math.inf).softmax(dim=3)
        found["H2O"].append(weights.sum(dim=2))
        found["TOVA"].append(weights[:, :, -1].mean(1, keepdim=True).expand(-1, heads, -1))
        found["SnapKV"].append(weights[:, :, -WINDOW:].clone())
    return {name: torch.cat(parts) for name, parts in found.items()}


def kept(
    eviction: str,
    keys: Tensor,
    attention: dict[str, Tensor],
    budget: int,
    stream: tuple[object, ...] = (),
) -> Tensor:
    """Which tokens are left of a layer's keys `[batch heads text k]`: `[batch heads budget]`.

    Of each head, in the order in which they stand. `stream` names what is drawn at random.
    """
    batch, heads, text, _ = keys.shape
    first, last = 0, 0
    if eviction == "random":
        generator = torch.Generator().manual_seed(named_seed("evictions", *stream))
        score = torch.rand(batch, heads, text, generator=generator)
    elif eviction in (FIRST, "StreamingLLM"):
        first = min(SINKS, budget)
        score, last = torch.zeros(batch, heads, text), budget - first
    elif eviction == "K-norm":
        score = -keys.norm(dim=3)
    elif eviction == "H2O":
        last, score = budget // 2, attention["H2O"]
    elif eviction == "TOVA":
        score = attention["TOVA"]
    else:
        last = min(WINDOW, budget // 2)
        before = attention["SnapKV"][:, :, -last:, :-last].sum(dim=2)
        pooled = F.avg_pool1d(before, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2)
        score = F.pad(pooled, (0, last))
    place = torch.arange(text)
    always = (place < first) | (place >= text - last)
    score = score.masked_fill(always, math.inf)
    return score.topk(budget, dim=2).indices.sort(dim=2).values


def cut(cache: Any, places: Tensor, mixer: Attention, sinks: int = 0) -> Any:
    """A cache with the tokens at these places alone, each as far from what comes as it was.

    But for so many `sinks` at its start, whose places are those in the cache.
    """
    assert mixer.positions in ("none", "rotary"), "ALiBi counts distances in the cache"
    text, budget = cache.keys.shape[2], places.shape[2]
    index = places[..., None].expand(-1, -1, -1, mixer.head_width)
    keys, values = (part.gather(2, index) for part in (cache.keys, cache.values))
    if mixer.positions == "rotary":
        # The next token's place is the number of keys before it.
        turned = torch.full((budget,), budget - text)
        turned[:sinks] = 0
        keys = rotate(keys, turned, mixer.rotary_base)
    return cache._replace(keys=keys, values=values)


class Evicting:
    """A model whose cache is cut once the text is read; `ModelPredictor` takes it for the model."""

    def __init__(self, model: LanguageModel, seed: int) -> None:
        self.model, self.head, self.seed = model, model.head, seed
        self.eviction, self.budget = NONE, 0
        # What one text needs is read once for all evictions.
        self._read: dict[bytes, tuple[int, ModelState, list[dict[str, Tensor]]]] = {}

    def __call__(self, tokens: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """What the model says next."""
        result: tuple[Tensor, ModelState] = self.model(tokens, state)
        return result

    def advance(self, text: Tensor) -> tuple[None, ModelState]:
        """The state after the text, with what is left of its caches."""
        key = text.numpy().tobytes()
        if key not in self._read:
            self._read[key] = (len(self._read), *self._attended(text))
        number, state, attention = self._read[key]
        if self.eviction == NONE:
            return None, state
        sinks = SINKS if self.eviction == "StreamingLLM" else 0
        layers = []
        for layer, (mixer, cache) in enumerate(zip(self._mixers(), state.layers, strict=True)):
            stream = (self.seed, number, layer, text.shape[1], self.budget)
            places = kept(self.eviction, cache.keys, attention[layer], self.budget, stream)
            layers.append(cut(cache, places, mixer, sinks))
        return None, ModelState(state.tokens, tuple(layers))

    def _mixers(self) -> list[Attention]:
        return [block.mixer for block in self.model.blocks]  # type: ignore[misc]

    def _attended(self, text: Tensor) -> tuple[ModelState, list[dict[str, Tensor]]]:
        found: list[dict[str, Tensor]] = []

        def watch(mixer: Attention) -> None:
            def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
                found.append(attended(queries, keys))
                return type(mixer)._attend(mixer, queries, keys, values)

            mixer._attend = attend  # type: ignore[method-assign]

        for mixer in self._mixers():
            watch(mixer)
        try:
            _, state = self.model.advance(text)
        finally:
            for mixer in self._mixers():
                del mixer._attend
        return state, found


def rows_of(model: LanguageModel, task: Any, seed: int, contexts: Sequence[int]) -> list[list[Any]]:
    """Context, eviction, budget, retention, exact: each a row.

    First the whole cache, with a budget of 0.
    """
    rows = []
    for context in contexts:
        evicting = Evicting(model, seed)
        for eviction, budget in [(NONE, 0), (FIRST, 1), *product(EVICTIONS, BUDGETS)]:
            evicting.eviction, evicting.budget = eviction, budget
            predictor = ModelPredictor(evicting)  # type: ignore[arg-type]
            row = evaluate_samples(predictor, task, "test", context, EXAMPLES[context], seed)
            figures = [round(row[figure], 6) for figure in ("retention", "exact")]
            rows.append([context, eviction, budget, *figures])
    return rows


def committed() -> list[Path]:
    """Records of the runs, marked rules last."""
    found, rate = [], {}
    for path in (one for root in RUNS for one in (RESULTS / root).glob("*/record.json")):
        spec = read_record(path)["spec"]
        options, placement = spec["mixer_options"], spec["task_options"].get("placement")
        if spec["task"] != "recite":
            continue
        if "taps" not in options and options.get("positions") != "rotary":
            continue
        found.append((placement, spec["seed"], spec["mixer"], spec["learning_rate"], path))
        # Early rules were run at the rate that dev chose on marked ones, and at no other.
        if placement == "early":
            rate[spec["mixer"]] = spec["learning_rate"]
    return [path for *_, mixer, chosen, path in sorted(found) if chosen == rate[mixer]]


def measure(path: Path) -> str:
    """One run's rows, into its file of results/evictions; returns a line to say."""
    warnings.simplefilter("ignore", FewCombinationsWarning)
    record = read_record(path)
    folder = WORK / record["id"]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "record.json")
    resolved = resolve(RunSpec.parse_json(record["spec"]))
    costs.prepare_process(1)
    made = remade(RunFolder(folder), record, resolved, lambda _: None)
    # Comments of a script count in the digest of its code: what counts here is the bits.
    if made.differences:
        return f"{path}: not measured, since it came out otherwise: {made.differences}"
    spec = resolved.spec
    # Beyond the lengths trained on rotary attention has lost its rules before any cut.
    contexts = [at for at in EXAMPLES if at <= spec.context or spec.mixer != "attention"]
    rows = rows_of(made.model, resolved.task, spec.seed, contexts)
    _hold(rows, record)
    keep(
        ROOT / f"{record['id']}.json",
        run=record["id"],
        source_then=record["source"],
        source_now=resolved.source,
        mixer=spec.mixer,
        placement=spec.task_options["placement"],
        seed=spec.seed,
        learning_rate=spec.learning_rate,
        rows=rows,
    )
    return f"{record['id']} measured"


def _hold(rows: Sequence[Sequence[Any]], record: Record) -> None:
    """The whole cache scores what the record says, where it has as many examples."""
    tested = {row["context"]: row for row in record["evaluations"] if row["split"] == "test"}
    for context, eviction, _, *figures in rows:
        row = tested[context]
        if eviction == NONE and row["n"] == EXAMPLES[context]:
            assert figures == [round(row[one], 6) for one in ("retention", "exact")], row


def run() -> None:
    """Measures what is missing, each run in a process of its own."""
    todo = [path for path in committed() if not (ROOT / f"{path.parent.name}.json").exists()]
    at_once = min(_MOST_AT_ONCE, os.cpu_count() or 1)
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        for said in pool.map(measure, todo):
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


class Cut(NamedTuple):
    """What a cache was cut by, and to how many tokens."""

    eviction: str
    budget: int


WHOLE, FLOOR = Cut(NONE, 0), Cut(FIRST, 1)
Scores: TypeAlias = dict[Cell, dict[Cut, dict[int, tuple[float, float]]]]


def scores(root: Path = ROOT) -> Scores:
    """Retention and `exact` of each seed, by cell and cut."""
    found: Scores = {}
    for path in sorted(root.glob("*.json")):
        one = json.loads(path.read_text())
        for context, eviction, budget, retention, exact in one["rows"]:
            cell = found.setdefault(Cell(one["mixer"], one["placement"], context), {})
            cell.setdefault(Cut(eviction, budget), {})[one["seed"]] = (retention, exact)
    return found


def cells(found: Scores, context: int) -> list[Cell]:
    """The cells at one length, rotary positions first, early rules first."""
    chosen = (cell for cell in found if cell.context == context)
    return sorted(chosen, key=lambda cell: (cell.mixer != "attention", cell.placement))


def page(found: Scores) -> str:
    """A table a length, as Markdown: retention."""
    tables = []
    for context in EXAMPLES:
        head = [f"{context:,} tokens", "eviction", *(f"{budget} left" for budget in BUDGETS)]
        body = []
        for cell in cells(found, context):
            cuts = found[cell]
            body.append([cell.name, "the whole cache", _text(cuts, WHOLE), *[""] * 4])
            body.append([cell.name, "the first token alone", _text(cuts, FLOOR), *[""] * 4])
            for eviction in EVICTIONS:
                texts = [_text(cuts, Cut(eviction, budget)) for budget in BUDGETS]
                body.append([cell.name, eviction, *texts])
        tables.append(markdown_table(head, body))
    return "\n\n".join(tables)


def _text(cuts: dict[Cut, dict[int, tuple[float, float]]], by: Cut) -> str:
    if by not in cuts:
        return "not run"
    return summarise_scores([retention for retention, _ in cuts[by].values()]).text()


def figure(found: Scores) -> Figure:
    """A panel a cell at the length trained on: retention against what is left, by eviction."""
    context = min(EXAMPLES)
    drawn = Figure(figsize=(9, 6.5), layout="constrained")
    panels = drawn.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, cell in zip(panels, cells(found, context), strict=False):
        for eviction, colour in zip(EVICTIONS, COLOURS, strict=True):
            means = []
            for budget in BUDGETS:
                seeds = [kept for kept, _ in found[cell].get(Cut(eviction, budget), {}).values()]
                axes.plot([budget] * len(seeds), seeds, ".", color=colour, alpha=0.3)
                means.append(statistics.mean(seeds) if seeds else math.nan)
            axes.plot(BUDGETS, means, color=colour, label=eviction)
        for by, style, name in ((WHOLE, "--", "the whole cache"), (FLOOR, ":", "the first token")):
            seeds = [kept for kept, _ in found[cell].get(by, {}).values()]
            if seeds:
                level = statistics.mean(seeds)
                axes.axhline(level, color="black", linestyle=style, linewidth=1, label=name)
        axes.set_title(f"attention {cell.name} rules", fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.set_xlabel(f"tokens a layer that are left of {context}", fontsize=9)
        axes.set_ylabel("retention", fontsize=9)
        axes.label_outer()
    lines, names = panels[0].get_legend_handles_labels()
    if lines:
        drawn.legend(lines, names, loc="outside upper center", ncols=4, fontsize=8)
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", action="store_true")
    if parser.parse_args().run:
        run()
    else:
        every = scores()
        write_bytes(ROOT / FIGURE, as_bytes(figure(every), "png"))
        sys.stdout.write(page(every) + "\n")
