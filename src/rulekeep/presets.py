"""The sweeps that come with the package: functions that return specs.

A sweep of your own is the same thing in a file: `rulekeep sweep my_sweep.py --out RUNS` calls
its `sweep()`, or `rulekeep sweep my_sweep.py:other` its `other()`. One that takes an argument
gets the records so far, and is asked again until it adds nothing: so the exam chooses its
learning rates on the dev split before it runs the rest.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rulekeep.contestants import Contestant, chosen_rate, contestants, rate_runs
from rulekeep.specs import AnySpec, ArticleSpec, RunSpec
from rulekeep.store import Record

SEEDS = (1, 2, 3, 4, 5)
EXAM_MIXERS = contestants(
    "attention[positions=rotary],attention[positions=none],attention[added_positions=learned],slots"
)
QUICK_MIXERS = contestants("delta")
_TASKS = ("recite", "apply", "override", "recall")
_PLACEMENTS = ("early", "marked")
# A context of 64 has no room for the requests of these.
_SHORTEST = {"apply": 96, "override": 96}


def smoke() -> Sequence[AnySpec]:
    """Does everything work: three mixers on a short task, under a minute on two cores."""
    return [
        RunSpec(
            mixer=mixer, context=96, test_contexts=(96, 256), seed=seed, steps=150,
            task_options={"rules": 2}, test_examples=200, long_test_examples=64, dev_examples=64,
        )
        for seed in (1, 2)
        for mixer in ("attention", "slots", "delta")
    ]  # fmt: skip


def article() -> Sequence[AnySpec]:
    """The published experiment: attention against the 8-slot memory at 64, 256 and 1028."""
    return ArticleSpec().cells()


def exam(
    records: Sequence[Record], *, mixers: Sequence[Contestant] = EXAM_MIXERS
) -> Sequence[AnySpec]:
    """Four tasks, early and marked rules, 5 seeds: trained up to 256, tested up to 4096."""
    return _exam(records, mixers, context=256, tested=(256, 1028, 4096), steps=2000)


def exam_quick(*, mixers: Sequence[Contestant] = QUICK_MIXERS) -> Sequence[AnySpec]:
    """One mixer, every task, trained up to 128, 1 seed: under ten minutes on two cores."""
    return [
        one.spec(**_cell(task, placement, 128, (128, 512), steps=1000), seed=1)
        for one in mixers
        for task in _TASKS
        for placement in _PLACEMENTS
    ]


def exam_long(
    records: Sequence[Record], *, mixers: Sequence[Contestant] = EXAM_MIXERS
) -> Sequence[AnySpec]:
    """As the exam, trained up to 1028 and tested up to 16,384: meant for a cluster."""
    tested = (256, 1028, 4096, 16384)
    return _exam(records, mixers, context=1028, tested=tested, steps=4000)


PRESETS: dict[str, Callable[..., Sequence[AnySpec]]] = {
    "smoke": smoke,
    "article": article,
    "exam-quick": exam_quick,
    "exam": exam,
    "exam-long": exam_long,
}


def _exam(
    records: Sequence[Record], mixers: Sequence[Contestant], *, context: int,
    tested: tuple[int, ...], steps: int,
) -> Sequence[AnySpec]:  # fmt: skip
    specs: list[AnySpec] = []
    for one in mixers:
        for task in _TASKS:
            cells = {
                placement: _cell(task, placement, context, tested, steps)
                for placement in _PLACEMENTS
            }
            # One grid a task, on the harder placement, and by the same rule for every mixer:
            # the best rate of a mixer differs between tasks more than between placements.
            base = {**cells["marked"], "seed": SEEDS[0]}
            specs += rate_runs(one, records, base)
            rate = chosen_rate(one, records, base)
            if rate is not None:
                specs += [
                    one.spec(**cell, seed=seed, learning_rate=rate)
                    for seed in SEEDS
                    for cell in cells.values()
                ]
    return specs


def _cell(
    task: str, placement: str, context: int, tested: tuple[int, ...], steps: int
) -> dict[str, Any]:
    return {
        "task": task,
        "task_options": {"placement": placement},
        "context": context,
        "test_contexts": [_SHORTEST.get(task, 64), *tested],
        "steps": steps,
        # Short sequences first: what is learned at all is learned on them.
        "length_growth": 0.65,
        # A look costs as much as two steps of training.
        "dev_examples": 128,
    }
