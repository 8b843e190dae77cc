"""The sweeps that come with the package: functions that return specs.

A sweep of your own is the same thing in a file: `rulekeep sweep my_sweep.py --out RUNS` calls
its `sweep()`, or `rulekeep sweep my_sweep.py:other` its `other()`.
"""

from collections.abc import Callable, Sequence

from rulekeep.specs import AnySpec, ArticleSpec, RunSpec

SEEDS = (1, 2, 3, 4, 5)


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


PRESETS: dict[str, Callable[[], Sequence[AnySpec]]] = {"smoke": smoke, "article": article}
