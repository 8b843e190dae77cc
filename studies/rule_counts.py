"""Two rules and eight: does what four rules show hold with fewer and with more?

    rulekeep study rule_counts run|build|check

Our memory beside attention with rotary positions on three tasks, trained and tested at 256 tokens
at most. Validation chose each rate with its first seed; `run` makes what three seeds need. On eight
rules of `apply` the first seed's rate gives few seeds of our memory whole answers: the next lower
one is run as well.
Fills docs/evidence.md and README.
"""

from collections.abc import Callable, Sequence
from math import isfinite

from rulekeep.analysis.best import steps_to_learn
from rulekeep.analysis.cells import Group
from rulekeep.analysis.rows import Rows, TaskSetting, Variant, by_earliness, floored, text_of
from rulekeep.analysis.summary import Summary
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import AnySpec, mixer_specs
from rulekeep.study import Claim, Study, Sweep
from rulekeep.sweeps.presets import SEEDS, STANDARD_LENGTH, WITHOUT_RECALL, cell, protocol

# The exam has four.
RULE_COUNTS = (2, 8)
LENGTH = 256
TO_LENGTH = STANDARD_LENGTH._replace(tested=(LENGTH,))
FIGURES = ("retention", "exact")
SETTINGS = [
    TaskSetting(task, placement, rules)
    for task in ("apply", "override", "recite")
    for placement in ("early", "marked")
    for rules in RULE_COUNTS
]
EIGHT_OF_APPLY = [one for one in SETTINGS if (one.task, one.rules) == ("apply", 8)]
EIGHT_MARKED = TaskSetting("recite", "marked", 8)
# The rate of our memory that the validation set did not choose for eight rules of `apply`.
ASIDE_RATE = 1e-2
# The seeds that choose a rate.
TUNING = SEEDS[:3]


def is_aside(record: Record) -> bool:
    """Whether a run is at the rate that was not chosen."""
    spec = record.spec
    return (spec.task, spec.task_options["rules"]) == ("apply", 8) and (
        spec.learning_rate == ASIDE_RATE
    )


def is_of_grid(record: Record) -> bool:
    """Whether a run is the grid's, of one seed or of three, or at the rate that it has chosen."""
    spec = record.spec
    chooses = spec.task_options["placement"] == "marked" and spec.seed in TUNING
    return chooses or not is_aside(record)


MEMORY = "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]"
VARIANTS = {
    "attention": Variant("attention[positions=rotary]", "attention, rotary positions"),
    "ours": Variant(MEMORY, "sparse_delta, no convolution, earliness", is_of_grid),
    "aside": Variant(
        MEMORY, "sparse_delta, no convolution, earliness, at a rate that was not chosen", is_aside
    ),
    "signalled": Variant(
        "attention[positions=rotary,added_positions=earliness]",
        "attention, rotary positions, earliness",
    ),
    "bare": Variant(
        "sparse_delta[short_convolution=false,hidden=240]", "sparse_delta, no convolution"
    ),
    "convolved": Variant("sparse_delta[hidden=232]", "sparse_delta"),
}
MIXERS = mixer_specs(
    ",".join(one.mixer for key, one in VARIANTS.items() if key not in ("aside", "convolved"))
)
# The keys of each form without earliness and with it.
FORMS = {
    "attention, rotary positions": ("attention", "signalled"),
    "sparse_delta, no convolution": ("bare", "ours"),
}


