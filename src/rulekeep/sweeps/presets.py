"""The presets: sweeps that come with the package, as functions that return specs.

A sweep of your own is such a function in a file: `rulekeep sweep my_sweep.py --out RUNS` calls its
`sweep()`, and `rulekeep sweep my_sweep.py:other` its `other()`. A function with an argument gets
the results in the folder so far, and is called again until it adds nothing. So `standard` chooses
its learning rates on the validation set before it runs the rest. What one study alone runs is in
its file.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rulekeep.specs import AnySpec, MixerSpec, RunSpec, UsageError, article_cells, mixer_specs

if TYPE_CHECKING:
    from rulekeep.records import Record

SEEDS = (1, 2, 3, 4, 5)
# Seeds that choose a rate. The catalogue's attention is what all others are measured against, and
# one seed chose 0.785 where another rate had 0.998.
TUNING_SEEDS, ANCHOR_TUNING_SEEDS = 1, 3
STANDARD_MIXERS = mixer_specs(
    "attention[positions=rotary],attention[positions=none],attention[added_positions=learned],slots"
)
QUICK_MIXERS = mixer_specs("delta")
QUICK_TESTED = (128, 512)
# As many parameters as attention's model, within one per cent: the feed-forward layers give.
# Gates on the output as published. The four that are published with a short convolution have it,
# and stand without it too: with it they see the tokens before, as our memory's gate does, and at
# this size it helps with one task and hurts with another.
CATALOGUE = mixer_specs(
    "attention[positions=rotary],sliding_window[positions=rotary],lstm[hidden=128],"
    "gru[hidden=192],slots[hidden=224],linear_attention,retnet[output_gate=true,hidden=224],"
    "ssd[output_gate=true,short_convolution=true,hidden=264],ssd[hidden=304],"
    "gated_linear[output_gate=true,hidden=208],delta[short_convolution=true,hidden=248],delta,"
    "gated_delta[output_gate=true,short_convolution=true,hidden=216],gated_delta,"
    "kda[output_gate=true,short_convolution=true,hidden=200],kda[hidden=240],"
    "gated_slots[hidden=224],routed_slots[hidden=224],"
    "delta+sliding_window[sliding_window.positions=rotary],"
    "lstm[hidden=128,half_life_tokens=1024],gru[hidden=192,half_life_tokens=1024],"
    "sparse_delta[hidden=232],sparse_delta[short_convolution=false,hidden=240],"
    "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]"
)
PRESET_TASKS = ("recite", "apply", "override", "recall")
_PLACEMENTS = ("early", "marked")
# The cell that a rate is chosen on, and those that take it. The grid of `standard` is on the harder
# placement: the best rate of a mixer differs between tasks more than between placements.
EVERY_TASK = {
    (task, "marked"): [(task, placement) for placement in _PLACEMENTS] for task in PRESET_TASKS
}
WITHOUT_RECALL = {tuned: taken for tuned, taken in EVERY_TASK.items() if "recall" not in tuned}
# The catalogue's is on the placement that every mixer has a way to learn, and seed 1 of the
# chosen rate is a run of the table already.
RECITE_AND_OVERRIDE = {("recite", "early"): [("recite", "early"), ("override", "marked")]}
# A context of 64 leaves these, which answer a request, next to no body.
SHORTEST_TESTED = {"apply": 96, "override": 96}


class Length(NamedTuple):
    """Training and test contexts in tokens, and steps."""

    context: int
    tested: tuple[int, ...]
    steps: int

    def also_tested(self, context: int) -> "Length":
        """The same, tested at one more context."""
        return self._replace(tested=(*self.tested, context))


STANDARD_LENGTH = Length(256, (256, 1028, 4096), 2000)
_LONG = Length(1028, (256, 1028, 4096, 16384), 4000)
# Half the steps of `standard`: five seeds of all are some 25 core-hours so.
CATALOGUE_LENGTH = STANDARD_LENGTH._replace(steps=1000)


def protocol(
    records: "Sequence[Record]",
    mixers: Sequence[MixerSpec],
    length: Length,
    cells: Mapping[tuple[str, str], Sequence[tuple[str, str]]],
    seeds: Sequence[int] = SEEDS,
    *,
    tuning_seeds: int = TUNING_SEEDS,
    tasks: Sequence[str] = PRESET_TASKS,
    learning_rates: Sequence[float] | None = None,
    test_contexts: Sequence[int] | None = None,
    task_options: Mapping[str, Any] = MappingProxyType({}),
) -> Sequence[AnySpec]:
    """The runs of each mixer: its grids of learning rates, and all seeds at the rates they choose.

    Args:
        records: Runs that stand already, from which rates are chosen.
        mixers: What is compared.
        length: Training and test contexts, and steps.
        cells: By task and placement of a grid, the tasks and placements that take its rate.
        seeds: Seeds of each cell.
        tuning_seeds: How many of the seeds choose a rate.
        tasks: Those of the cells that are run; a grid is for those that take its rate.
        learning_rates: The grids of rates; by default three rates and their extension.
        test_contexts: Tested instead of those of `length`.
        task_options: Options of every task.

    Raises:
        UsageError: `tuning_seeds` is out of range, or a mixer is given a learning rate.
    """
    # Who lists presets needs none of what chooses rates.
    from rulekeep.sweeps.rates import tuned

    if not 1 <= tuning_seeds <= len(seeds):
        raise UsageError(f"tuning_seeds {tuning_seeds}: must be from 1 to {len(seeds)}")
    tuning = seeds[:tuning_seeds]
    if test_contexts is not None:
        length = length._replace(tested=tuple(test_contexts))
    specs: list[AnySpec] = []
    for one in mixers:
        for (chosen_on, placed), every in cells.items():
            taken_by = [each for each in every if each[0] in tasks]
            if not taken_by:
                continue
            # By the same rule for every mixer.
            base = {**cell(chosen_on, placed, *length, **task_options), "seed": seeds[0]}
            runs = [
                {**cell(task, placement, *length, **task_options), "seed": seed}
                for seed in seeds
                for task, placement in taken_by
            ]
            grid, rate = tuned(one, records, base, tuning, learning_rates)
            specs += grid
            if rate is not None:
                specs += [one.spec(**values, learning_rate=rate) for values in runs]
    return specs


def cell(
    task: str, placement: str, context: int, tested: tuple[int, ...], steps: int, **options: Any
) -> dict[str, Any]:
    """What all runs of a task and placement have in common, as `RunSpec` takes it."""
    return {
        "task": task,
        "task_options": {"placement": placement, **options},
        "context": context,
        "test_contexts": [SHORTEST_TESTED.get(task, 64), *tested],
        "steps": steps,
        # Short sequences first: what is learned at all is learned on them.
        "length_growth": 0.65,
        # A look costs as much as two steps of training.
        "validation_examples": 128,
    }


def smoke() -> Sequence[AnySpec]:
    """Check that everything works: three mixers on a short task, under a minute on two cores."""
    return [
        RunSpec(
            mixer=mixer, context=96, test_contexts=(96, 256), seed=seed, steps=150,
            task_options={"rules": 2}, test_examples=200, long_test_examples=64,
            validation_examples=64,
        )
        for seed in (1, 2)
        for mixer in ("attention", "slots", "delta")
    ]  # fmt: skip


def article() -> Sequence[AnySpec]:
    """The published experiment: attention against the 8-slot memory at 64, 256 and 1028."""
    return article_cells()


def standard(
    records: "Sequence[Record]", *, mixers: Sequence[MixerSpec] = STANDARD_MIXERS, **grid: Any
) -> Sequence[AnySpec]:
    """Four tasks, early and marked rules, 5 seeds: trained up to 256, tested up to 4096."""
    return protocol(records, mixers, STANDARD_LENGTH, EVERY_TASK, **grid)


def quick(
    *,
    mixers: Sequence[MixerSpec] = QUICK_MIXERS,
    seeds: Sequence[int] = SEEDS[:1],
    tasks: Sequence[str] = PRESET_TASKS,
    test_contexts: Sequence[int] = QUICK_TESTED,
) -> Sequence[AnySpec]:
    """One mixer, four tasks, trained up to 128, 1 seed: under ten minutes on two cores."""
    return [
        one.spec(**cell(task, placement, 128, tuple(test_contexts), 1000), seed=seed)
        for one in mixers
        for task in tasks
        for placement in _PLACEMENTS
        for seed in seeds
    ]


def quick_five(*, mixers: Sequence[MixerSpec] = QUICK_MIXERS) -> Sequence[AnySpec]:
    """As `quick`, five seeds: what `tools/submit.py` takes."""
    return quick(mixers=mixers, seeds=SEEDS)


def long(
    records: "Sequence[Record]", *, mixers: Sequence[MixerSpec] = STANDARD_MIXERS, **grid: Any
) -> Sequence[AnySpec]:
    """As `standard`, trained up to 1028 and tested up to 16,384: meant for a cluster."""
    return protocol(records, mixers, _LONG, EVERY_TASK, **grid)


def catalogue(
    records: "Sequence[Record]",
    *,
    mixers: Sequence[MixerSpec] = CATALOGUE,
    seeds: Sequence[int] = SEEDS,
    tuning_seeds: int | None = None,
    **grid: Any,
) -> Sequence[AnySpec]:
    """Every published mixer at attention's parameters: recite early and override marked.

    Three seeds choose attention's rate, and one that of the others.
    """
    specs: list[AnySpec] = []
    for one in mixers:
        usual = ANCHOR_TUNING_SEEDS if one.mixer == "attention" else TUNING_SEEDS
        grid["tuning_seeds"] = min(usual, len(seeds)) if tuning_seeds is None else tuning_seeds
        specs += protocol(records, [one], CATALOGUE_LENGTH, RECITE_AND_OVERRIDE, seeds, **grid)
    return specs


PRESETS: dict[str, Callable[..., Sequence[AnySpec]]] = {
    "smoke": smoke,
    "article": article,
    "quick": quick,
    "quick-five": quick_five,
    "standard": standard,
    "long": long,
    "catalogue": catalogue,
}
