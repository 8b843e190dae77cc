"""Layers as published: which of them learn early rules at this size, and what they keep of them.

    rulekeep study published run|build|check

Value width, scale, norms, gates, convolution and the start of the decay are those of the published
code (`published=true`). Feed-forward layers make parameters equal within one per cent. Each layer
has 2,000 steps at 256 tokens at most on early rules of `recite`, with seed 1. Kimi delta attention
and Raven learn them so. They have all seeds at the rate that the validation set chose, and revised
rules at the same rate. The others are tried with a longer half-life at the start. Our memory is
that of the study `beyond`. Fills docs/evidence.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from rulekeep.analysis.rows import (
    Rows,
    TaskSetting,
    Variant,
    by_length,
    first_learned,
    kib_a_layer,
    mean,
    text_of_steps,
)
from rulekeep.analysis.summary import LEARNED_RETENTION
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import SEEDS, STANDARD_LENGTH, cell
from rulekeep.sweeps.rates import RATES

SHARED = load_file(Path(__file__).with_name("shared.py"))

SHORT, MIDDLE, LONG = LENGTHS = (256, 1028, 4096)
EARLY, REVISED = SETTINGS = [TaskSetting("recite", "early"), TaskSetting("override", "marked")]
# Layers by their published name, and what makes their parameters equal.
LAYERS = {
    "kda": ("Kimi delta attention", 216),
    "gated_delta": ("Gated DeltaNet", 184),
    "ssd": ("Mamba-2", 120),
    "gated_slots": ("GSA", 224),
    "routed_slots": ("Raven", 192),
    "gated_linear": ("GLA", 248),
    "retnet": ("RetNet", 128),
}
SLOW = "half-life 1,024"
PUBLISHED = {
    mixer: Variant(f"{mixer}[published=true,hidden={hidden}]", f"{name} (`{mixer}`)")
    for mixer, (name, hidden) in LAYERS.items()
}
# The same parts with the start of our mixers that decay.
SLOWED = {
    f"{mixer}, slow": Variant(
        f"{mixer}[published=true,decay_start=half_life,hidden={hidden}]", f"{name}, {SLOW}"
    )
    for mixer, (name, hidden) in LAYERS.items()
}
KDA, RAVEN, RETNET = "kda", "routed_slots", "retnet"
OURS = "ours"
# What learns as published: all seeds, at this rate.
LEARN, LEARNING_RATE = (KDA, RAVEN), 3e-3
# What learns with the slow start alone.
SLOW_LEARN = ("gated_delta", "ssd", "gated_slots", RAVEN, "gated_linear")
VARIANTS = {
    **PUBLISHED,
    **SLOWED,
    OURS: Variant("sparse_delta[hidden=232]", "`sparse_delta`"),
}
# What learns, beside our memory.
BESIDE = (*LEARN, OURS)


def sweep() -> Sequence[AnySpec]:
    """One seed of each layer at each rate, then all seeds of the layers that learn."""
    early, revised = (cell(one.task, one.placement, *STANDARD_LENGTH) for one in SETTINGS)
    layers = [one.one for one in (PUBLISHED | SLOWED).values()]
    every = [{**of, "seed": seed} for of in (early, revised) for seed in SEEDS]
    return [
        *(one.spec(**early, seed=1, learning_rate=rate) for one in layers for rate in RATES),
        *(
            PUBLISHED[key].one.spec(**one, learning_rate=LEARNING_RATE)
            for key in LEARN
            for one in every
        ),
    ]


# --- tables --------------------------------------------------------------------------------------


def tried(rows: Rows) -> str:
    """Each layer at each rate, one seed: when it learns, and what it keeps of early rules."""
    head = ["recite, early, seed 1", "KiB a layer", "rate", "steps to 0.9"]
    head += [f"{at:,} tokens" for at in LENGTHS]
    body = []
    for key in (*PUBLISHED, *SLOWED):
        for record in sorted(_of_seed_1(rows, key), key=lambda one: one.spec.learning_rate or 0.0):
            kept = by_length(record)
            row = [f"{kib_a_layer(record, record.state_bytes[MIDDLE]):.1f}"]
            row += [f"{record.spec.learning_rate:.3g}"]
            row += [text_of_steps(first_learned(record, "retention"))]
            body.append([VARIANTS[key].name, *row, *(f"{kept[one]:.3f}" for one in LENGTHS)])
    return markdown_table(head, body)


def most_of_others(rows: Rows) -> float:
    """What the layers that do not learn keep at most where they were trained, at any rate."""
    others = [key for key in PUBLISHED if key not in (*LEARN, RETNET)]
    return max(by_length(record)[SHORT] for key in others for record in _of_seed_1(rows, key))


def of_seed_1(key: str, at: int) -> Callable[[Rows], float]:
    """What a layer keeps in seed 1, at the rate of those that learn."""

    def value(rows: Rows) -> float:
        (record,) = _of_seed_1(rows, key, LEARNING_RATE)
        return by_length(record)[at]

    return value


def _of_seed_1(rows: Rows, key: str, rate: float | None = None) -> list[Record]:
    return [one for one in rows.runs(VARIANTS[key].one, EARLY, rate=rate) if one.spec.seed == 1]


def name_of(key: str, setting: TaskSetting) -> str:
    """What a comparison of our memory with a layer is called."""
    return f"{VARIANTS[OURS].name} − {VARIANTS[key].name}: {setting.name}"


LAYERS_THAT_LEARN = Family(
    lambda rows: {
        name_of(key, one): rows.more(OURS, key, one, "retention", LONG)
        for one in SETTINGS
        for key in LEARN
        if rows.cell(key, one)
    }
)


# --- claims --------------------------------------------------------------------------------------

STUDY = Study(
    question="Which layers, as published, learn early rules at this size, and what do they keep?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=SHORT,
    reads=("carries",),
    sweeps={"published": Sweep("sweep")},
    families={"beside layers that learn": LAYERS_THAT_LEARN},
    tables={
        **{
            figure: lambda rows, figure=figure: SHARED.by_lengths(rows, figure, BESIDE, LENGTHS)
            for figure in ("retention", "exact")
        },
        "tried": tried,
    },
    claims={
        "kda": Claim(mean(KDA, EARLY, "retention", LONG)),
        "kda_revised": Claim(mean(KDA, REVISED, "retention", LONG)),
        "raven": Claim(mean(RAVEN, EARLY, "retention", LONG)),
        "others": Claim(most_of_others, maximum=0.1),
        "slow_least": Claim(
            lambda rows: min(of_seed_1(f"{mixer}, slow", SHORT)(rows) for mixer in SLOW_LEARN),
            minimum=LEARNED_RETENTION,
        ),
        **{f"slow_{mixer}": Claim(of_seed_1(f"{mixer}, slow", LONG)) for mixer in SLOW_LEARN},
        "retnet_short": Claim(of_seed_1(RETNET, SHORT), minimum=LEARNED_RETENTION),
        "retnet_middle": Claim(of_seed_1(RETNET, MIDDLE), maximum=0.1),
        "ours_early": LAYERS_THAT_LEARN.not_shown(name_of(KDA, EARLY)),
        "ours_revised": LAYERS_THAT_LEARN.shown(name_of(KDA, REVISED)),
    },
)
