"""How long commands take by the clock, each held under a limit.

    python tools/timings.py                  # all, into results/timings
    python tools/timings.py smoke report     # some

    smoke       the preset `smoke`, three times: under a minute
    quick       the preset `quick`, a mixer at a time: under ten minutes each
    overhead    a sweep of runs of a fixed time, over its runs: at most 15 % where a run takes 20 s
    report      `rulekeep report` on 32 and 657 committed runs: at most 10 and 30 s, 2 and 5 MB
    tasks       tokens a second that each task draws on one core: 5 million at least
    article     seconds and operator calls of a step of the article's models: no limit

Exit code 1 if a limit is missed. Needs two idle cores. `smoke` takes 2 minutes, `quick` an hour.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.executors.local import WORKER_ENVIRONMENT
from rulekeep.records.store import read_runs
from rulekeep.sweeps.presets import QUICK_MIXERS

RESULTS = Path(__file__).parent.parent / "results" / "timings"
WORKERS = 2
Rows = list[dict[str, Any]]


def rulekeep(folder: Path, *arguments: str) -> float:
    """Seconds from the start of a command to its exit."""
    began = time.monotonic()
    command = [sys.executable, "-m", "rulekeep", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"rulekeep {arguments[0]} failed:\n{done.stderr}")
    return time.monotonic() - began


def sweep(what: str, *words: str, files: dict[str, str] | None = None) -> dict[str, Any]:
    """One sweep in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
        workers = ("--workers", str(WORKERS))
        seconds = rulekeep(folder, "sweep", what, *words, *workers, "--out", "runs")
        records = read_runs(folder / "runs").records
    if not records or any(one.status != "done" for one in records):
        raise SystemExit(f"sweep {what}: not every run is done")
    return {"workers": WORKERS, "runs": len(records), "seconds": seconds}


def smoke() -> tuple[Rows, bool]:
    """The preset, three times."""
    rows = [sweep("smoke") for _ in range(3)]
    return rows, all(row["seconds"] < 60 for row in rows)


def quick() -> tuple[Rows, bool]:
    """The preset, a mixer at a time."""
    mixers = [one.mixer for one in QUICK_MIXERS]
    rows = [{"mixer": one, **sweep("quick", "--mixers", one)} for one in mixers]
    return rows, all(row["seconds"] < 600 for row in rows)


GRID = """
from rulekeep.specs import RunSpec


def sweep():
    return [
        RunSpec(
            task_options={{"rules": 2}}, mixer="busy.py:Busy",
            mixer_options={{"seconds": {seconds}}}, width=8, layers=1, context=64,
            steps=4, warmup_steps=1, batch_size=4,
            validation_examples=4, test_examples=4, seed=seed,
        )
        for seed in range({runs})
    ]
"""
BUSY = """
import time

import torch
from torch import nn


class Busy(nn.Module):
    def __init__(self, width, *, seconds: float):
        super().__init__()
        self.linear, self.left = nn.Linear(width, width), seconds

    def init_state(self, batch_size):
        return (self.linear.weight.new_zeros(batch_size, 1),)

    def forward(self, x, state=None):
        # In training: a mixer is tried before, on other batches, and each try is another one.
        left = self.left if len(x) == 4 and torch.is_grad_enabled() else 0.0
        until, self.left = time.monotonic() + left, self.left - left
        square = torch.ones(256, 256) / 256
        while time.monotonic() < until:
            square @ square
        return self.linear(x), state or self.init_state(len(x))
"""


def overhead() -> tuple[Rows, bool]:
    """Runs that are busy for a fixed time: what the sweep takes over their ideal."""
    rows, runs = [], 8
    for seconds in (20.0, 2.0):
        files = {"grid.py": GRID.format(seconds=seconds, runs=runs), "busy.py": BUSY}
        taken, ideal = sweep("grid.py", files=files), seconds * runs / WORKERS
        loss = taken["seconds"] / ideal - 1
        rows.append({"run_seconds": seconds, **taken, "ideal_seconds": ideal, "loss": loss})
    return rows, rows[0]["loss"] <= 0.15


# Of a folder of results: at most so many seconds, and bytes of the page.
REPORTED = {"quick": (10, 2e6), "catalogue": (30, 5e6)}


def report() -> tuple[Rows, bool]:
    """A report of each folder, three times."""
    rows: Rows = []
    for name, (limit, most) in REPORTED.items():
        root = RESULTS.parent / name
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            seconds = [rulekeep(folder, "report", str(root), "--out", "out") for _ in range(3)]
            size = (folder / "out" / "report.html").stat().st_size
        found = {"records": len(read_runs(root).records), "seconds": seconds, "bytes": size}
        is_met = statistics.median(seconds) <= limit and size <= most
        rows.append({"folder": name, **found, "is_met": is_met})
    return rows, all(row["is_met"] for row in rows)


