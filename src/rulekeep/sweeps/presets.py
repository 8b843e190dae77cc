"""The presets: sweeps that come with the package, as functions that return specs.

A sweep of your own is such a function in a file: `rulekeep sweep my_sweep.py --out RUNS` calls its
`sweep()`, and `rulekeep sweep my_sweep.py:other` its `other()`. A function with an argument gets
the results in the folder so far, and is called again until it adds nothing. So `standard` chooses
its learning rates on the validation set before it runs the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from rulekeep.records import Record
from rulekeep.specs import AnySpec, ArticleSpec, MixerSpec, RunSpec, UsageError, mixer_specs
from rulekeep.sweeps.rates import chosen_rate, rate_runs

SEEDS = (1, 2, 3, 4, 5)
# Seeds that choose a rate. The catalogue's attention is what all others are measured against, and
# one seed chose 0.785 where another rate had 0.998.
TUNING_SEEDS, ANCHOR_TUNING_SEEDS = 1, 3
STANDARD_MIXERS = mixer_specs(
    "attention[positions=rotary],attention[positions=none],attention[added_positions=learned],slots"
)
QUICK_MIXERS = mixer_specs("delta")
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
    "sparse_delta[hidden=240],sparse_delta[hidden=240,added_positions=earliness]"
)
# 16 KiB of state a layer as well, within five per cent; two heads, where a head's keys give the
# width. The gates of lstm and gru cannot be had so wide for so few parameters.
CATALOGUE_16_KIB = mixer_specs(
    "sliding_window[positions=rotary,window=28],slots[slots=64,hidden=224],"
    "linear_attention[heads=2,key_width=62,hidden=200],"
    "retnet[heads=2,key_width=64,output_gate=true,hidden=160],"
    "ssd[heads=2,key_width=56,output_gate=true,short_convolution=true,hidden=224],"
    "ssd[heads=2,key_width=64,hidden=256],"
    "gated_linear[heads=2,key_width=64,output_gate=true,hidden=136],"
    "delta[heads=2,key_width=52,short_convolution=true,hidden=208],"
    "delta[heads=2,key_width=64,hidden=192],"
    "gated_delta[heads=2,key_width=52,output_gate=true,short_convolution=true,hidden=176],"
    "gated_delta[heads=2,key_width=64,hidden=192],"
    "kda[heads=2,key_width=52,output_gate=true,short_convolution=true,hidden=136],"
    "kda[heads=2,key_width=64,hidden=144],gated_slots[slots=32,hidden=192],"
    "routed_slots[slots=32,hidden=192],"
    "delta+sliding_window[delta.heads=2,delta.key_width=64,sliding_window.positions=rotary,"
    "sliding_window.window=28,hidden=224],"
    "sparse_delta[heads=2,key_width=64,hidden=192],"
    "sparse_delta[heads=2,key_width=64,hidden=192,added_positions=earliness]"
)
# From 1 to 64 KiB of state a layer, within five per cent of attention's parameters; a head more or
# less where they would not fit. Those of 4 and 16 KiB are the catalogue's too.
STATE_BYTES = mixer_specs(
    "sliding_window[positions=rotary,window=1,sinks=1],"
    "sliding_window[positions=rotary,window=4],"
    "sliding_window[positions=rotary,window=28],"
    "sliding_window[positions=rotary,window=124],"
    "delta[key_width=4,hidden=304],delta,delta[heads=2,key_width=64,hidden=192],"
    "delta[heads=1,key_width=256,hidden=64],"
    "routed_slots[slots=2,top_k=1,hidden=248],routed_slots[slots=8,hidden=240],"
    "routed_slots[slots=32,hidden=192],routed_slots[slots=128,heads=2,hidden=128],"
    "sparse_delta[key_width=4,hidden=288,added_positions=earliness],"
    "sparse_delta[hidden=240,added_positions=earliness],"
    "sparse_delta[heads=2,key_width=64,hidden=192,added_positions=earliness],"
    "sparse_delta[heads=1,key_width=256,hidden=64,added_positions=earliness]"
)
# A memory of fixed size beyond the lengths it was trained on, and attention with the same signal of
# how early a token is; of attention without it, what `standard` lacks.
BEYOND = mixer_specs(
    "attention[positions=alibi],attention[positions=rotary,added_positions=earliness],"
    "attention[positions=none,added_positions=earliness],"
    "attention[positions=alibi,added_positions=earliness],"
    "sparse_delta[hidden=240,added_positions=earliness],sparse_delta[hidden=240]"
)
# The attention without a convolution that keeps early rules longest, at the rate that its grids in
# `standard` and `beyond` chose. 256 tests of 16,384 tokens would take more than twice its training,
# so there are fewer, and not all forms of attention are tested there.
BEYOND_ATTENTION = mixer_specs(
    "attention[positions=none,added_positions=earliness],attention[positions=none]"
)
BEYOND_ATTENTION_RATE = 3e-3
BEYOND_ATTENTION_TESTS = 64
# From the article's memory to that one, a change a rung; the last but one without the signal.
LADDER = mixer_specs(
    "slots[hidden=224],linear_attention,delta,delta[added_positions=earliness],"
    "sparse_delta[hidden=248,straight_through=false,gate_kernel=1,read_first=false,gate_penalty=0,"
    "added_positions=earliness],sparse_delta[hidden=248,gate_kernel=1,read_first=false,gate_penalty=0,"
    "added_positions=earliness],"
    "sparse_delta[hidden=240,read_first=false,gate_penalty=0,added_positions=earliness],"
    "sparse_delta[hidden=240,gate_penalty=0,added_positions=earliness],"
    "sparse_delta[hidden=240,penalty_margin=0,penalty_start=0,added_positions=earliness],"
    "sparse_delta[hidden=240,penalty_start=0,added_positions=earliness],"
    "sparse_delta[hidden=240],sparse_delta[hidden=240,added_positions=earliness]"
)
# The rung that sees eight tokens with a sigmoid instead of the clip: what do exact zeros add there?
LADDER_ASIDE = mixer_specs(
    "sparse_delta[hidden=240,gate_stretch=0,straight_through=false,read_first=false,gate_penalty=0,"
    "added_positions=earliness]"
)
# `standard` has 4 rules. Fewer and more are run for our memory and the attention that is best on
# the validation set in most cells: some 7 core-hours.
RULE_COUNTS = (2, 8)
RULE_COUNT_MIXERS = mixer_specs(
    "attention[positions=rotary],sparse_delta[hidden=240,added_positions=earliness],"
    "attention[positions=rotary,added_positions=earliness],sparse_delta[hidden=240]"
)
# Seven times the parameters, to see whether results depend on the small model.
WIDE = mixer_specs(
    "attention[positions=rotary,width=128,layers=4],"
    "sparse_delta[width=128,layers=4,added_positions=earliness],"
    "attention[positions=rotary,width=128,layers=4,added_positions=earliness],"
    "sparse_delta[width=128,layers=4]"
)
WIDE_SEEDS = SEEDS[:3]
# What docs/literature.md compares: heads and key widths where the literature states them, or has
# them by default; short convolutions and gates as published. Mamba-2 has heads of 8: their steps
# start spread over 0.001 to 0.1, and a sole head's at the least of it.
LITERATURE = mixer_specs(
    ",".join(
        f"attention[width={width},heads=1,positions=rotary],"
        f"ssd[width={width},heads={width // 8},key_width=16,output_gate=true,"
        "short_convolution=true],"
        f"gated_delta[width={width},heads=2,short_convolution=true]"
        for width in (16, 32, 64)
    )
)
LITERATURE_SEEDS = (1, 2)
LITERATURE_TASK = "rulekeep.tasks.mixed_recall:MixedRecall"
LITERATURE_STEPS, LITERATURE_GRID_STEPS = 14400, 5760
_TASKS = ("recite", "apply", "override", "recall")
_PLACEMENTS = ("early", "marked")
# The cell that a rate is chosen on, and those that take it. The grid of `standard` is on the harder
# placement: the best rate of a mixer differs between tasks more than between placements.
_EVERY_TASK = {
    (task, "marked"): [(task, placement) for placement in _PLACEMENTS] for task in _TASKS
}
# The catalogue's is on the placement that every mixer has a way to learn, and seed 1 of the
# chosen rate is a run of the table already.
_TWO_CELLS = {("recite", "early"): [("recite", "early"), ("override", "marked")]}
_ONE_CELL = {("recite", "early"): [("recite", "early")]}
_MARKED = {("recite", "marked"): [("recite", "marked")]}
# A rung may learn one placement and not the other: each has its own grid.
_BOTH_PLACEMENTS = _ONE_CELL | _MARKED
_WITHOUT_RECALL = {cell: taken for cell, taken in _EVERY_TASK.items() if "recall" not in cell}
# Where attention has our memory's signal, and what is kept at the longest length is asked.
_SIGNAL_TASKS = ("recite", "apply")
_RECITE_AND_APPLY = {(task, "marked"): _EVERY_TASK[task, "marked"] for task in _SIGNAL_TASKS}
# A context of 64 leaves these, which answer a request, next to no body.
SHORTEST_TESTED = {"apply": 96, "override": 96}


class _Length(NamedTuple):
    """Training and test contexts in tokens, and steps."""

    context: int
    tested: tuple[int, ...]
    steps: int


_STANDARD = _Length(256, (256, 1028, 4096), 2000)
_LONG = _Length(1028, (256, 1028, 4096, 16384), 4000)
# Half the steps of `standard`: five seeds of all are some 25 core-hours so.
_CATALOGUE = _STANDARD._replace(steps=1000)
_BEYOND = _STANDARD._replace(tested=(*_STANDARD.tested, 16384))
_LADDER = _CATALOGUE._replace(tested=_BEYOND.tested)


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
    return ArticleSpec().cells()


def standard(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = STANDARD_MIXERS,
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """Four tasks, early and marked rules, 5 seeds: trained up to 256, tested up to 4096."""
    return _protocol(records, mixers, _STANDARD, _EVERY_TASK, tuning_seeds=tuning_seeds)


def quick(*, mixers: Sequence[MixerSpec] = QUICK_MIXERS) -> Sequence[AnySpec]:
    """One mixer, four tasks, trained up to 128, 1 seed: under ten minutes on two cores."""
    return _quick(mixers, SEEDS[:1])


def quick_five(*, mixers: Sequence[MixerSpec] = QUICK_MIXERS) -> Sequence[AnySpec]:
    """As `quick`, five seeds: what `rulekeep submit` takes."""
    return _quick(mixers, SEEDS)


def _quick(mixers: Sequence[MixerSpec], seeds: Sequence[int]) -> Sequence[AnySpec]:
    return [
        one.spec(**_cell(task, placement, 128, (128, 512), 1000), seed=seed)
        for one in mixers
        for task in _TASKS
        for placement in _PLACEMENTS
        for seed in seeds
    ]


def long(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = STANDARD_MIXERS,
    steps: int = _LONG.steps,
    furthest: int = max(_LONG.tested),
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """As `standard`, trained up to 1028 and tested up to 16,384: meant for a cluster."""
    tested = tuple(at for at in _LONG.tested if at <= furthest)
    length = _LONG._replace(steps=steps, tested=tested)
    return _protocol(records, mixers, length, _EVERY_TASK, tuning_seeds=tuning_seeds)


def catalogue(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = CATALOGUE,
    tuning_seeds: int | None = None,
) -> Sequence[AnySpec]:
    """Every published mixer at attention's parameters: recite early and override marked.

    Three seeds choose attention's rate, and one that of the others.
    """
    specs: list[AnySpec] = []
    for one in mixers:
        usual = ANCHOR_TUNING_SEEDS if one.mixer == "attention" else TUNING_SEEDS
        seeds = usual if tuning_seeds is None else tuning_seeds
        specs += _protocol(records, [one], _CATALOGUE, _TWO_CELLS, tuning_seeds=seeds)
    return specs


def catalogue_16_kib(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = CATALOGUE_16_KIB,
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """The catalogue at 16 KiB of state a layer, except mixers that cannot be so large."""
    return _protocol(records, mixers, _CATALOGUE, _TWO_CELLS, tuning_seeds=tuning_seeds)


def state_bytes(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = STATE_BYTES,
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """Four mixers at 1, 4, 16 and 64 KiB of state a layer: recite early."""
    return _protocol(records, mixers, _CATALOGUE, _ONE_CELL, tuning_seeds=tuning_seeds)


def beyond(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = BEYOND,
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """Our memory on `standard` except recall, to 16,384 tokens; attention with its signal."""
    # Attention at 16,384 tokens takes longer to test than to train: it ends where `standard` does.
    # On override the attention of `standard` is within a hundredth of all that there is.
    specs: list[AnySpec] = []
    for one in mixers:
        as_exam = one.mixer == "attention"
        length, cells = (_STANDARD, _RECITE_AND_APPLY) if as_exam else (_BEYOND, _WITHOUT_RECALL)
        specs += _protocol(records, [one], length, cells, tuning_seeds=tuning_seeds)
    return specs


def beyond_attention(*, mixers: Sequence[MixerSpec] = BEYOND_ATTENTION) -> Sequence[AnySpec]:
    """Attention without positions at 16,384 tokens, early rules: recite and apply."""
    length = _STANDARD._replace(tested=(max(_BEYOND.tested),))
    return [
        one.spec(
            **_cell(task, "early", *length),
            long_test_examples=BEYOND_ATTENTION_TESTS,
            seed=seed,
            learning_rate=BEYOND_ATTENTION_RATE,
        )
        for one in mixers
        for task in _SIGNAL_TASKS
        for seed in SEEDS
    ]


def ladder(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = (*LADDER, *LADDER_ASIDE),
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """From the article's slots to our memory, one change at a time: recite, early and marked."""
    # Gates that leak are seen at 16,384 tokens, and no state here grows.
    return _protocol(records, mixers, _LADDER, _BOTH_PLACEMENTS, tuning_seeds=tuning_seeds)


