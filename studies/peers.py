"""Tests that others wrote: which mixers pass them, and how much longer a text may be than trained.

    rulekeep study peers run|build|check

Noisy and fuzzy recall, selective copying and compression (MAD), multi-query recall (Zoology), with
and without updates, and flip-flop with undo. Training has 800 steps at 64 tokens, or twice as many
(STEPS); tests go up to 4,096. A
longer text has as much to remember, and more noise. The validation set chose each rate: with seed
1, or with three seeds where one cannot tell (TUNED_BY). Feed-forward layers make parameters equal
within one per cent. Fills docs/peers.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rulekeep.analysis.rows import (
    Rows,
    TaskSetting,
    Variant,
    best_on_test,
    by_length,
    mean,
    text_of,
)
from rulekeep.analysis.summary import Summary, paired_difference
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec, MixerSpec, mixer_specs
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import SEEDS
from rulekeep.sweeps.rates import RATES, tuned

SHARED = load_file(Path(__file__).with_name("shared.py"))

TRAINED, LONG = 64, 4096
LENGTHS = (TRAINED, 256, 1024, LONG)
TIMES = tuple(at // TRAINED for at in LENGTHS)
FAR_TIMES = TIMES[-1]
NOISY, COPY, MQAR, UPDATED, FUZZY, FLIP_FLOP, COMPRESSION = SETTINGS = [
    TaskSetting("noisy_recall", rules=25),
    TaskSetting("selective_copy", rules=8),
    TaskSetting("mqar", rules=16),
    TaskSetting("mqar", rules=8),
    TaskSetting("fuzzy_recall", rules=10),
    TaskSetting("flip_flop", rules=16),
    TaskSetting("compression", rules=12),
]
NAMES = {
    NOISY: "noisy recall", COPY: "selective copying", MQAR: "MQAR",
    UPDATED: "MQAR with updates", FUZZY: "fuzzy recall",
    FLIP_FLOP: "flip-flop with undo", COMPRESSION: "compression",
}  # fmt: skip
CELL = {
    "context": TRAINED,
    "mixed_lengths": False,
    "test_contexts": LENGTHS,
    "steps": 800,
    "validation_examples": 128,
}
CONVOLVED, FREE = "short_convolution=true", "gate_penalty=0"
PENALISED = "gate_penalty=0.001"
# Attention on compression at the next higher rate, where the seed that chose keeps more.
ATTENTION_ASIDE = 1e-2


def is_aside(record: Record) -> bool:
    """Whether a run is of compression at the rate that was not chosen for attention."""
    spec = record.spec
    return (spec.task, spec.learning_rate) == ("compression", ATTENTION_ASIDE)


def is_of_grid(record: Record) -> bool:
    """Whether a run is the grid's, or at the rate that it chose."""
    return record.spec.seed == SEEDS[0] or not is_aside(record)


