"""Seconds and operator calls of a training step of the article's two models.

A step is a forward and a backward pass of the loss on the last 7 positions, with no
optimizer. Three ways to take it, side by side in one process, their repeats interleaved:

    attention   through torch's fused causal kernel
    serial      the slot memory as published: a loop over tokens
    parallel    the same slot memory, the same values, a piece of rounds at a time

Full: every position of both layers is computed. Pruned: the last layer is computed only
where the loss looks, in both models; the loop has nothing to prune, and is left out.
One thread, denormals flushed. Operator calls are what torch dispatches: a proxy of the
kernels that a GPU would launch; views launch none, so the calls are also counted without.

    python benchmarks/article_speed.py --out results/article_speed.json

About 5 minutes on one core of a 2.6 GHz server.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from keeping import keep
from torch import Tensor
from torch.nn import functional as F

from rulekeep.article.models import ArticleModel, published_model
from rulekeep.executors.local import WORKER_ENVIRONMENT
from rulekeep.running.costs import environment, prepare_process
from rulekeep.speed.measuring import CallCounter
from rulekeep.tasks import Article

SCORED = 7
MODELS = {
    "attention": ("attention", False),
    "serial": ("compressed", True),
    "parallel": ("compressed", False),
}


def main() -> None:
    """Measures, prints the tables and writes the record."""
    parser = argparse.ArgumentParser(description="Speed of the article's models.")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256, 1028, 4096])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    prepare_process()
    rows = [measure(context, options.repeats) for context in options.contexts]
    print_full(rows)
    print_pruned(rows)
    if options.out:
        own = {**environment(), **WORKER_ENVIRONMENT, "flush_denormal": True}
        keep(options.out, environment=own, scored_positions=SCORED, rows=rows)


def measure(context: int, repeats: int) -> dict[str, Any]:
    """Seconds of every step, and its operator calls, at one context."""
    batch = 16 if context > 2048 else 64
    tokens = torch.randint(len(Article.vocabulary), (batch, context))
    steps, counted = {}, {}
    for way, (name, serial) in MODELS.items():
        torch.manual_seed(0)
        model = published_model(name, context, serial=serial)
        steps[way] = _step(model, tokens, last=None)
        # The loop's calls do not depend on the batch, and take long to count.
        counted[way] = _step(model, tokens[:1], last=None) if serial else steps[way]
        if not serial:
            steps[f"{way} pruned"] = _step(model, tokens, last=SCORED)
    # First: of the loop, which is slow, it is all the warming up that there is.
    calls = {way: _calls(step) for way, step in counted.items()}
    seconds = _seconds(steps, repeats, serial_repeats=1 if context > 2048 else 2)
    return {"context": context, "batch": batch, "seconds": seconds, "calls": calls}


def print_full(rows: Sequence[Mapping[str, Any]]) -> None:
    """Three ways, every position of every layer."""
    print("Every position of both layers: seconds a step, median (min–max)\n")
    print(f"{'context x batch':16}{'attention':>24}{'serial':>24}{'parallel':>24}", end="")
    print(f"{'attention/parallel':>20}{'serial/parallel':>17}")
    for row in rows:
        seconds = row["seconds"]
        cells = "".join(f"{_spread(seconds[way]):>24}" for way in MODELS)
        print(f"{_shape(row):16}{cells}", end="")
        print(f"{_ratio(seconds, 'attention', 'parallel'):19.2f}x", end="")
        print(f"{_ratio(seconds, 'serial', 'parallel'):16.1f}x")
    print("\nOperator calls a step, with views / without\n")
    print(f"{'context x batch':16}{'attention':>22}{'serial':>22}{'parallel':>22}", end="")
    print(f"{'serial/parallel':>20}")
    for row in rows:
        calls = row["calls"]
        cells = "".join(f"{_both(calls[way]):>22}" for way in MODELS)
        serial, parallel = calls["serial"], calls["parallel"]
        ratios = (serial[kind] / parallel[kind] for kind in ("all", "without_views"))
        print(f"{_shape(row):16}{cells}{' / '.join(f'{ratio:.1f}x' for ratio in ratios):>20}")


def print_pruned(rows: Sequence[Mapping[str, Any]]) -> None:
    """Two models, the last layer only where the loss looks."""
    print(f"\nLast layer at the last {SCORED} positions only: seconds a step, median (min–max)\n")
    print(f"{'context x batch':16}{'attention':>22}{'parallel':>22}{'attention/parallel':>20}")
    for row in rows:
        seconds = row["seconds"]
        ways = ("attention pruned", "parallel pruned")
        cells = "".join(f"{_spread(seconds[way]):>22}" for way in ways)
        print(f"{_shape(row):16}{cells}{_ratio(seconds, *ways):19.2f}x")


def _step(model: ArticleModel, tokens: Tensor, last: int | None) -> Callable[[], None]:
    def step() -> None:
        model.zero_grad()
        logits = model(tokens, last)[:, -SCORED:]
        F.cross_entropy(logits.flatten(0, 1), tokens[:, -SCORED:].flatten()).backward()

    return step


def _seconds(
    steps: Mapping[str, Callable[[], None]], repeats: int, serial_repeats: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    # The first turn warms up, but for the loop, which is slow and steady, and has fewer turns.
    for turn in range(repeats + 1):
        for way, step in steps.items():
            if way == "serial" and not 0 < turn <= serial_repeats:
                continue
            start = time.perf_counter()
            step()
            elapsed = time.perf_counter() - start
            if turn:
                seconds[way].append(elapsed)
    return seconds


def _calls(step: Callable[[], None]) -> dict[str, int]:
    with CallCounter() as counter:
        step()
    return {"all": counter.calls, "without_views": counter.calls - counter.views}


def _shape(row: Mapping[str, Any]) -> str:
    return f"{row['context']} x {row['batch']}"


def _both(calls: Mapping[str, int]) -> str:
    return f"{calls['all']:,} / {calls['without_views']:,}"


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f})"


def _ratio(seconds: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    return statistics.median(seconds[slow]) / statistics.median(seconds[fast])


if __name__ == "__main__":
    # The C library reads these when a process starts.
    if not WORKER_ENVIRONMENT.items() <= os.environ.items():
        arguments = [sys.executable, *sys.argv]
        os.execve(sys.executable, arguments, {**os.environ, **WORKER_ENVIRONMENT})
    main()