def rule_counts(
    records: Sequence[Record],
    *,
    mixers: Sequence[MixerSpec] = RULE_COUNT_MIXERS,
    tuning_seeds: int = TUNING_SEEDS,
) -> Sequence[AnySpec]:
    """Rotary attention and our memory with 2 and 8 rules: `standard` except recall, 256 tokens."""
    length = _STANDARD._replace(tested=(_STANDARD.context,))
    return [
        spec
        for rules in RULE_COUNTS
        for spec in _protocol(
            records, mixers, length, _WITHOUT_RECALL,
            tuning_seeds=tuning_seeds, task_options={"rules": rules},
        )
    ]  # fmt: skip


def wide(records: Sequence[Record], *, mixers: Sequence[MixerSpec] = WIDE) -> Sequence[AnySpec]:
    """Rotary attention and our memory at width 128 and 4 layers: recite marked, 3 seeds."""
    return _protocol(records, mixers, _CATALOGUE, _MARKED, WIDE_SEEDS)


def literature(
    records: Sequence[Record], *, mixers: Sequence[MixerSpec] = LITERATURE
) -> Sequence[AnySpec]:
    """Associative recall at 256 tokens, against published figures: docs/literature.md, 2 seeds.

    14,400 steps of 16 sequences, up to 384 tokens long: 33 million tokens, or until it is solved.
    Each learning rate is chosen on runs of 5,760 steps with seed 1. Thousands of tokens trained per
    CPU second, on a core with another such run beside it:

        width   attention   ssd   gated_delta
           16         205   112            95
           32         183    81            82
           64         112    48            48

    A run takes 3 to 12 minutes, and 1 more for its evaluations: 20 at most. All 18 take 2.2 core-
    hours. The grids take 1.4, and 0.5 more if every grid is extended.
    """
    specs: list[AnySpec] = []
    for one in mixers:
        grid = _recall_run(LITERATURE_GRID_STEPS, looks=4, tested=20, seed=LITERATURE_SEEDS[0])
        specs += rate_runs(one, records, grid)
        rate = chosen_rate(one, records, grid)
        if rate is not None:
            specs += [
                one.spec(
                    # As published, when it is solved; rates are compared after as many steps.
                    **_recall_run(LITERATURE_STEPS, looks=16, tested=2000, seed=seed, stops=True),
                    learning_rate=rate,
                )
                for seed in LITERATURE_SEEDS
            ]
    return specs


