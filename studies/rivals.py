"""README's board: what do other memories keep with the steps that ours has?

    rulekeep study rivals run|build|check

Every model has 2,000 steps at 256 tokens at most, on early rules of `recite` and on revised, marked
ones of `override`. With seed 1 the validation set chose a rate on each. Our memory, both attentions
and Kimi delta attention are of the studies `beyond`, `exam` and `published`. Feed-forward layers
make parameters equal within one per cent; attention with a convolution has 4.5 % more. Fills
README, docs/results.md and docs/evidence.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rulekeep.analysis.groups import strength
from rulekeep.analysis.rows import (
    NOT_RUN,
    Rows,
    TaskSetting,
    Variant,
    mean,
    more,
    state_kib,
)
from rulekeep.analysis.summary import LEARNED_RETENTION
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import SEEDS, STANDARD_LENGTH, protocol

SHARED = load_file(Path(__file__).with_name("shared.py"))


def at_rates(rates: Mapping[str, float]) -> Callable[[Record], bool]:
    """`only` of a variant: its runs at the learning rate of their task."""
    return lambda record: record.spec.learning_rate == rates[record.spec.task]


READS = (
    "carries", "exam", "attention-controls", "attention-controls-aside", "published", "every-rate",
    "equal-sight",
)  # fmt: skip
SHORT, MIDDLE, LONG = LENGTHS = (256, 1028, 4096)
EARLY, REVISED = SETTINGS = [TaskSetting("recite", "early"), TaskSetting("override", "marked")]
CONVOLUTION, PENALTY = "short_convolution=true", "gate_penalty=0.001"
FIGURES, AT_LONG = ("retention", "exact"), ("retention", LONG)
RIVALS = {
    "gated_delta": Variant("gated_delta", "`gated_delta`"),
    "gated_slots": Variant("gated_slots[hidden=224]", "`gated_slots`"),
    "delta": Variant(f"delta[{CONVOLUTION},hidden=248]", "`delta`, convolution"),
    "delta, penalty": Variant(
        f"delta[{CONVOLUTION},{PENALTY},hidden=248]", "`delta`, convolution, our penalty"
    ),
}
OURS, KDA = "ours", "kda"
# But as published, they lack parts of the published layer, and remember longer at the start.
LACKING = ("`gated_delta`", "`gated_slots`", "`kda`")
# Attention with a convolution and earliness at the better of its two rates, in its favour.
BEST_RATES = {"recite": 3e-3, "override": 1e-2}
# What one seed and five choose on revised rules by validation.
VALIDATED_RATE = 3e-3
VARIANTS = {
    OURS: Variant("sparse_delta[hidden=232]", "`sparse_delta`"),
    "attention": Variant(
        "attention[conv_size=8,added_positions=earliness]",
        "attention, convolution, earliness",
        at_rates(BEST_RATES),
    ),
    **RIVALS,
    KDA: Variant("kda[published=true,hidden=216]", "`kda`, as published"),
    "rotary": Variant("attention[positions=rotary]", "attention, rotary"),
}
# On the board, and tested in their own study. They are run on marked rules alone.
APART = load_file(Path(__file__).with_name("apart.py"))
MARKED = TaskSetting("recite", "marked")
OF_APART = {f"apart: {key}": APART.STUDY.variants[key] for key in ("gated_delta", *APART.SIGHTED)}


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """A grid on each task setting, then all seeds."""
    cells = {(one.task, one.placement): [(one.task, one.placement)] for one in SETTINGS}
    return protocol(records, [one.one for one in RIVALS.values()], STANDARD_LENGTH, cells)


# --- tables --------------------------------------------------------------------------------------


def compared(rows: Rows) -> list[str]:
    """Who is run on both task settings."""
    return [key for key in VARIANTS if all(rows.cell(key, one) for one in SETTINGS)]


def at_best(rows: Rows, keys: Iterable[str], setting: TaskSetting) -> Mapping[int, float]:
    """Retention by seed at 4,096 tokens, at the best on test of all rates that all seeds have.

    Of several forms it is that of the best. Nothing if there is no such rate.
    """
    every = [
        rows.at_rate(key, setting, rate, *AT_LONG)
        for key in keys
        for rate in {
            run.spec.learning_rate or 0.0 for run in rows.runs(rows.variants[key].one, setting)
        }
    ]
    return max((seeds for seeds in every if {*SEEDS} <= seeds.keys()), key=strength, default={})


def at_their_best(rows: Rows, forms: Mapping[str, Sequence[str]]) -> str:
    """A line each: of its forms and rates the best in each task setting, and its lowest seed."""
    settings = (EARLY, MARKED, REVISED)
    kept = {name: [at_best(rows, keys, one) for one in settings] for name, keys in forms.items()}
    head = ["mixer", f"KiB a layer at {MIDDLE:,}"]
    head += [f"`{setting.task}`, {setting.placement}" for setting in settings]
    body = []
    for name in sorted(kept, key=lambda name: strength(kept[name][-1]), reverse=True):
        run = [key for key in forms[name] if at_best(rows, [key], REVISED)]
        sizes = {f"{state_kib(rows.group(key, REVISED), MIDDLE):,.0f}": key for key in run}
        cells = [SHARED.with_lowest(seeds.values()) if seeds else NOT_RUN for seeds in kept[name]]
        body += [[name, " or ".join(sorted(sizes)), *cells]] if run else []
    # Marked rules of `recite` are guessed like early ones.
    levels = (rows.chance(one, *AT_LONG) for one in (EARLY, EARLY, REVISED))
    return markdown_table(head, [*body, ["guessing", "–", *levels]])


def dagger(name: str) -> str:
    """The sign of what lacks parts of the published layer."""
    mixer, _, form = name.partition(", ")
    return " †" if mixer in LACKING and form != "as published" else ""


def board(rows: Rows) -> str:
    """README's rows: each mixer by name."""
    forms: dict[str, list[str]] = {}
    for key, one in rows.variants.items():
        name = one.name.partition(",")[0] + dagger(one.name)
        forms.setdefault(name, []).append(key)
    return at_their_best(rows, forms)