def tasks() -> tuple[Rows, bool]:
    """Tokens a second of the processor, masks and chance included, on the test split."""
    from rulekeep.tasks import TASKS, SampledTask

    rows: Rows = []
    for name, placement in product(TASKS, ("early", "marked")):
        kind: Any = TASKS[name]
        if not issubclass(kind, SampledTask):
            continue
        task = kind(kind.options_type.parse(placement=placement))
        for context in (max(64, task.shortest_context), 256, 1028, 4096, 65536):
            n, rates = -(-2_000_000 // context), []
            for turn in range(6):
                began = time.process_time()
                task.sample("test", context, n, seed=turn)
                # The first warms up.
                rates += [n * context / (time.process_time() - began)] * (turn > 0)
            about = {"task": f"{name} {placement}", "context": context}
            rows.append({**about, "tokens_per_second": rates})
    return rows, min(statistics.median(row["tokens_per_second"]) for row in rows) >= 5e6


def article(contexts: Sequence[int] = (64, 256, 1028, 4096)) -> tuple[Rows, bool]:
    """A step of the article's models, forward and backward of the last 7 positions' loss.

    Attention, the slots as published (a loop over tokens) and in rounds, side by side. Pruned: the
    last layer only where the loss is. The calls of the loop do not depend on the batch.
    """
    import torch
    from torch.nn import functional as F

    from rulekeep.article.models import published_model
    from rulekeep.running.building import prepare_process
    from rulekeep.speed.measuring import CallCounter
    from rulekeep.tasks import Article

    def step(name: str, context: int, batch: int, last: int | None) -> Callable[[], None]:
        torch.manual_seed(0)
        kind = "attention" if name == "attention" else "compressed"
        model = published_model(kind, context, serial=name == "serial")
        tokens = torch.randint(len(Article.vocabulary), (batch, context))

        def run() -> None:
            model.zero_grad()
            logits = model(tokens, last)[:, -7:]
            F.cross_entropy(logits.flatten(0, 1), tokens[:, -7:].flatten()).backward()

        return run

    prepare_process()
    rows: Rows = []
    for context in contexts:
        batch = 16 if context > 2048 else 64
        steps = {
            name: step(name, context, batch, None) for name in ("attention", "serial", "parallel")
        }
        counted = {**steps, "serial": step("serial", context, 1, None)}
        pruned = {f"{n} pruned": step(n, context, batch, 7) for n in ("attention", "parallel")}
        calls, seconds = {}, {name: [] for name in (*steps, *pruned)}
        for name, run in counted.items():
            with CallCounter() as counter:
                run()
            calls[name] = {"all": counter.calls, "without_views": counter.calls - counter.views}
        for turn, (name, run) in product(range(8), {**steps, **pruned}.items()):
            # The first turn warms up, but for the loop, which is slow and steady.
            if name == "serial" and turn not in ((1,) if context > 2048 else (1, 2)):
                continue
            began = time.perf_counter()
            run()
            seconds[name] += [time.perf_counter() - began] * (turn > 0)
        rows.append({"context": context, "batch": batch, "seconds": seconds, "calls": calls})
    return rows, True


TIMINGS: dict[str, Callable[[], tuple[Rows, bool]]] = {
    one.__name__: one for one in (smoke, quick, overhead, report, tasks, article)
}


def main() -> int:
    """Measures what is named, a record each."""
    wrong = [name for name in sys.argv[1:] if name not in TIMINGS]
    if wrong:
        raise SystemExit(f"timing {wrong[0]!r}: choose from {', '.join(TIMINGS)}")
    missed = 0
    for name in sys.argv[1:] or TIMINGS:
        load = os.getloadavg()[0]
        rows, held = TIMINGS[name]()
        keep(RESULTS / f"{name}.json", load_average=load, rows=rows)
        sys.stdout.write(f"{name}: {'held' if held else 'LIMIT MISSED'}\n")
        missed += not held
    return min(missed, 1)


if __name__ == "__main__":
    # The C library reads these when a process starts.
    if not WORKER_ENVIRONMENT.items() <= os.environ.items():
        arguments = [sys.executable, *sys.argv]
        os.execve(sys.executable, arguments, {**os.environ, **WORKER_ENVIRONMENT})
    sys.exit(main())