VARIANTS = {
    "attention": Variant("attention[conv_size=4]", "attention, convolution", is_of_grid),
    "rotary": Variant("attention[positions=rotary,conv_size=4]", "attention, rotary, convolution"),
    "penalised": Variant("sparse_delta[hidden=240]", "sparse_delta"),
    "convolved": Variant(f"sparse_delta[{FREE},hidden=240]", "sparse_delta, no penalty"),
    "delta": Variant(f"delta[{CONVOLVED},hidden=256]", "delta, convolution"),
    "gated_delta": Variant(f"gated_delta[{CONVOLVED},hidden=256]", "gated_delta, convolution"),
    "delta_penalised": Variant(
        f"delta[{CONVOLVED},{PENALISED},hidden=256]", "delta, convolution, penalty"
    ),
    "gated_delta_penalised": Variant(
        f"gated_delta[{CONVOLVED},{PENALISED},hidden=256]", "gated_delta, convolution, penalty"
    ),
}
DEFAULT = "penalised"
FIRST = ("attention", "penalised", "convolved", "delta")
THREE = ("attention", "penalised", "delta")
RIVALS = ("delta_penalised", "gated_delta_penalised", "gated_delta")
ORDER = [
    (FIRST, NOISY),
    (RIVALS, NOISY),
    (FIRST, COPY),
    # It asks for an order, and other attention here has no positions.
    (("rotary",), COPY),
    (THREE, MQAR),
    (("convolved",), MQAR),
    (THREE, FLIP_FLOP),
    (THREE, COMPRESSION),
    (THREE, FUZZY),
    (THREE, UPDATED),
]
# With 800 our memory has only begun to learn it.
STEPS = {MQAR: 1600, UPDATED: 1600}
# Four of eight keys get a new value: with sixteen, 64 tokens would not do.
OPTIONS = {UPDATED: {"rules": UPDATED.rules, "updates": 4}}
# A seed of selective copying that learns at 64 tokens may keep anything beyond.
TUNED_BY = {setting: SEEDS[:3] if setting == COPY else SEEDS[:1] for setting in SETTINGS}
# How strong the penalty is, at one rate; and the default on both tests at a higher one.
# The second is where a grid is extended to.
RATE, HIGHER, FEW = 1e-2, 0.0333333, SEEDS[:3]
NEARLY_ALL = 0.95
AT_RATE = [0.0, 1e-4, 3e-4, 1e-3, 3e-3]
STRENGTHS_RUN = [*((one, RATE) for one in AT_RATE), (1e-3, HIGHER)]
# On noisy recall at that rate: the default, and what lacks something of it.
SIGMOID, OWN, LATER = "gate_stretch=0", "gate_kernel=1", "read_first=false"
NARROW, WIDE = "hidden=240", "hidden=254"
WHOLE, NO_PENALTY, NEITHER = "the default", "no penalty", "no exact zeros, sees its own token alone"
NONE_OF_THREE = "none of the three"
LACKS_ONE = {
    "no exact zeros": f"{SIGMOID},{NARROW}",
    "sees its own token alone": f"{OWN},{WIDE}",
    "writes before it reads": f"{LATER},{NARROW}",
    "penalty from the first step": f"penalty_start=0,{NARROW}",
}
FORMS = {
    WHOLE: NARROW,
    **LACKS_ONE,
    NEITHER: f"{SIGMOID},{OWN},{WIDE}",
    "no exact zeros, writes first": f"{SIGMOID},{LATER},{NARROW}",
    "sees its own token alone, writes first": f"{OWN},{LATER},{WIDE}",
    NONE_OF_THREE: f"{SIGMOID},{OWN},{LATER},{WIDE}",
    NO_PENALTY: f"{FREE},{NARROW}",
}
# Trained at four times the length; at the last length tested by `rulekeep test` afterwards.
LONGER, LONGER_TESTED = 256, LENGTHS[1:]


def of_strength(strength: float) -> MixerSpec:
    """Our memory with a strength of its penalty."""
    (one,) = mixer_specs(f"sparse_delta[gate_penalty={strength},hidden=240]")
    return one


def form(name: str) -> MixerSpec:
    """Our memory in one of its forms."""
    (one,) = mixer_specs(f"sparse_delta[{FORMS[name]}]")
    return one


def few(one: MixerSpec, setting: TaskSetting, rate: float, **changed: Any) -> list[AnySpec]:
    """Three seeds of a mixer at a rate."""
    cell = {**CELL, **changed, "task": setting.task}
    return [one.spec(**cell, seed=seed, learning_rate=rate) for seed in FEW]


def strengths() -> list[AnySpec]:
    """Each strength, where the penalty may cost and where it gains."""
    return [
        spec
        for setting in (COPY, NOISY)
        for one, rate in STRENGTHS_RUN
        for spec in few(of_strength(one), setting, rate)
    ]