def each_form(rows: Rows) -> str:
    """Each form of a mixer by itself."""
    named = {one.name + dagger(one.name): [key] for key, one in rows.variants.items()}
    return at_their_best(rows, named)


def ahead(rows: Rows) -> str:
    """What our memory has more than each, paired by seed."""
    asked = [(figure, one) for figure in FIGURES for one in SETTINGS]
    head = [
        f"{VARIANTS[OURS].name} − other, {LONG:,} tokens",
        *(f"{f}: {one.name}" for f, one in asked),
    ]
    body = [
        [
            VARIANTS[key].name,
            *(rows.more(OURS, key, one, figure, LONG).text(3) for figure, one in asked),
        ]
        for key in compared(rows)
        if key != OURS
    ]
    return markdown_table(head, body)


def name_of(key: str, setting: TaskSetting) -> str:
    """What a comparison of our memory with another is called."""
    return f"{VARIANTS[OURS].name} − {VARIANTS[key].name}: {setting.name}"


OTHERS = Family(
    lambda rows: {
        name_of(key, one): rows.more(OURS, key, one, *AT_LONG)
        for one in SETTINGS
        for key in compared(rows)
        if key != OURS
    }
)
# What the penalty gives the delta rule with these steps.
OF_PENALTY = Family(
    lambda rows: {one.name: rows.more("delta, penalty", "delta", one, *AT_LONG) for one in SETTINGS}
)


def shown_of_revised(rows: Rows) -> bool:
    """Whether our memory is shown to keep more revised rules than these, and than no other."""
    tested = OTHERS.tested(rows)
    shown = {
        key for key in compared(rows) if key != OURS and tested[name_of(key, REVISED)].is_shown
    }
    return shown == {KDA, "rotary"}


def least_short(rows: Rows) -> float:
    """The least mean where all were trained."""
    return min(
        mean(key, one, "retention", SHORT)(rows) for key in compared(rows) for one in SETTINGS
    )


def attention_validated(rows: Rows) -> float:
    """What attention with a convolution keeps of revised rules at the rate of validation."""
    kept = rows.at_rate("attention", REVISED, VALIDATED_RATE, *AT_LONG)
    assert kept.keys() == {*SEEDS}, kept
    return fmean(kept.values())


# --- claims --------------------------------------------------------------------------------------

STUDY = Study(
    question="What do other memories keep with the steps that ours has?",
    variants={**VARIANTS, **OF_APART},
    settings=SETTINGS,
    context=SHORT,
    reads=READS,
    sweeps={"rivals": Sweep("sweep")},
    families={"beside others": OTHERS, "our penalty in `delta`": OF_PENALTY},
    tables={
        "board": board,
        "forms": each_form,
        "more": ahead,
        **{
            figure: lambda rows, figure=figure: SHARED.by_lengths(
                rows, figure, compared(rows), LENGTHS
            )
            for figure in FIGURES
        },
    },
    claims={
        "least_short": Claim(least_short, minimum=LEARNED_RETENTION),
        **{
            f"{key}_{said}": Claim(mean(key, setting, *AT_LONG))
            for key in ("delta", "gated_delta", "gated_slots")
            for said, setting in (("early", EARLY), ("revised", REVISED))
        },
        "attention_validated": Claim(attention_validated),
        "kda": Claim(mean(KDA, EARLY, *AT_LONG)),
        "kda_revised": Claim(mean(KDA, REVISED, *AT_LONG)),
        "more_revised": OTHERS.not_shown(name_of("gated_delta", REVISED)),
        "more_delta": OTHERS.not_shown(name_of("delta", EARLY)),
        "more_delta_revised": OTHERS.not_shown(name_of("delta", REVISED)),
        "more_kda": OTHERS.not_shown(name_of(KDA, EARLY)),
        "more_kda_revised": Claim(more(OURS, KDA, REVISED, *AT_LONG), holds=shown_of_revised),
        **{
            f"penalty_{said}": OF_PENALTY.not_shown(one.name)
            for said, one in (("early", EARLY), ("revised", REVISED))
        },
    },
)