def rule_counts(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Each mixer with 2 and 8 rules: `standard` except recall, to 256 tokens."""
    return [
        spec
        for rules in RULE_COUNTS
        for spec in protocol(
            records, MIXERS, TO_LENGTH, WITHOUT_RECALL,
            tuning_seeds=len(TUNING), task_options={"rules": rules},
        )
    ]  # fmt: skip


def aside(records: Sequence[Record]) -> Sequence[AnySpec]:
    """What the grid lacks of five seeds at the rate that was not chosen.

    Then our memory with its convolution, where the earlier form falls behind.
    """
    (ours,) = mixer_specs(MEMORY)
    apply = {tuned: taken for tuned, taken in WITHOUT_RECALL.items() if tuned[0] == "apply"}
    convolved = protocol(
        records, mixer_specs(VARIANTS["convolved"].mixer), TO_LENGTH, apply,
        tuning_seeds=len(TUNING), task_options={"rules": 8},
    )  # fmt: skip
    return [
        ours.spec(
            **cell("apply", placement, *TO_LENGTH, rules=8), seed=seed, learning_rate=ASIDE_RATE
        )
        for placement, seeds in (("marked", SEEDS[1:]), ("early", SEEDS))
        for seed in seeds
    ] + [*convolved]


# --- tables --------------------------------------------------------------------------------------


def known(rows: Rows, key: str, setting: TaskSetting) -> Group:
    """All runs of a variant on a task setting."""
    found = rows.cell(key, setting)
    assert found is not None, (key, setting)
    return found


def steps(group: Group, figure: str) -> str:
    """Steps to 0.9 of a figure on the validation set, the median over seeds."""
    count = steps_to_learn(group, figure)
    return f"{count:,.0f}" if isfinite(count) else "never"


def beside(figure: str) -> Callable[[Rows], str]:
    """A figure of both, the difference, and the steps."""

    def table(rows: Rows) -> str:
        names = [VARIANTS[key].name for key in ("attention", "ours")]
        head = [f"{figure}, {LENGTH} tokens", *names, "difference"]
        head += [f"steps of {name}" for name in names]
        body = []
        for setting in SETTINGS:
            both = [known(rows, key, setting) for key in ("attention", "ours")]
            cells = [text_of(group.summary(figure, LENGTH)) for group in both]
            cells.append(more(setting, figure)(rows).text())
            name = f"{setting.task}, {setting.placement}, {setting.rules} rules"
            body.append([name, *cells, *(steps(group, figure) for group in both)])
        return markdown_table(head, body)

    return table


def at_another_rate(rows: Rows) -> str:
    """Our memory on eight rules of `apply` at the rate that was not chosen."""
    head = [VARIANTS["aside"].name, "rate"]
    for figure in FIGURES:
        head += [figure, "difference to attention"]
    body = []
    for setting in EIGHT_OF_APPLY:
        group = known(rows, "aside", setting)
        row = [setting.name, f"{group.rate:.3g}"]
        for figure in FIGURES:
            row.append(text_of(group.summary(figure, LENGTH)))
            row.append(more(setting, figure, "aside")(rows).text())
        seeds = sorted(group.by_seed("exact", LENGTH).items())
        body.append([*row, ", ".join(f"{right:.3f}" for _, right in seeds)])
    return markdown_table([*head, "exact, seeds 1 to 5"], body)


# --- claims --------------------------------------------------------------------------------------


def more(setting: TaskSetting, figure: str, key: str = "ours") -> Callable[[Rows], Summary]:
    """What our memory has more than attention, paired by seed."""
    return lambda rows: rows.more(key, "attention", setting, figure, LENGTH)


def mean(key: str, setting: TaskSetting, figure: str = "retention") -> Callable[[Rows], float]:
    """The mean of one row."""
    return lambda rows: rows.known(key, setting, figure, LENGTH).mean


def least(key: str, settings: Sequence[TaskSetting]) -> Callable[[Rows], float]:
    """The lowest mean of retention, rounded down."""
    return lambda rows: floored(min(mean(key, one)(rows) for one in settings))


LEARNED = [one for one in SETTINGS if one != EIGHT_MARKED]
STUDY = Study(
    question="Does what four rules show hold with two rules and with eight?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=LENGTH,
    seeds=SEEDS,
    sweeps={
        "rule-counts": Sweep("rule_counts"),
        "rule-counts-aside": Sweep("aside"),
    },
    tables={
        **{figure: beside(figure) for figure in FIGURES},
        "aside": at_another_rate,
        "earliness": lambda rows: by_earliness(rows, FORMS, SETTINGS, "exact", LENGTH),
    },
    claims={
        "kept": Claim(least("ours", SETTINGS), minimum=0.99),
        "attention": Claim(least("attention", LEARNED), minimum=0.9),
        "attention_unlearned": Claim(mean("attention", EIGHT_MARKED), maximum=0.9),
        # Eight rules of `apply`, whole answers: where our memory falls behind.
        **{
            f"apply_{key}_early": Claim(mean(key, EIGHT_OF_APPLY[0], "exact"))
            for key in ("attention", "ours", "aside")
        },
        "apply_fewer": Claim(more(EIGHT_OF_APPLY[0], "exact"), maximum=0),
    },
)