def forms() -> list[AnySpec]:
    """Each form; and two of them trained at a longer text."""
    specs = [spec for name in FORMS for spec in few(form(name), NOISY, RATE)]
    for name in (WHOLE, NO_PENALTY):
        specs += few(form(name), NOISY, RATE, context=LONGER, test_contexts=LONGER_TESTED)
    return specs


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """A grid of rates for each variant, then all seeds at the best: part by part."""
    specs: list[AnySpec] = []
    for keys, setting in ORDER:
        base = {
            **CELL,
            "task": setting.task,
            "task_options": OPTIONS.get(setting, {}),
            "steps": STEPS.get(setting, CELL["steps"]),
        }
        runs = [{**base, "seed": seed} for seed in SEEDS]
        mixers = [VARIANTS[key].one for key in keys]
        part = [(one, tuned(one, records, runs[0], TUNED_BY[setting])) for one in mixers]
        specs += [spec for _, found in part for spec in found.grid]
        specs += [
            one.spec(**values, learning_rate=found.rate)
            for values in runs
            for one, found in part
            if found.rate is not None
        ]
        if any(found.rate is None for _, found in part):
            return specs
        if (keys, setting) == (FIRST, COPY):
            specs += forms() + strengths()
    return specs


def aside() -> list[AnySpec]:
    """What the grid lacks of five seeds of attention on compression at the rate not chosen."""
    one, cell = VARIANTS["attention"].one, {**CELL, "task": COMPRESSION.task}
    return [one.spec(**cell, seed=seed, learning_rate=ATTENTION_ASIDE) for seed in SEEDS[1:]]


def table_name(setting: TaskSetting) -> str:
    """As docs/peers.md names it."""
    return "mqar_updates" if setting == UPDATED else setting.task


def table(setting: TaskSetting) -> Callable[[Rows], str]:
    """Right labels at each length."""

    def made(rows: Rows) -> str:
        head = [NAMES[setting], "rate", *(f"{at:,} tokens" for at in LENGTHS)]
        body = []
        for key, variant in rows.variants.items():
            if group := rows.cell(key, setting):
                kept = [rows.text(key, setting, "retention", at) for at in LENGTHS]
                body.append([variant.name, f"{group.rate:.3g}", *kept])
        chances = [rows.chance(setting, "retention", at) for at in LENGTHS]
        body.append(["chance", "", *chances])
        return markdown_table(head, body)

    return made


def best_other(rows: Rows, setting: TaskSetting, at: int) -> str:
    """The mixer of others that test scores best at a length."""
    others = [key for key, variant in VARIANTS.items() if variant.one.mixer != "sparse_delta"]
    best = best_on_test(rows.cells(setting, others), "retention", at, len(SEEDS))
    assert best is not None, setting
    return best.label


def gain(rows: Rows, setting: TaskSetting, at: int) -> Summary:
    """What the default has more, paired by seed."""
    return rows.more(DEFAULT, best_other(rows, setting, at), setting, "retention", at)


def beside_best(rows: Rows) -> str:
    """The default beside the best of others at each length."""
    head = ["test", "times the length", "sparse_delta", "best other", "its", "difference"]
    body = []
    for setting in SETTINGS:
        for at, times in zip(LENGTHS[1:], TIMES[1:], strict=True):
            other = best_other(rows, setting, at)
            ours, its = (rows.text(key, setting, "retention", at) for key in (DEFAULT, other))
            more_than = text_of(gain(rows, setting, at))
            name = VARIANTS[other].name
            body.append([NAMES[setting], f"{times}", ours, name, its, more_than])
    return markdown_table(head, body)


def beside(other: str) -> Family:
    """The default beside a mixer of others, at 64 times the length."""
    return Family(
        lambda rows: {
            NAMES[one]: rows.more(DEFAULT, other, one, "retention", LONG) for one in SETTINGS
        }
    )