PRESETS: dict[str, Callable[..., Sequence[AnySpec]]] = {
    "smoke": smoke,
    "article": article,
    "quick": quick,
    "quick-five": quick_five,
    "standard": standard,
    "long": long,
    "catalogue": catalogue,
    "catalogue-16-kib": catalogue_16_kib,
    "state-bytes": state_bytes,
    "beyond": beyond,
    "beyond-attention": beyond_attention,
    "ladder": ladder,
    "rule-counts": rule_counts,
    "wide": wide,
    "literature": literature,
}


def _protocol(
    records: Sequence[Record],
    mixers: Sequence[MixerSpec],
    length: _Length,
    cells: Mapping[tuple[str, str], Sequence[tuple[str, str]]],
    seeds: Sequence[int] = SEEDS,
    *,
    tuning_seeds: int = TUNING_SEEDS,
    task_options: Mapping[str, Any] = MappingProxyType({}),
) -> Sequence[AnySpec]:
    if not 1 <= tuning_seeds <= len(seeds):
        raise UsageError(f"tuning_seeds {tuning_seeds}: must be from 1 to {len(seeds)}")
    tuning = seeds[:tuning_seeds]
    specs: list[AnySpec] = []
    for one in mixers:
        for (chosen_on, placed), taken_by in cells.items():
            # By the same rule for every mixer.
            base = {**_cell(chosen_on, placed, *length, **task_options), "seed": seeds[0]}
            specs += rate_runs(one, records, base, tuning)
            rate = chosen_rate(one, records, base, tuning)
            if rate is not None:
                specs += [
                    one.spec(
                        **_cell(task, placement, *length, **task_options),
                        seed=seed,
                        learning_rate=rate,
                    )
                    for seed in seeds
                    for task, placement in taken_by
                ]
    return specs


def _cell(
    task: str, placement: str, context: int, tested: tuple[int, ...], steps: int, **options: Any
) -> dict[str, Any]:
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


def _recall_run(
    steps: int, *, looks: int, tested: int, seed: int, stops: bool = False
) -> dict[str, Any]:
    return {
        "task": LITERATURE_TASK,
        # 64 pairs need 256 tokens, which lengths up to 256 hardly ever have.
        "context": 384,
        "test_contexts": (256,),
        # Short texts all along, as published, and few at a step: at 64 in a batch and lengths in
        # order, no mixer but attention with a convolution found the look-up (notes/log.md).
        "length_growth": 0.5,
        # The published models have no feed-forward layer: the least that ours can have.
        "hidden": 1,
        "weight_decay": 0.1,
        "final_share": 0.0,
        "warmup_steps": 100,
        "steps": steps,
        "batch_size": 16,
        "stop_when_solved": stops,
        "evaluate_every": steps // looks,
        "validation_examples": 256,
        "test_examples": tested,
        "seed": seed,
    }
