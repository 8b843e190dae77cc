"""Made-up records for the report's tests: no model trained."""

import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rulekeep.analysis.groups import Group, grouped
from rulekeep.analysis.ranking import Ranking, ranked
from rulekeep.analysis.table import Run, tabulated
from rulekeep.records import Record
from rulekeep.records.record import Choice
from rulekeep.records.store import write_record

# A record as JSON has it.
Values = dict[str, Any]

HOSTILE = "</script><img src=x onerror=alert(1)>"
ENVIRONMENT = {
    "rulekeep": "0.1.0", "python": "3.11.9", "torch": "2.13.0+cpu", "platform": "Linux-6.1-x86_64",
    "cpu": "a processor", "cpu_capability": "AVX512", "cpu_count": 2, "device": "cpu",
    "threads": 1,
}  # fmt: skip


def typed(values: Iterable[Record | Values]) -> list[Record]:
    """Records as a report gets them, of values as JSON has them; those that are typed stay."""
    return [one if isinstance(one, Record) else Record.read(one) for one in values]


def read_runs(values: Iterable[Record | Values]) -> tuple[list[Run], list[str]]:
    """The runs of such values, and what is noted of them."""
    return tabulated(typed(values))


def groups_of(values: Iterable[Record | Values]) -> list[Group]:
    """The groups of such values."""
    return grouped(read_runs(values)[0])


def ranking_of(values: Iterable[Record | Values]) -> Ranking:
    """The ranking of such values, for which there must be one."""
    made = ranked(groups_of(values))
    assert made is not None
    return made


def written(folder: Path, values: Values) -> None:
    """Writes a record into a folder of runs, under its id."""
    (folder / values["id"]).mkdir(parents=True)
    write_record(folder / values["id"] / "record.json", values)


def cell_of_a_study(
    mixer: str, seed: int, kept: float, placement: str = "early", rules: int = 4, **spec: Any
) -> Values:
    """A record with this retention at 256 tokens, that a study counts."""
    usual = {"hidden": 256, "added_positions": "none"}
    usual["task_options"] = {"placement": placement, "rules": rules}
    return record(mixer, seed, {64: 0.9, 256: kept}, **{**usual, **spec})


def of_language(choices: Iterable[Choice], **asked: Any) -> Values:
    """A record of a cell in words, for which this was asked; `versions` and `costs` beside it."""
    versions, costs = asked.pop("versions", {}), asked.pop("costs", {})
    spec = {
        "task": "language", "mixer": "m", "context": 1, "seed": 1, "distance": 9,
        "placement": "start", "mentions": "none", "control": "none", "rules_at_once": 4,
    }  # fmt: skip
    values = {
        "id": "0" * 16, "kind": "language", "asked": {}, "versions": versions, "status": "done",
        "spec": {**spec, **asked}, "choices": [one._asdict() for one in choices], "costs": costs,
    }  # fmt: skip
    found: Values = json.loads(json.dumps(values))
    return found


def asked(record: Record, **fields: Any) -> Record:
    """The same record, as if this had been asked for."""
    spec = record.spec.model_copy(update=fields)
    return record.model_copy(update={"spec": spec, "asked": {**record.asked, **fields}})


def scored(record: Record, retention: Callable[[int], float]) -> Record:
    """The same record, as if it had kept so much at each length."""
    rows = (
        one.model_copy(update={"figures": {**one.figures, "retention": retention(one.context)}})
        for one in record.evaluations
    )
    return record.model_copy(update={"evaluations": tuple(rows)})


