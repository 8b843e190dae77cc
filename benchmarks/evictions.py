"""Which rules does a KV cache keep when most of it is thrown away? Evictions, side by side.

    python benchmarks/evictions.py --run                  # what results/evictions lacks
    python benchmarks/evictions.py                        # the tables, and evictions.png

The runs are committed ones of `recite`, at the rate that dev chose: attention with rotary positions
(results/exam) and with eight taps and earliness (results/attention-controls). Each is trained
again, to the bit, and reads a text; then its cache is cut down to so many tokens a layer, once, as
at the end of a prompt, and the answer goes on from what is left. Both layers are cut, each head by
itself but for TOVA and StreamingLLM.

    random          any tokens
    StreamingLLM    the first 4 and the last                                   arXiv 2309.17453
    K-norm          keys of the smallest norm                                  arXiv 2406.11430
    TOVA            most attended by the last query, mean over heads           arXiv 2401.06104
    H2O             half the last; half most attended by all queries so far    arXiv 2306.14048
    SnapKV          the last w; most attended by them, over 5 neighbours       arXiv 2404.14469

H2O cuts token by token where it is published, here at the end. SnapKV's w is 32, or half the budget
if that is less. A cut before the request is known (`asked` false) is what a dialogue needs, where
the next request is still to come; one that has seen the request, `<go>`, is what most papers test.
Keys that are turned (rotary) are turned on, so that each keeps its distance to what comes.
"""

import argparse
import json
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
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
from rulekeep.store import RunFolder, read_record, write_bytes
from rulekeep.summary import summarise_scores
from rulekeep.tasks import FewCombinationsWarning

RESULTS = Path(__file__).parent.parent / "results"
ROOT = RESULTS / "evictions"
FIGURE = "evictions.png"
# Weights are kept here, so that a second call trains nothing.
WORK = Path("runs") / "evictions"
# Tokens a layer that are left: 512 bytes each at width 64.
BUDGETS = (8, 16, 32, 64, 128)
CONTEXTS = (256, 1028)
EXAMPLES = 256
SINKS, WINDOW, NEIGHBOURS = 4, 32, 5
NONE = "none"
EVICTIONS = ("random", "StreamingLLM", "K-norm", "TOVA", "H2O", "SnapKV")
# Those that ask what was attended to, and so may know the request.
ATTENDING = ("TOVA", "H2O", "SnapKV")
# Numbers of attention weights at once: 256 MB in float32.
_WEIGHTS_AT_ONCE = 2**26


class Seen(NamedTuple):
    """One layer's queries and keys of a text, and of the request after it if that is known."""

    queries: Tensor
    keys: Tensor