BEST = Family(lambda rows: {NAMES[one]: gain(rows, one, LONG) for one in SETTINGS})
ATTENTION, DELTA = beside("attention"), beside("delta")
# What the penalty gives: the default, and `delta`.
OF_PENALTY = Family(
    lambda rows: {
        of_penalty(key, free, one): rows.more(key, free, one, "retention", LONG)
        for key, free in (
            (DEFAULT, "convolved"), ("delta_penalised", "delta"),
            ("gated_delta_penalised", "gated_delta"),
        )
        for one in SETTINGS
        if rows.cell(key, one) and rows.cell(free, one)
    }
)  # fmt: skip


def of_penalty(key: str, free: str, setting: TaskSetting) -> str:
    """The name of one of these."""
    return f"{VARIANTS[key].name} − {VARIANTS[free].name}: {NAMES[setting]}"


def shown(family: Family, sign: int) -> Claim:
    """The tests in which the default is shown to be ahead (1) or behind (-1)."""

    def named(rows: Rows) -> str:
        tested = family.tested(rows)
        names = [
            name for name, one in tested.items() if one.is_shown and sign * one.difference.mean > 0
        ]
        *others, last = names or ["none"]
        return " and ".join([", ".join(others), last] if others else [last])

    return Claim(named)


def attention_aside(rows: Rows) -> dict[int, float]:
    """What attention has of compression at the rate that was not chosen, by seed."""
    found = rows.at_rate("attention", COMPRESSION, ATTENTION_ASIDE, "retention", LONG)
    assert found.keys() == {*SEEDS}, found
    return found