def record(
    mixer: str = "attention",
    seed: int = 1,
    retention: dict[int, float] | None = None,
    *,
    task: str = "recite",
    context: int = 64,
    rate: float = 0.003,
    status: str = "done",
    reason: str | None = None,
    dev_loss: float = 1.0,
    seconds: float = 10.0,
    state: dict[int, int] | None = None,
    **spec: Any,
) -> Values:
    """A record with these test retentions by context; the other figures follow from them."""
    kept = {64: 0.9, 256: 0.5} if retention is None else retention
    ended = status == "done"
    # On test the least loss is another's: a choice made there is not the one made on validation.
    tests = [_evaluation("test", length, value, 1 / dev_loss) for length, value in kept.items()]
    asked = {
        "task": task, "mixer": mixer, "context": context, "test_contexts": list(kept),
        "seed": seed, "learning_rate": rate, "steps": 400, "batch_size": 64, "width": 64,
        "layers": 2, "positions": "none", **spec,
    }  # fmt: skip
    return {
        "id": f"{task}-{mixer}-{context}-{seed}-{rate}-{sorted(spec.items())}",
        "kind": "run",
        "status": status,
        "reason": reason,
        "asked": asked,
        "versions": {"protocol": 1},
        "spec": asked,
        "history": [
            {
                "step": step, "train_loss": 3 / step, "val_loss": dev_loss + 30 / step,
                "token_accuracy": 0.5, "rule_accuracy": 0.5, "item_accuracy": 0.5,
                "retention": min(1.0, step / 500), "exact": 0.1, "train_seconds": step / 40,
            }
            for step in (25, 50, 100, 200, 300, 400)
        ],
        "evaluations": [_evaluation("validation", context, 0.5, dev_loss), *tests] if ended else [],
        "costs": {
            "train_seconds": seconds, "tokens_per_second": 64e3, "peak_memory_bytes": 3 * 2**20,
            "parameters": 12345,
            "state_bytes": {str(c): b for c, b in (state or {c: 1024 * c for c in kept}).items()},
            "decode_ms_per_token": {str(c): 0.1 + c / 1000 for c in kept},
        },
        "environment": ENVIRONMENT,
        "attempt": 1,
    }  # fmt: skip


def _evaluation(split: str, context: int, retention: float, loss: float) -> Values:
    return {
        "split": split, "context": context, "val_loss": loss, "token_accuracy": retention,
        "item_accuracy": retention, "rule_accuracy": retention, "retention": retention,
        "exact": retention / 2, "intrusion_rate": None,
        "chance": {"retention": 0.04, "exact": 0.0},
    }  # fmt: skip


def study(
    *,
    tasks: tuple[str, ...] = ("article", "recite"),
    mixers: tuple[str, ...] = ("attention", "slots", "delta", HOSTILE),
    contexts: tuple[int, ...] = (64, 256),
    seeds: int = 5,
    rates: tuple[float, ...] = (0.001, 0.003, 0.01),
) -> list[Values]:
    """A whole study: a grid of rates, seeds at the best one, and one run of each way to end."""
    noise = random.Random(0)
    found = []
    for task in tasks:
        for place, mixer in enumerate(mixers):
            for context in contexts:
                for rate in rates:
                    for seed in range(1, seeds + 1):
                        far = 1 / (1 + 0.2 * place)
                        kept = {
                            test: min(1, max(0, far - 0.12 * math.log(max(1, test / context)) ** 1.2
                                             + noise.gauss(0, 0.05)))
                            for test in (64, 256, 1028)
                        }  # fmt: skip
                        off = abs(math.log(rate / 0.003))
                        bytes_of = (
                            {test: 512 * test for test in kept}
                            if mixer == "attention"
                            else dict.fromkeys(kept, 4096 * (place + 1))
                        )
                        found.append(
                            record(
                                mixer, seed, kept, task=task, context=context, rate=rate,
                                dev_loss=0.5 + 0.1 * place + 0.2 * off + noise.gauss(0, 0.02),
                                seconds=context / 10 * (1 + place / 2) * noise.uniform(0.9, 1.1),
                                state=bytes_of,
                            )
                        )  # fmt: skip
    for status, reason in (
        ("diverged", "loss not finite at step 31, the last finite one was 2.1"),
        ("timeout", "no end within 600 s"),
        ("out_of_memory", "killed by the kernel at 3.1 GiB"),
        ("failed", f"ValueError: no such mixer: {HOSTILE}"),
    ):
        found.append(record("slots", 6, task="recite", status=status, reason=reason))
        found[-1]["id"] += status
    return found
