"""Our memory on eight rules of `apply` at a rate that dev did not choose: a sweep.

    rulekeep sweep benchmarks/rule_counts_aside.py --out results/rule-counts-aside

Dev chooses by the loss of its first seed alone, and the rate that it chose, the end of the extended
grid, gives few of its seeds whole answers. The next lower one is run as well; its table is that of
`rule_counts_table.py`.
"""

from collections.abc import Sequence

from rulekeep.specs import RunSpec
from rulekeep.sweeps.presets import RULE_COUNT_MIXERS, SEEDS, rule_counts

TASK, RULES, RATE = "apply", 8, 1e-2


def sweep() -> Sequence[RunSpec]:
    """What the grid of the preset `rule-counts` lacks of five seeds: marked rules, then early."""
    # Without records: the grid alone, on marked rules, with its one seed.
    (one,) = (
        spec
        for spec in rule_counts([], mixers=RULE_COUNT_MIXERS[1:])
        if isinstance(spec, RunSpec)
        and (spec.task, spec.task_options["rules"], spec.learning_rate) == (TASK, RULES, RATE)
    )
    return [
        one.model_copy(
            update={"task_options": {**one.task_options, "placement": placement}, "seed": seed}
        )
        for placement, seeds in (("marked", SEEDS[1:]), ("early", SEEDS))
        for seed in seeds
    ]
