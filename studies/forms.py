"""MQAR in two forms, and a register machine: what do wider keys give, and what do rivals keep?

    rulekeep study forms run|build|check

Trained at 64 tokens and tested to 4,096, five seeds at each of four rates. No rate is chosen: each
is shown. What is compared stands in notes/log.md, written before the first run. The sections are
those of the plan:

4. MQAR, 1,600 steps: as it is here, and as Zoology has it, where fillers may be keys of the text.
5. Registers that are set and copied, 800 steps.

Feed-forward layers make parameters equal within one per cent; attention has up to 2 % more. Runs of
`peers` count where spec and versions are the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rulekeep.analysis.rows import TaskSetting, Variant
from rulekeep.records.store import whole_runs
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec
from rulekeep.study import Family, Study, Sweep
from rulekeep.sweeps.planning import identity
from rulekeep.sweeps.presets import SEEDS

SHARED = load_file(Path(__file__).with_name("shared.py"))
READS = ("peers",)
RESULTS = Path(__file__).parent.parent / "results"
TRAINED, LENGTHS = 64, (64, 256, 1024, 4096)
CELL = {
    "context": TRAINED,
    "mixed_lengths": False,
    "test_contexts": LENGTHS,
    "validation_examples": 128,
}
MQAR, REGISTERS = TaskSetting("mqar", rules=16), TaskSetting("registers", rules=12)
# The published form first.
MQAR_FORMS: dict[str, dict[str, Any]] = {
    "MQAR as published": {"key_fillers": True},
    "MQAR, no keys as fillers": {},
}
STEPS = {MQAR: 1600, REGISTERS: 800}
RATES = (1e-2, 3e-3, 1e-3, 0.0333333)
ATTENTION = {"attention": Variant("attention[conv_size=8]", "attention, convolution")}
DELTA = {"delta": Variant("delta[short_convolution=true,hidden=256]", "`delta`, convolution")}
OURS = {"ours": Variant("sparse_delta[hidden=240]", "`sparse_delta`")}
# A layer's memory has 1,024 numbers: four heads of 16 keys by 16 values.
WIDER = {
    "two heads": Variant("sparse_delta[heads=2,hidden=248]", "two heads of 32, twice the bytes"),
    "two heads, 16 keys": Variant(
        "sparse_delta[heads=2,key_width=16,hidden=300]", "two heads of 32, equal bytes"
    ),
    "four heads, 32 keys": Variant(
        "sparse_delta[key_width=32,hidden=174]", "four heads with keys of 32, twice the bytes"
    ),
}
OTHERS = {
    "gated_delta": Variant(
        "gated_delta[short_convolution=true,hidden=256]", "`gated_delta`, convolution"
    ),
    "attention, earliness": Variant(
        "attention[conv_size=8,added_positions=earliness]", "attention, convolution, earliness"
    ),
}


def runs(
    setting: TaskSetting, options: dict[str, Any], variants: dict[str, Variant]
) -> list[AnySpec]:
    """Every variant at each rate and seed, that no other study has run."""
    known = {record.id for folder in READS for record in whole_runs(RESULTS / folder)}
    cell = {**CELL, "task": setting.task, "task_options": options, "steps": STEPS[setting]}
    specs = [
        variant.one.spec(**cell, seed=seed, learning_rate=rate)
        for rate in RATES
        for variant in variants.values()
        for seed in SEEDS
    ]
    return [spec for spec in specs if identity(spec) not in known]


def mqar() -> Sequence[AnySpec]:
    """Section 4, ours last."""
    variants = {**ATTENTION, **DELTA, **WIDER, **OURS}
    return [spec for options in MQAR_FORMS.values() for spec in runs(MQAR, options, variants)]


def registers() -> Sequence[AnySpec]:
    """Section 5, ours last."""
    return runs(REGISTERS, {}, {**ATTENTION, **OTHERS, **DELTA, **OURS})


AT_RATES = SHARED.AtRates(REGISTERS, RATES, LENGTHS, [*ATTENTION, *OTHERS, *DELTA, *OURS])
FORMS = {
    name: SHARED.AtRates(
        MQAR, RATES, LENGTHS, [*ATTENTION, *DELTA, *WIDER, *OURS],
        {"key_fillers": False, **options}, name,
    )
    for name, options in MQAR_FORMS.items()
}  # fmt: skip

STUDY = Study(
    question="Do wider keys hold more pairs, and who follows values that are copied?",
    variants={**ATTENTION, **OTHERS, **DELTA, **WIDER, **OURS},
    settings=[REGISTERS],
    context=TRAINED,
    reads=READS,
    sweeps={"mqar-forms": Sweep("mqar"), "registers": Sweep("registers")},
    families={
        f"{name}, {LENGTHS[-1]:,} tokens: ours more than": Family(of.ahead)
        for name, of in {"registers": AT_RATES, **FORMS}.items()
    },
    tables={
        "registers": AT_RATES.table,
        "mqar-published": FORMS["MQAR as published"].table,
        "mqar-ours": FORMS["MQAR, no keys as fillers"].table,
    },
    figures={
        "registers.png": lambda rows: SHARED.over_rates(
            rows, [(AT_RATES, LENGTHS[0]), (AT_RATES, LENGTHS[-1])]
        )
    },
    claims={
        "ours": AT_RATES.mean("ours", 1e-2),
        "ours_high": AT_RATES.mean("ours", RATES[-1]),
        "delta": AT_RATES.mean("delta", 1e-2),
        "gated_delta": AT_RATES.mean("gated_delta", RATES[-1]),
        "attention": AT_RATES.mean("attention", 3e-3),
        "attention_short": AT_RATES.mean("attention, earliness", 3e-3, TRAINED),
    },
)
