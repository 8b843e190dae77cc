"""The shipped memory taken apart, and beside rivals at equal sight and at every rate.

    rulekeep study apart run|build|check

Marked rules of `recite` and `override`, 2,000 steps at 256 tokens at most, five seeds at each rate
named. No rate is chosen: each is shown. What is compared stands in notes/log.md, written before the
first run. The sections are those of the plan:

1. `sparse_delta` as it ships, without one of its parts; and built up from `delta`: a gate of eight
   tokens, the penalty (both of section 2), exact zeros (it reads after it writes), reading first.
2. Rivals with a write gate of eight tokens, without and with the penalty.
3. Each mixer with its convolution at four rates.
6. The last 500 of 2,500 steps from the states that other texts leave, from noise, and from zeros.
7. Attention whose scores grow with the logarithm of the length, and two rivals of 2026.

Runs of other studies count where spec and versions are the same. Section 1 alone has tables yet.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rulekeep.analysis.rows import Rows, TaskSetting, Variant
from rulekeep.analysis.summary import Summary
from rulekeep.records.store import whole_runs
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec
from rulekeep.study import Family, Study, Sweep
from rulekeep.sweeps.planning import identity
from rulekeep.sweeps.presets import SEEDS, STANDARD_LENGTH, Length, cell

SHARED = load_file(Path(__file__).with_name("shared.py"))
RESULTS = Path(__file__).parent.parent / "results"
READS = ("attention-controls", "attention-controls-aside", "carries", "rivals")
SETTINGS = [TaskSetting(task, "marked") for task in ("recite", "override")]
# The two that most grids chose come first.
BOTH_RATES = (3e-3, 1e-2)
ALL_RATES = (*BOTH_RATES, 1e-3, 0.0333333)
OURS = {"ours": Variant("sparse_delta[hidden=232]", "`sparse_delta`")}
# Section 1. A gate of one token leaves parameters over, which the feed-forward layers get.
WITHOUT = {
    "no penalty": Variant("sparse_delta[hidden=232,gate_penalty=0]", "without the penalty"),
    "no zeros": Variant("sparse_delta[hidden=232,gate_stretch=0]", "without exact zeros"),
    "one token": Variant("sparse_delta[hidden=248,gate_kernel=1]", "with a gate of one token"),
    "read after": Variant("sparse_delta[hidden=232,read_first=false]", "reads after it writes"),
}
# Section 2, and what has no such gate yet.
_CONVOLVED, _PENALTY = "short_convolution=true", "gate_penalty=0.001"
SIGHTED = {
    "kda": Variant(f"kda[{_CONVOLVED},hidden=232]", "`kda`, convolution"),
    **{
        f"{name}, sight{said}": Variant(
            f"{name}[{_CONVOLVED},gate_kernel=8,{more}hidden={hidden}]",
            f"`{name}`, convolution, gate of eight tokens{said}",
        )
        for name, hidden in (("delta", 232), ("gated_delta", 232), ("kda", 216))
        for said, more in (("", ""), (", penalty", f"{_PENALTY},"))
    },
}
# Section 3.
CONVOLVED = {
    "attention": Variant(
        "attention[conv_size=8,added_positions=earliness]", "attention, convolution, earliness"
    ),
    "delta": Variant("delta[short_convolution=true,hidden=248]", "`delta`, convolution"),
    "gated_delta": Variant(
        "gated_delta[short_convolution=true,hidden=248]", "`gated_delta`, convolution"
    ),
    "attention, no signal": Variant("attention[conv_size=8]", "attention, convolution"),
}
# Section 6, on revised rules alone.
_STARTS = {"zero": "zeros", "passed": "states of other texts", "noise": "noise"}
PASSED_LENGTH = STANDARD_LENGTH._replace(steps=2500, tested=(256, 1028, 4096, 16384))
PASSED = {
    f"{name}, {start}": Variant(
        f"{name}[{more}hidden={hidden},initial_states={start}]", f"`{name}`, from {said}"
    )
    for name, hidden, more in (
        ("ssd", 296, f"{_CONVOLVED},"), ("gated_slots", 216, f"{_CONVOLVED},"),
        ("gated_delta", 240, f"{_CONVOLVED},"), ("delta", 248, f"{_CONVOLVED},"),
        ("sparse_delta", 232, ""),
    )
    for start, said in _STARTS.items()
}  # fmt: skip
# Section 7. The best attention on marked rules of `recite` has earliness; both stand here.
_BEST = "conv_size=8,added_positions=earliness"
ATTENTIONS = {
    **{
        f"attention, {by}": Variant(
            f"attention[{_BEST},length_scaling={by},trained_length=256]",
            f"attention, convolution, earliness, logarithm of the length {by}",
        )
        for by in ("beyond", "always")
    },
    **{
        f"forgetting{said}": Variant(
            f"forgetting_attention[{options}]", f"forgetting attention, convolution{said}"
        )
        for said, options in (
            (", earliness", _BEST),
            ("", "conv_size=8"),
            (", as published", "conv_size=8,half_life_tokens=null"),
        )
    },
    **{
        f"gated_delta_2{said}": Variant(
            f"gated_delta_2[published=true,{more}hidden=152]", f"`gated_delta_2`, published{said}"
        )
        for said, more in (("", ""), (", remembering start", "decay_start=half_life,"))
    },
}


def runs(
    variants: Iterable[Variant], rates: Iterable[float], settings: Sequence[TaskSetting] = SETTINGS,
    length: Length = STANDARD_LENGTH,
) -> Sequence[AnySpec]:  # fmt: skip
    """Every variant at each rate, task setting and seed, that no other study has run."""
    known = {record.id for folder in READS for record in whole_runs(RESULTS / folder)}
    specs = [
        variant.one.spec(
            **cell(setting.task, setting.placement, *length), seed=seed, learning_rate=rate
        )
        for rate in rates
        for variant in variants
        for setting in settings
        for seed in SEEDS
    ]
    return [spec for spec in specs if identity(spec) not in known]


def without() -> Sequence[AnySpec]:
    """Section 1: our memory without one of its parts."""
    return runs(WITHOUT.values(), BOTH_RATES)


def equal_sight() -> Sequence[AnySpec]:
    """Section 2."""
    return runs(SIGHTED.values(), BOTH_RATES)


def every_rate() -> Sequence[AnySpec]:
    """Section 3: rivals, and ours last."""
    return [*runs(CONVOLVED.values(), ALL_RATES), *runs(OURS.values(), ALL_RATES)]


def passing() -> Sequence[AnySpec]:
    """Section 6."""
    return runs(PASSED.values(), BOTH_RATES, SETTINGS[1:], PASSED_LENGTH)


def attentions() -> Sequence[AnySpec]:
    """Section 7."""
    return runs(ATTENTIONS.values(), ALL_RATES)


PARTS = [
    SHARED.AtRates(one, BOTH_RATES, STANDARD_LENGTH.tested, [*WITHOUT, *OURS]) for one in SETTINGS
]


def ahead(rows: Rows) -> dict[str, Summary]:
    """Ours over itself without a part: tested together, once both tasks are run."""
    found = {of.setting.task: of.ahead(rows) for of in PARTS}
    named = {f"{at}: {name}": by for at, of in found.items() for name, by in of.items()}
    return named if all(found.values()) else {}


STUDY = Study(
    question="What does each part of our memory give, and what do rivals keep on equal terms?",
    variants={**OURS, **WITHOUT, **SIGHTED, **CONVOLVED, **PASSED, **ATTENTIONS},
    settings=SETTINGS,
    context=STANDARD_LENGTH.context,
    reads=READS,
    sweeps={
        "apart": Sweep("without"),
        "equal-sight": Sweep("equal_sight"),
        "every-rate": Sweep("every_rate"),
        "attentions": Sweep("attentions"),
        "passing": Sweep("passing"),
    },
    families={"4,096 tokens: with each part more than": Family(ahead)},
    tables={f"parts-{of.setting.task}": of.table for of in PARTS},
    figures={"parts.png": lambda rows: SHARED.over_rates(rows, [(of, 4096) for of in PARTS])},
)
