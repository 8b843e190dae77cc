"""Does it hold elsewhere: with two rules or eight, in a larger model, after longer training?

    rulekeep study bounds run|build|check

Our memory beside attention. *Two rules and eight*: three tasks, trained and tested at 256 tokens at
most. Validation chose each rate with its first seed; `run` makes what three seeds need. On eight
rules of `apply` the first seed's rate gives few seeds of our memory whole answers: the next lower
one is run as well.

*A larger model*: marked rules of `recite`, seven times the parameters, three seeds. *Longer
training*: `recite` by the protocol `long` in a quarter of its steps, trained at 1,028 tokens and
tested up to 4,096. There attention is the one that learns marked rules in the fewest steps: with a
convolution over eight tokens, and earliness (studies/beyond.py). Fills docs/evidence.md and README.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from rulekeep.analysis.groups import Group
from rulekeep.analysis.rows import (
    Rows,
    TaskSetting,
    Variant,
    floored,
    mean,
    state_kib,
    steps_text,
    text_of,
)
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec, mixer_specs
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import (
    CATALOGUE_LENGTH,
    EVERY_TASK,
    SEEDS,
    STANDARD_LENGTH,
    WITHOUT_RECALL,
    Length,
    cell,
    protocol,
)

SHARED = load_file(Path(__file__).with_name("shared.py"))

# The exam has four.
RULE_COUNTS = (2, 8)
SHORT, MIDDLE, LONG = LENGTHS = (256, 1028, 4096)
TO_SHORT = STANDARD_LENGTH._replace(tested=(SHORT,))
FIGURES = ("retention", "exact")
COUNTED = [
    TaskSetting(task, placement, rules)
    for task in ("apply", "override", "recite")
    for placement in ("early", "marked")
    for rules in RULE_COUNTS
]
EIGHT_OF_APPLY = [one for one in COUNTED if (one.task, one.rules) == ("apply", 8)]
EIGHT_MARKED = TaskSetting("recite", "marked", 8)
# Of the larger model, and of both placements of longer training.
EARLY, MARKED = OF_FOUR = [TaskSetting("recite", "early"), TaskSetting("recite", "marked")]
# The rate of our memory that the validation set did not choose for eight rules of `apply`.
ASIDE_RATE = 1e-2
# The seeds that choose a rate, and all of the larger model.
TUNING = SEEDS[:3]
STEPS = 1000


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
LARGER = {
    "larger_attention": "attention[positions=rotary,width=128,layers=4]",
    "larger_ours": (
        "sparse_delta[short_convolution=false,width=128,layers=4,added_positions=earliness]"
    ),
    "larger_signalled": "attention[positions=rotary,width=128,layers=4,added_positions=earliness]",
    "larger_bare": "sparse_delta[short_convolution=false,width=128,layers=4]",
}
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
    **{key: Variant(mixer, mixer) for key, mixer in LARGER.items()},
    "convolved_attention": Variant(
        "attention[conv_size=8,added_positions=earliness]", "attention, convolution, earliness"
    ),
}
MIXERS = [VARIANTS[key].one for key in ("attention", "ours", "signalled", "bare")]
# The keys of each form without earliness and with it.
LARGER_FORMS = {
    LARGER["larger_attention"]: ("larger_attention", "larger_signalled"),
    LARGER["larger_bare"]: ("larger_bare", "larger_ours"),
}


# --- what makes the runs -------------------------------------------------------------------------


def rule_counts(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Each mixer with 2 and 8 rules: `standard` except recall, to 256 tokens."""
    return [
        spec
        for rules in RULE_COUNTS
        for spec in protocol(
            records, MIXERS, TO_SHORT, WITHOUT_RECALL,
            tuning_seeds=len(TUNING), task_options={"rules": rules},
        )
    ]  # fmt: skip


def aside(records: Sequence[Record]) -> Sequence[AnySpec]:
    """What the grid lacks of five seeds at the rate that was not chosen.

    Then our memory with its convolution, where the earlier form falls behind.
    """
    apply = {tuned: taken for tuned, taken in WITHOUT_RECALL.items() if tuned[0] == "apply"}
    convolved = protocol(
        records, [VARIANTS["convolved"].one], TO_SHORT, apply,
        tuning_seeds=len(TUNING), task_options={"rules": 8},
    )  # fmt: skip
    return [
        VARIANTS["ours"].one.spec(
            **cell("apply", placement, *TO_SHORT, rules=8), seed=seed, learning_rate=ASIDE_RATE
        )
        for placement, seeds in (("marked", SEEDS[1:]), ("early", SEEDS))
        for seed in seeds
    ] + [*convolved]