def kept(
    rows: Rows, one: MixerSpec, setting: TaskSetting, rate: float, context: int = TRAINED
) -> dict[int, dict[int, float]]:
    """Right labels of a mixer at a rate: by seed, and by times the length trained at."""
    return {
        record.spec.seed: {at // context: found for at, found in by_length(record).items()}
        for record in rows.runs(one, setting, rate=rate, context=context)
    }


def kept_by_rate(rows: Rows, setting: TaskSetting) -> dict[str, dict[float, float]]:
    """The mean at 64 times the length by variant and rate, over the seeds that choose one."""
    found: dict[str, dict[float, float]] = {}
    for key, variant in VARIANTS.items():
        for rate in (*RATES, HIGHER):
            seeds = kept(rows, variant.one, setting, rate)
            if seeds.keys() >= {*TUNED_BY[setting]}:
                found.setdefault(key, {})[rate] = far(seeds, TUNED_BY[setting])
    return found


def far(found: dict[int, dict[int, float]], seeds: Sequence[int] = FEW) -> float:
    """The mean of seeds at 64 times the length."""
    return fmean(found[seed][FAR_TIMES] for seed in seeds)


def by_rate(setting: TaskSetting) -> Callable[[Rows], str]:
    """The same as a table."""

    def made(rows: Rows) -> str:
        found = kept_by_rate(rows, setting)
        rates = sorted(set().union(*found.values()))
        body = [
            [VARIANTS[key].name, *(f"{of[rate]:.3f}" if rate in of else "" for rate in rates)]
            for key, of in found.items()
        ]
        head = f"{NAMES[setting]}, {LONG:,} tokens"
        return markdown_table([head, *(f"{one:.3g}" for one in rates)], body)

    return made


def strengths_as_said(rows: Rows) -> bool:
    """Whether each strength gains on noisy recall and costs on copying, but at the higher rate."""
    copied, recalled = (
        [far(kept(rows, of_strength(one), setting, rate)) for one, rate in STRENGTHS_RUN]
        for setting in (COPY, NOISY)
    )
    return (
        max(copied[1:-1]) < copied[0]
        and min(recalled[1:-1]) > recalled[0]
        and min(copied[-1], *recalled[-3:]) > NEARLY_ALL
    )


def by_strength(rows: Rows) -> str:
    """Both tests at each strength of the penalty: the mean of three seeds, and the lowest."""
    head = ["penalty", "rate"]
    head += [f"{NAMES[one]}, {at:,} tokens" for one in (COPY, NOISY) for at in (TRAINED, LONG)]
    body = []
    for strength, rate in STRENGTHS_RUN:
        row = [f"{strength:g}", f"{rate:.3g}"]
        for setting in (COPY, NOISY):
            found = kept(rows, of_strength(strength), setting, rate)
            row += [at_times(found, times) for times in (1, FAR_TIMES)]
        body.append(row)
    return markdown_table(head, body)


def by_form(rows: Rows) -> str:
    """Each form of our memory: the mean of three seeds, and the lowest."""
    body = []
    for name in FORMS:
        found = kept(rows, form(name), NOISY, RATE)
        body.append([name, *(at_times(found, times) for times in TIMES)])
    return markdown_table(["noisy recall", *(f"{at:,} tokens" for at in LENGTHS)], body)


def by_trained(rows: Rows) -> str:
    """The penalty at two lengths of training, at multiples of each."""
    head = ["noisy recall, trained at", "penalty", *(f"{times} times" for times in TIMES)]
    body = []
    for context in (TRAINED, LONGER):
        for strength in (1e-3, 0.0):
            found = kept(rows, of_strength(strength), NOISY, RATE, context)
            cells = [at_times(found, times) for times in TIMES]
            body.append([f"{context} tokens", f"{strength:g}", *cells])
    return markdown_table(head, body)


def at_times(found: dict[int, dict[int, float]], times: int) -> str:
    """The mean of the few seeds at so many times the length, and the lowest."""
    return SHARED.with_lowest(found[seed][times] for seed in FEW)


def least(*names: str, context: int = TRAINED, minimum: float = 0.0, maximum: float = 1.0) -> Claim:
    """The least mean of these forms at 64 times the length."""

    def value(rows: Rows) -> float:
        return min(far(kept(rows, form(name), NOISY, RATE, context)) for name in names)

    return Claim(value, 2, minimum, maximum)


def penalty_helps_as_said(rows: Rows) -> bool:
    """Whether the penalty helps our gate at each rate of the grid, and others at the last alone."""
    found = kept_by_rate(rows, NOISY)

    def rates(penalised: str, free: str) -> list[float]:
        with_it, without = found[penalised], found[free]
        return [one for one in RATES if one in with_it and with_it[one] > without[one]]

    return (
        rates("penalised", "convolved") == [*RATES]
        and rates("delta_penalised", "delta") == [max(RATES)]
        and rates("gated_delta_penalised", "gated_delta") == [max(RATES)]
    )


STUDY = Study(
    question="Which mixers pass tests that others wrote, and at how many times the length?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=TRAINED,
    sweeps={"peers": Sweep("sweep"), "peers-aside": Sweep("aside")},
    families={
        "beside attention, convolution": ATTENTION,
        "beside `delta`, convolution": DELTA,
        "beside the best other": BEST,
        "the penalty": OF_PENALTY,
    },
    tables={
        **{table_name(setting): table(setting) for setting in SETTINGS},
        **{f"{table_name(setting)}_by_rate": by_rate(setting) for setting in SETTINGS},
        "best": beside_best,
        "strengths": by_strength,
        "forms": by_form,
        "trained": by_trained,
    },
    claims={
        "shown_behind": shown(BEST, -1),
        "shown_ahead": shown(BEST, 1),
        "attention_behind": shown(ATTENTION, -1),
        "attention_ahead": shown(ATTENTION, 1),
        # Noisy recall.
        **{
            key: Claim(mean(key, NOISY, "retention", LONG), 2)
            for key in ("attention", "penalised", "convolved", "delta_penalised")
        },
        "delta_gain": OF_PENALTY.not_shown(of_penalty("delta_penalised", "delta", NOISY)),
        "behind": ATTENTION.not_shown(NAMES[NOISY], 2, reverse=True),
        "whole": Claim(mean("penalised", NOISY, "exact", LONG), 2),
        "penalty": OF_PENALTY.shown(of_penalty(DEFAULT, "convolved", NOISY), 2),
        # Selective copying.
        **{
            f"copy_{key}": Claim(mean(key, COPY, "retention", LONG), 2)
            for key in ("penalised", "convolved", "delta")
        },
        "copy_attention": Claim(mean("attention", COPY, "retention", LONG), 2, maximum=0.2),
        "copy_whole": Claim(mean("attention", COPY, "exact", TRAINED), 2, maximum=0.3),
        "copy_rotary": Claim(mean("rotary", COPY, "retention", TRAINED), 2, minimum=0.99),
        "copy_rotary_further": Claim(mean("rotary", COPY, "retention", LENGTHS[1]), 2, maximum=0.2),
        "copy_ahead": ATTENTION.shown(NAMES[COPY], 2),
        # Multi-query recall.
        **{
            f"mqar_{key}": Claim(mean(key, MQAR, "retention", LONG), 2)
            for key in ("attention", "penalised", "convolved", "delta")
        },
        "mqar_short": Claim(mean("penalised", MQAR, "retention", TRAINED), 2),
        "mqar_behind": ATTENTION.shown(NAMES[MQAR], 2, reverse=True),
        "mqar_penalty": OF_PENALTY.not_shown(of_penalty(DEFAULT, "convolved", MQAR), reverse=True),
        "mqar_delta_more": DELTA.not_shown(NAMES[MQAR], reverse=True),
        # Flip-flop with undo.
        **{
            f"flip_{key}": Claim(mean(key, FLIP_FLOP, "retention", LONG), 2)
            for key in ("attention", "penalised", "delta")
        },
        "flip_ahead": ATTENTION.shown(NAMES[FLIP_FLOP], 2),
        "flip_delta_more": DELTA.not_shown(NAMES[FLIP_FLOP]),
        # Compression, fuzzy recall and MQAR with updates.
        **{
            f"{name}_{key}": Claim(mean(key, setting, "retention", LONG), 2)
            for name, setting in (("compression", COMPRESSION), ("updated", UPDATED))
            for key in THREE
        },
        **{f"fuzzy_{key}": Claim(mean(key, FUZZY, "retention", LONG), 3) for key in THREE},
        "fuzzy_short": Claim(mean("penalised", FUZZY, "retention", TRAINED), 3),
        "fuzzy_whole": Claim(mean("penalised", FUZZY, "exact", LONG), 2),
        "fuzzy_behind": ATTENTION.not_shown(NAMES[FUZZY], reverse=True),
        "updated_short": Claim(mean("penalised", UPDATED, "retention", TRAINED), 2),
        "updated_behind": ATTENTION.shown(NAMES[UPDATED], 2, reverse=True),
        "updated_delta_more": DELTA.shown(NAMES[UPDATED], 2),
        "compression_aside": Claim(lambda rows: fmean(attention_aside(rows).values()), 2),
        "compression_aside_more": Claim(
            lambda rows: paired_difference(
                rows.known(DEFAULT, COMPRESSION, "retention", LONG).seeds, attention_aside(rows)
            ),
            maximum=0.2,
        ),
        "compression_ahead": ATTENTION.not_shown(NAMES[COMPRESSION], 2),
        # The sentences about strengths.
        "strengths": Claim(
            lambda rows: kept_by_rate(rows, NOISY)["penalised"][RATE],
            holds=lambda rows: strengths_as_said(rows) and penalty_helps_as_said(rows),
        ),
        # What else the gate needs.
        "forms_free": least(NO_PENALTY, maximum=0.6),
        "forms_alone": least(*LACKS_ONE, minimum=0.98),
        "forms_neither": least(NEITHER, maximum=0.8),
        "forms_none": least(NONE_OF_THREE, maximum=0.8),
        "forms_longer": least(WHOLE, context=LONGER, minimum=0.99),
        "forms_longer_free": least(NO_PENALTY, context=LONGER, minimum=0.9, maximum=0.98),
        "copy_penalty": OF_PENALTY.not_shown(of_penalty(DEFAULT, "convolved", COPY), reverse=True),
        "copy_delta_more": DELTA.not_shown(NAMES[COPY]),
    },
)