def attended(seen: Seen, text: int) -> dict[str, Tensor]:
    """How much each token of the text is attended to, by what counts it.

    `H2O` is the sum over all queries, `[batch heads text]`, `TOVA` the last query's mean over
    heads, and `SnapKV` each of the last queries by itself, `[batch heads window text]`.
    """
    queries, keys = seen
    batch, heads, time, k = queries.shape
    found: dict[str, list[Tensor]] = {name: [] for name in ATTENDING}
    rows = max(1, _WEIGHTS_AT_ONCE // (heads * time * time))
    later = torch.ones(time, time, dtype=torch.bool).triu(1)
    for start in range(0, batch, rows):
        part = slice(start, start + rows)
        scores = queries[part] @ keys[part].transpose(2, 3) / k**0.5
        weights = scores.masked_fill(later, float("-inf")).softmax(dim=3)[..., :text]
        found["H2O"].append(weights.sum(dim=2))
        found["TOVA"].append(weights[:, :, -1].mean(1, keepdim=True).expand(-1, heads, -1))
        found["SnapKV"].append(weights[:, :, -WINDOW:].clone())
    return {name: torch.cat(parts) for name, parts in found.items()}


def kept(
    eviction: str, keys: Tensor, attention: dict[str, Tensor], budget: int, layer: int = 0
) -> Tensor:
    """Which tokens are left of a layer's keys `[batch heads text k]`: `[batch heads budget]`.

    Of each head, in the order in which they stand.
    """
    batch, heads, text, _ = keys.shape
    place = torch.arange(text)
    first, last = 0, 0
    if eviction == "random":
        stream = torch.Generator().manual_seed(named_seed("evictions", layer, text, budget))
        score = torch.rand(batch, heads, text, generator=stream)
    elif eviction == "StreamingLLM":
        first, last = SINKS, budget - SINKS
        score = torch.zeros(batch, heads, text)
    elif eviction == "K-norm":
        score = -keys.norm(dim=3)
    elif eviction == "H2O":
        last, score = budget // 2, attention["H2O"]
    elif eviction == "TOVA":
        score = attention["TOVA"]
    else:
        last = min(WINDOW, budget // 2)
        score = attention["SnapKV"][:, :, -last:].sum(dim=2)
        score = F.avg_pool1d(score, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2)
    always = (place < first) | (place >= text - last)
    score = score.masked_fill(always, float("inf"))
    return score.topk(budget, dim=2).indices.sort(dim=2).values


def cut(cache: Any, places: Tensor, mixer: Attention) -> Any:
    """A cache with the tokens at these places alone, each as far from what comes as it was."""
    text, budget = cache.keys.shape[2], places.shape[2]
    index = places[..., None].expand(-1, -1, -1, mixer.head_width)
    keys, values = (part.gather(2, index) for part in (cache.keys, cache.values))
    if mixer.positions == "rotary":
        # The next token's place is the number of keys before it.
        keys = rotate(keys, torch.full((budget,), budget - text), mixer.rotary_base)
    return cache._replace(keys=keys, values=values)


class Evicting:
    """A model whose cache is cut once the text is read; `ModelPredictor` takes it for the model.

    `request` are the tokens that a cut knows beside the text; None is a cut that knows none.
    """

    def __init__(self, model: LanguageModel, request: Sequence[int] | None = None) -> None:
        self.model, self.head = model, model.head
        self.request = request
        self.eviction, self.budget = NONE, 0
        # What one text needs is read once for all evictions.
        self._read: dict[bytes, tuple[ModelState, list[dict[str, Tensor]]]] = {}

    def __call__(self, tokens: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """What the model says next."""
        result: tuple[Tensor, ModelState] = self.model(tokens, state)
        return result

    def advance(self, text: Tensor) -> tuple[None, ModelState]:
        """The state after the text, with what is left of its caches."""
        key = text.numpy().tobytes()
        if key not in self._read:
            self._read[key] = self._attended(text)
        state, attention = self._read[key]
        if self.eviction == NONE:
            return None, state
        layers = []
        for layer, mixer in enumerate(self._mixers()):
            cache = state.layers[layer]
            places = kept(self.eviction, cache.keys, attention[layer], self.budget, layer)
            layers.append(cut(cache, places, mixer))
        return None, ModelState(state.tokens, tuple(layers))

    def _mixers(self) -> list[Attention]:
        return [block.mixer for block in self.model.blocks]  # type: ignore[misc]

    def _attended(self, text: Tensor) -> tuple[ModelState, list[dict[str, Tensor]]]:
        queries: list[list[Tensor]] = [[] for _ in self.model.blocks]
        keys: list[Tensor] = [torch.empty(0) for _ in self.model.blocks]

        def watch(layer: int, mixer: Attention) -> None:
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                queries[layer].append(q)
                keys[layer] = k
                return type(mixer)._attend(mixer, q, k, v)

            mixer._attend = attend  # type: ignore[method-assign, assignment]

        for layer, mixer in enumerate(self._mixers()):
            watch(layer, mixer)
        try:
            _, state = self.model.advance(text)
            if self.request is not None:
                asked = torch.tensor(self.request).expand(len(text), -1)
                self.model.advance(asked, state)
        finally:
            for mixer in self._mixers():
                del mixer._attend
        seen = [Seen(torch.cat(q, dim=2), k) for q, k in zip(queries, keys, strict=True)]
        return state, [attended(one, text.shape[1]) for one in seen]


def rows_of(model: LanguageModel, task: Any, seed: int) -> list[list[Any]]:
    """Context, whether the request is known, eviction, budget, retention, exact: each a row.

    First the whole cache, with a budget of 0.
    """
    go = [task.vocabulary.index("<go>")]
    rows = []
    for context in CONTEXTS:
        for asked in (False, True):
            evicting = Evicting(model, go if asked else None)
            cuts = list(product(ATTENDING if asked else EVICTIONS, BUDGETS))
            for eviction, budget in cuts if asked else [(NONE, 0), *cuts]:
                evicting.eviction, evicting.budget = eviction, budget
                predictor = ModelPredictor(evicting)  # type: ignore[arg-type]
                row = evaluate_samples(predictor, task, "test", context, EXAMPLES, seed)
                scores = [round(row[figure], 6) for figure in ("retention", "exact")]
                rows.append([context, asked, eviction, budget, *scores])
    return rows


def committed() -> list[Path]:
    """Records of the runs, marked rules last."""
    found = []
    for root, positions in (("attention-controls", "earliness"), ("exam", "none")):
        for path in sorted((RESULTS / root).glob("*/record.json")):
            spec = read_record(path)["spec"]
            rotary = spec["mixer_options"].get("positions") == "rotary"
            if spec["task"] != "recite" or spec["added_positions"] != positions:
                continue
            if (root == "exam") == rotary:
                found.append((path, spec))
    rate = {}
    for _, spec in found:
        # Early rules were run at the rate that dev chose on marked ones, and at no other.
        if spec["task_options"]["placement"] == "early":
            rate[spec["mixer"]] = spec["learning_rate"]
    chosen = [(path, spec) for path, spec in found if spec["learning_rate"] == rate[spec["mixer"]]]
    chosen.sort(key=lambda one: (one[1]["task_options"]["placement"], one[1]["seed"]))
    return [path for path, _ in chosen]


def measure(path: Path) -> str:
    """One run's rows, into its file of results/evictions; returns a line to say."""
    from keeping import keep

    warnings.simplefilter("ignore", FewCombinationsWarning)
    record = read_record(path)
    folder = WORK / record["id"]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "record.json")
    resolved = resolve(RunSpec.parse_json(record["spec"]))
    if resolved.source != record["source"]:
        return f"{path}: made by other code than there is now; not measured"
    costs.prepare_process(1)
    made = remade(RunFolder(folder), record, resolved, lambda _: None)
    spec = resolved.spec
    keep(
        ROOT / f"{record['id']}.json",
        run=record["id"],
        mixer=spec.mixer,
        placement=spec.task_options["placement"],
        seed=spec.seed,
        learning_rate=spec.learning_rate,
        differences=made.differences,
        rows=rows_of(made.model, resolved.task, spec.seed),
    )
    return f"{record['id']} measured"


def run() -> None:
    """Measures what is missing, each run in a process of its own."""
    todo = [path for path in committed() if not (ROOT / f"{path.parent.name}.json").exists()]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
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
    """What a cache was cut by, and to how many tokens; whether it knew the request."""

    asked: bool
    eviction: str
    budget: int

    @property
    def name(self) -> str:
        """As a table calls it."""
        return f"{self.eviction}, asked" if self.asked else self.eviction


Scores: TypeAlias = dict[Cell, dict[Cut, dict[int, tuple[float, float]]]]


def scores(root: Path = ROOT) -> Scores:
    """Retention and `exact` of each seed, by cell and cut."""
    found: Scores = {}
    for path in sorted(root.glob("*.json")):
        one = json.loads(path.read_text())
        for context, asked, eviction, budget, *both in one["rows"]:
            cell = found.setdefault(Cell(one["mixer"], one["placement"], context), {})
            cell.setdefault(Cut(asked, eviction, budget), {})[one["seed"]] = tuple(both)
    return found


def page(found: Scores) -> str:
    """A table a length, as Markdown: retention."""
    tables = []
    for context in CONTEXTS:
        cells = sorted((cell for cell in found if cell.context == context), reverse=True)
        head = [f"retention, {context:,} tokens", "whole", *map(_sized, BUDGETS)]
        body = []
        for cell in cells:
            cuts = found[cell]
            whole = _text(cuts, Cut(False, NONE, 0))
            for asked, eviction in _kinds():
                texts = [_text(cuts, Cut(asked, eviction, budget)) for budget in BUDGETS]
                body.append([f"{cell.name}: {Cut(asked, eviction, 0).name}", whole, *texts])
        tables.append(markdown_table(head, body))
    return "\n".join(tables)


def _kinds() -> list[tuple[bool, str]]:
    return [(False, one) for one in EVICTIONS] + [(True, one) for one in ATTENDING]


def _sized(budget: int) -> str:
    return f"{budget} left: {_kib(budget):.0f} KiB"


def _kib(budget: int) -> float:
    # A key and a value of 64 numbers of four bytes each.
    return budget * 2 * 64 * 4 / 1024


def _text(cuts: dict[Cut, dict[int, tuple[float, float]]], cut: Cut) -> str:
    seeds = cuts.get(cut)
    if seeds is None:
        return "not run"
    return summarise_scores([retention for retention, _ in seeds.values()]).text()


def figure(found: Scores) -> Figure:
    """A panel a cell at the length trained on: retention against what is left, by eviction."""
    cells = sorted((cell for cell in found if cell.context == CONTEXTS[0]), reverse=True)
    drawn = Figure(figsize=(9, 6.5), layout="constrained")
    panels = drawn.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, cell in zip(panels, cells, strict=False):
        for asked, eviction in _kinds():
            means, colour = [], COLOURS[EVICTIONS.index(eviction)]
            for budget in BUDGETS:
                seeds = found[cell].get(Cut(asked, eviction, budget), {})
                kept = [retention for retention, _ in seeds.values()]
                axes.plot([_kib(budget)] * len(kept), kept, ".", color=colour, alpha=0.25)
                means.append(sum(kept) / len(kept) if kept else float("nan"))
            sizes = [_kib(budget) for budget in BUDGETS]
            axes.plot(
                sizes,
                means,
                ":" if asked else "-",
                color=colour,
                label=Cut(asked, eviction, 0).name,
            )
        axes.set_title(f"attention {cell.name} rules", fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
        axes.grid(alpha=0.3)
        axes.set_ylim(-0.02, 1.02)
    drawn.supxlabel("KiB of cache a layer that are left", fontsize=10)
    drawn.supylabel(f"retention at {CONTEXTS[0]} tokens", fontsize=10)
    if cells:
        lines, names = panels[0].get_legend_handles_labels()
        drawn.legend(lines, names, loc="outside lower center", ncols=5, fontsize=8)
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", action="store_true")
    if parser.parse_args().run:
        run()
    else:
        write_bytes(ROOT / FIGURE, as_bytes(figure(scores()), "png"))
        sys.stdout.write(page(scores()) + "\n")