def wide(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Each larger model on marked rules, at a rate of its own."""
    mixers = mixer_specs(",".join(LARGER.values()))
    cells = {("recite", "marked"): [("recite", "marked")]}
    return protocol(records, mixers, CATALOGUE_LENGTH, cells, TUNING)


def longer_training(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Marked rules first: they are the harder."""
    mixers = [VARIANTS[key].one for key in ("ours", "convolved_attention")]
    length = Length(MIDDLE, LENGTHS, STEPS)
    specs = protocol(records, mixers, length, EVERY_TASK, tasks=["recite"])
    return sorted(specs, key=lambda spec: spec.task_options["placement"] == "early")


# --- two rules and eight -------------------------------------------------------------------------


def beside(figure: str) -> Callable[[Rows], str]:
    """A figure of both, the difference, and the steps."""

    def table(rows: Rows) -> str:
        names = [VARIANTS[key].name for key in ("attention", "ours")]
        head = [f"{figure}, {SHORT} tokens", *names, "difference"]
        head += [f"steps of {name}" for name in names]
        body = []
        for setting in COUNTED:
            both = [rows.group(key, setting) for key in ("attention", "ours")]
            cells = [text_of(group.summary(figure, SHORT)) for group in both]
            cells.append(rows.more("ours", "attention", setting, figure, SHORT).text())
            name = f"{setting.task}, {setting.placement}, {setting.rules} rules"
            body.append([name, *cells, *(steps_text(group, figure) for group in both)])
        return markdown_table(head, body)

    return table


def eight_of_apply(rows: Rows) -> str:
    """Attention and the forms of our memory on eight rules of `apply`."""
    head = [f"eight rules, {SHORT} tokens", "", "rate", *FIGURES, "difference to attention"]
    body = []
    for setting in EIGHT_OF_APPLY:
        for key in ("attention", "ours", "aside", "convolved"):
            apart = ""
            if key != "attention":
                apart = rows.more(key, "attention", setting, "exact", SHORT).text()
            body.append(
                [
                    f"{setting.task}, {setting.placement}",
                    VARIANTS[key].name,
                    f"{rows.group(key, setting).rate:.3g}",
                    *(rows.text(key, setting, figure, SHORT) for figure in FIGURES),
                    apart,
                    rows.known(key, setting, "exact", SHORT).each_seed,
                ]
            )
    return markdown_table([*head, "exact, seeds 1 to 5"], body)


def least(key: str, settings: Sequence[TaskSetting]) -> Callable[[Rows], float]:
    """The lowest mean of retention, rounded down."""
    return lambda rows: floored(
        min(rows.known(key, one, "retention", SHORT).mean for one in settings)
    )


# --- a larger model ------------------------------------------------------------------------------


@cache
def larger(rows: Rows) -> Rows:
    """The rows of three seeds."""
    return rows.at(seeds=TUNING)


def larger_table(rows: Rows) -> str:
    """Both, and the difference."""
    found, both = larger(rows), ("larger_ours", "larger_attention")
    asked = [("retention", at) for at in LENGTHS] + [("exact", at) for at in (SHORT, LONG)]
    head = [MARKED.name, "parameters", f"KiB at {MIDDLE}", "rate"]
    head += [*(f"{figure}, {at}" for figure, at in asked), f"each seed at {LONG}"]
    body = []
    for key in reversed(both):
        group = found.group(key, MARKED)
        costs = [f"{parameters(group):,.0f}", f"{state_kib(group, MIDDLE):,.1f}"]
        texts = [found.text(key, MARKED, *one) for one in asked]
        texts.append(found.known(key, MARKED, "retention", LONG).each_seed)
        body.append([VARIANTS[key].name, *costs, f"{group.rate:.3g}", *texts])
    apart = [found.more(*both, MARKED, *one).text() for one in asked[:3]]
    body.append(["difference", "", "", "", *apart, "", "", ""])
    return markdown_table(head, body)


def parameters(group: Group) -> float:
    """The same for every seed."""
    (found,) = {*group.cost("parameters").values()}
    return found


def times(rows: Rows) -> float:
    """How many times the parameters of the exam's attention the larger one has."""
    big, small = (larger(rows).group(key, MARKED) for key in ("larger_attention", "attention"))
    return parameters(big) / parameters(small)


def at_chance(rows: Rows) -> bool:
    """Whether the interval of the larger attention at 4,096 tokens holds the chance level."""
    group = larger(rows).group("larger_attention", MARKED)
    summary = group.summary("retention", LONG)
    return summary.low <= group.chance("retention", LONG) <= summary.high


# --- longer training -----------------------------------------------------------------------------


@cache
def longer(rows: Rows) -> Rows:
    """The rows of what was trained at 1,028 tokens."""
    return rows.at(context=MIDDLE)


def longer_table(rows: Rows) -> str:
    """Both, and the difference."""
    found, both = longer(rows), ("ours", "convolved_attention")
    asked = [("retention", at) for at in LENGTHS] + [("exact", at) for at in (MIDDLE, LONG)]
    head = ["", "", "rate", *(f"{figure}, {at}" for figure, at in asked), "steps to 0.9"]
    body = []
    for setting in OF_FOUR:
        for key in reversed(both):
            group = found.group(key, setting)
            texts = [found.text(key, setting, *one) for one in asked]
            texts.append(steps_text(group, "retention"))
            body.append([setting.name, VARIANTS[key].name, f"{group.rate:.3g}", *texts])
        apart = [found.more(*both, setting, *one).text() for one in asked]
        body.append([setting.name, "difference", "", *apart, ""])
    return markdown_table(head, body)


# --- what is tested -------------------------------------------------------------------------------


def beside_attention(figure: str) -> Family:
    """The earlier form beside attention with rotary positions, with two rules and eight."""
    return Family(
        lambda rows: {
            one.name: rows.more("ours", "attention", one, figure, SHORT) for one in COUNTED
        }
    )


COUNTED_FAMILIES = {figure: beside_attention(figure) for figure in FIGURES}
EIGHT = Family(
    lambda rows: {
        f"{VARIANTS[key].name}: {one.name}": rows.more(key, "attention", one, "exact", SHORT)
        for one in EIGHT_OF_APPLY
        for key in ("aside", "convolved")
    }
)
LONGER = Family(
    lambda rows: {
        f"{figure}: {one.name}": longer(rows).more("ours", "convolved_attention", one, figure, LONG)
        for figure in FIGURES
        for one in OF_FOUR
    }
)


# --- claims --------------------------------------------------------------------------------------

AT_LONG = (MARKED, "retention", LONG)
LEARNED = [one for one in COUNTED if one != EIGHT_MARKED]
STUDY = Study(
    question="Does it hold with other numbers of rules, a larger model, longer training?",
    variants=VARIANTS,
    settings=[*COUNTED, *OF_FOUR],
    context=SHORT,
    seeds=SEEDS,
    reads=("exam",),
    sweeps={
        "rule-counts": Sweep("rule_counts"),
        "rule-counts-aside": Sweep("aside"),
        "wide": Sweep("wide"),
        "longer-training": Sweep("longer_training"),
    },
    families={
        **{f"beside attention, {figure}": one for figure, one in COUNTED_FAMILIES.items()},
        "eight rules of `apply`, exact": EIGHT,
        f"trained at {MIDDLE:,} tokens": LONGER,
    },
    tables={
        **{figure: beside(figure) for figure in FIGURES},
        "eight_of_apply": eight_of_apply,
        "larger": larger_table,
        "larger-earliness": lambda rows: SHARED.by_earliness(
            larger(rows), LARGER_FORMS, [MARKED], "exact", LONG
        ),
        "longer": longer_table,
    },
    claims={
        "kept": Claim(least("ours", COUNTED), minimum=0.99),
        "attention": Claim(least("attention", LEARNED), minimum=0.9),
        "attention_unlearned": Claim(
            mean("attention", EIGHT_MARKED, "retention", SHORT), maximum=0.9
        ),
        # Eight rules of `apply`, whole answers: where our memory falls behind.
        **{
            f"apply_{key}_early": Claim(mean(key, EIGHT_OF_APPLY[0], "exact", SHORT))
            for key in ("attention", "ours", "aside", "convolved")
        },
        "apply_fewer": COUNTED_FAMILIES["exact"].not_shown(EIGHT_OF_APPLY[0].name),
        "apply_convolved_fewer": EIGHT.not_shown(
            f"{VARIANTS['convolved'].name}: {EIGHT_OF_APPLY[0].name}", reverse=True
        ),
        "larger_ours": Claim(
            lambda rows: larger(rows).known("larger_ours", *AT_LONG).mean, minimum=0.99
        ),
        "larger_attention": Claim(
            lambda rows: larger(rows).known("larger_attention", *AT_LONG).mean, holds=at_chance
        ),
        "times": Claim(times, 0, minimum=6.5, maximum=7.5),
        "longer_attention": Claim(
            lambda rows: longer(rows).known("convolved_attention", *AT_LONG).mean
        ),
        "longer_more": LONGER.not_shown(f"retention: {MARKED.name}"),
    },
)
