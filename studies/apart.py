"""The shipped memory taken apart, and beside rivals at equal sight and at every rate.

    rulekeep study apart run|build|check

Marked rules of `recite` and `override`, 2,000 steps at 256 tokens at most, five seeds at each rate
named; each rate is shown. What is compared stands in notes/log.md. The sections of the plan:

1. `sparse_delta` without one of its parts; and built up from `delta`: a gate of eight tokens, the
   penalty (both of section 2), exact zeros (it reads after it writes), reading first.
2. Rivals with a write gate of eight tokens, without and with the penalty.
3. Each mixer with its convolution at four rates.

Runs of other studies count where spec and versions are the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rulekeep.analysis.rows import NOT_RUN, Rows, Span, TaskSetting, Variant, by_length, floored
from rulekeep.analysis.summary import (
    Summary,
    ValidationScores,
    choose_learning_rate,
    paired_difference,
)
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.records.store import whole_runs
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.planning import identity
from rulekeep.sweeps.presets import SEEDS, STANDARD_LENGTH, cell

SHARED = load_file(Path(__file__).with_name("shared.py"))
RESULTS = Path(__file__).parent.parent / "results"
READS = ("attention-controls", "attention-controls-aside", "carries", "rivals")
SETTINGS = [TaskSetting(task, "marked") for task in ("recite", "override")]
# The two that most grids chose come first.
BOTH_RATES = (3e-3, 1e-2)
ALL_RATES = (*BOTH_RATES, 1e-3, 0.0333333)
LEARNED = 0.9  # what each seed keeps at 256 tokens
OURS = {"ours": Variant("sparse_delta[hidden=232]", "`sparse_delta`")}
# Section 1. A gate of one token leaves parameters over, which the feed-forward layers get.
WITHOUT = {
    "no penalty": Variant("sparse_delta[hidden=232,gate_penalty=0]", "without the penalty"),
    "no zeros": Variant("sparse_delta[hidden=232,gate_stretch=0]", "without exact zeros"),
    "one token": Variant("sparse_delta[hidden=248,gate_kernel=1]", "with a gate of one token"),
    "read after": Variant("sparse_delta[hidden=232,read_first=false]", "reads after it writes"),
}
# Section 2.
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


def runs(variants: Iterable[Variant], rates: Iterable[float]) -> Sequence[AnySpec]:
    """Every variant at each rate, task setting and seed, that no other study has run."""
    known = {record.id for folder in READS for record in whole_runs(RESULTS / folder)}
    specs = [
        variant.one.spec(
            **cell(setting.task, setting.placement, *STANDARD_LENGTH), seed=seed, learning_rate=rate
        )
        for rate in rates
        for variant in variants
        for setting in SETTINGS
        for seed in SEEDS
    ]
    return [spec for spec in specs if identity(spec) not in known]


def without() -> Sequence[AnySpec]:
    """Section 1: our memory without one of its parts."""
    return runs(WITHOUT.values(), BOTH_RATES)


def equal_sight() -> Sequence[AnySpec]:
    """Section 2, `delta` first: section 1 is built up from it. What is not compared comes last."""
    compared = [*SIGHTED][1:]
    return [spec for key in (*compared, "kda") for spec in runs([SIGHTED[key]], BOTH_RATES)]


def every_rate() -> Sequence[AnySpec]:
    """Section 3: rivals, and ours last."""
    return [*runs(CONVOLVED.values(), ALL_RATES), *runs(OURS.values(), ALL_RATES)]


def at_rates(rates: Sequence[float], variants: Sequence[str]) -> list[Any]:
    """Of both tasks: variants at each rate, ours last."""
    return [SHARED.AtRates(one, rates, STANDARD_LENGTH.tested, variants) for one in SETTINGS]


PARTS = at_rates(BOTH_RATES, [*WITHOUT, *OURS])
RATES = at_rates(sorted(ALL_RATES), [*CONVOLVED, *OURS])
_FORMS = ("", ", sight", ", sight, penalty")
AT_SIGHT = [name + form for name in ("delta", "gated_delta", "kda") for form in _FORMS] + [*OURS]
SIGHT = at_rates(BOTH_RATES, AT_SIGHT)
# From `delta` to ours: each step changes one thing, but for exact zeros (notes/log.md).
STEPS = {
    "delta": "`delta`, convolution",
    "delta, sight": "+ write gate of eight tokens",
    "delta, sight, penalty": "+ penalty",
    "read after": "+ exact zeros",
    "ours": "+ reading first: `sparse_delta`",
}
IN_PARTS = {**STEPS, **{key: f"`sparse_delta` {WITHOUT[key].name}" for key in [*WITHOUT][:3]}}


def ahead(rows: Rows, panels: Sequence[Any]) -> dict[str, Summary]:
    """The last of each panel over each other: tested together, once all are run."""
    found = [(of.setting.task, of.ahead(rows)) for of in panels]
    named = {f"{task}: {name}": by for task, of in found for name, by in of.items()}
    return named if all(of for _, of in found) else {}


AHEAD = Family(lambda rows: ahead(rows, PARTS))
# Shown and not compared: attention without a signal, and rivals without sight.
EVERY_RATE = Family(lambda rows: ahead(rows, at_rates(ALL_RATES, [*[*CONVOLVED][:3], *OURS])))
EQUAL_SIGHT = Family(lambda rows: ahead(rows, at_rates(BOTH_RATES, [*[*SIGHTED][1:], *OURS])))
BUILT_UP = Family(
    lambda rows: ahead(rows, [of for pair in pairwise(STEPS) for of in at_rates(BOTH_RATES, pair)])
)


def at_both(rows: Rows, lines: Mapping[str, str], figure: str = "retention") -> str:
    """A Markdown table of what all seeds keep at 4,096 tokens: a column for each task and rate."""
    kept = {
        (key, of.setting.task, rate): SHARED.with_lowest(seeds.values())
        for of in at_rates(BOTH_RATES, [*lines])
        for (key, rate), seeds in of.seeds(rows, 4096, figure).items()
    }
    across = [(one.task, rate) for one in SETTINGS for rate in BOTH_RATES]
    head = [f"{figure}, 4,096 tokens", *(f"{task}, {rate:.2g}" for task, rate in across)]
    body = [
        [name, *(kept.get((key, *at), NOT_RUN) for at in across)] for key, name in lines.items()
    ]
    return markdown_table(head, body)


def learned(rows: Rows, of: Any, key: str) -> tuple[Span, int, int]:
    """The means at 4,096 tokens at rates that each seed learns at; how many those are, of how many.

    The span is NaN if there is no such rate.
    """
    near, far = (of.seeds(rows, length) for length in (256, 4096))
    rates = [at for at in near if at[0] == key and min(near[at].values()) >= LEARNED]
    means = [fmean(far[at].values()) for at in rates]
    return Span.of(means or [math.nan]), len(rates), sum(at[0] == key for at in near)


def needs_luck(span: Span) -> bool:
    """Whether means at rates that each seed learns at differ by more than 0.1."""
    return span.high - span.low > 0.1


def lucky(rows: Rows) -> str:
    """Of rates at which each seed learns, what the means far beyond the trained length are."""
    body = []
    for of in RATES:
        for key in of.variants:
            span, rates, tried = learned(rows, of, key)
            needed = "yes" if needs_luck(span) else "no"
            body.append(
                [
                    of.setting.task, rows.variants[key].name, f"{rates} of {tried}",
                    span.text() if rates else "–", needed if rates > 1 else "–",
                ]
            )  # fmt: skip
    head = ["task", "mixer", "rates that all seeds learn at", "means at 4,096", "0.1 apart"]
    return markdown_table(head, body)


def scored(record: Record, split: str, length: int) -> tuple[float, ValidationScores | None]:
    """What chooses a rate: the loss in nats a token, and scores; NaN and None if it diverged."""
    for one in record.evaluations:
        if (one.split, one.context) == (split, length):
            of, texts = one.figures, int(one.examples or 0)
            return of["val_loss"], ValidationScores(of["retention"], of["exact"], texts)
    assert record.status == "diverged", record.id
    return math.nan, None


class Chosen(NamedTuple):
    """Of a task and mixer: seeds that choose another rate by longer texts, and retention by seed.

    The two are at 4,096 tokens, by validation at 256 tokens and by texts of 1,028.
    """

    task: str
    mixer: str
    changed: int
    short: Mapping[int, float]
    long: Mapping[int, float]

    @property
    def gain(self) -> Summary:
        """What the choice by longer texts keeps more."""
        return paired_difference(self.long, self.short)


def chosen(rows: Rows) -> list[Chosen]:
    """What each seed of each mixer that has run at all rates chooses.

    Test texts of 1,028 stand for validation at that length: they are not the ones at 4,096.
    """
    found = []
    for of in RATES:
        for key in of.variants:
            one = rows.variants[key].one
            runs = {
                rate: {
                    run.spec.seed: run
                    for run in rows.runs(one, of.setting, rate=rate)
                    if 4096 in by_length(run) or run.status == "diverged"
                }
                for rate in of.rates
            }
            if not all({*rows.seeds} <= seeds.keys() for seeds in runs.values()):
                continue
            near, far = (
                {
                    seed: choose_learning_rate(
                        {rate: [scored(runs[rate][seed], *by)] for rate in runs}, extended=True
                    ).rate
                    for seed in rows.seeds
                }
                for by in (("validation", 256), ("test", 1028))
            )
            short, long = (
                {seed: by_length(runs[rate][seed])[4096] for seed, rate in rates.items() if rate}
                for rates in (near, far)
            )
            changed = sum(near[seed] != far[seed] for seed in near)
            found.append(Chosen(of.setting.task, rows.variants[key].name, changed, short, long))
    return found


def longer(rows: Rows) -> str:
    """Rates that each seed chooses by validation at 256 tokens, and by test texts of 1,028."""
    body = [
        [
            one.task, one.mixer, f"{one.changed} of {len(one.short)}",
            *(f"{fmean(seeds.values()):.3f}" for seeds in (one.short, one.long)),
            one.gain.text(),
        ]
        for one in chosen(rows)
    ]  # fmt: skip
    head = ["task", "mixer", "choices that change", "by 256 tokens", "by 1,028 tokens", "gain"]
    return markdown_table(head, body)


def lowest(rows: Rows, key: str) -> float:
    """The lowest seed of a variant at 4,096 tokens, of both tasks and rates."""
    return min(min(of.seeds(rows, 4096)[key, rate].values()) for of in PARTS for rate in of.rates)


def answering(key: str) -> Claim:
    """How many seeds give whole answers of `recite` at 256 tokens, at a rate of 0.01."""
    return Claim(
        lambda rows: sum(
            by >= LEARNED for by in PARTS[0].seeds(rows, 256, "exact")[key, 1e-2].values()
        ),
        digits=0,
    )


def spans(rows: Rows, variants: Iterable[str]) -> list[Span]:
    """The means of `learned`, of both tasks and each variant."""
    return [learned(rows, of, key)[0] for of in RATES for key in variants]


CLAIMS = {
    "tested": SHARED.tested(AHEAD, of_which=0),
    "lowest": Claim(lambda rows: floored(lowest(rows, "ours")), minimum=0.98),
    "lowest_without": Claim(
        lambda rows: Span.of(lowest(rows, key) for key in WITHOUT), 2, maximum=0.9
    ),
    "gate": BUILT_UP.shown("override: `delta`, convolution, 0.003"),
    "steps": SHARED.tested(BUILT_UP, of_which=1),
    "sight_override": SIGHT[1].mean("delta, sight", 1e-2),
    "sight_kda": SIGHT[0].mean("kda, sight, penalty", 1e-2),
    "sight_delta": EQUAL_SIGHT.not_shown(f"recite: {SIGHTED['delta, sight, penalty'].name}, 0.003"),
    "sight_gated": EQUAL_SIGHT.shown(
        f"recite: {SIGHTED['gated_delta, sight, penalty'].name}, 0.003"
    ),
    "sights": SHARED.tested(EQUAL_SIGHT, of_which=2),
    "answers": PARTS[0].mean("ours", 1e-2, figure="exact"),
    "answering": answering("ours"),
    "answering_free": answering("no penalty"),
    "rates_ours": Claim(lambda rows: floored(min(spans(rows, OURS)).low), minimum=0.99),
    "lucky": Claim(lambda rows: sum(map(needs_luck, spans(rows, CONVOLVED))), 0, minimum=7),
    "of_lucky": Claim(lambda rows: len(spans(rows, CONVOLVED)), 0),
    "too_fast": Claim(
        lambda rows: max(
            fmean(seeds.values())
            for (_, rate), seeds in RATES[0].seeds(rows, 256).items()
            if rate == max(ALL_RATES)
        ),
        maximum=0.2,
    ),
    "attention_recite": RATES[0].mean("attention", 1e-2),
    "attention_override": RATES[1].mean("attention", 1e-2),
    "shown": Claim(lambda rows: SHARED.shown(rows, EVERY_RATE), 0),
    "shown_attention": Claim(lambda rows: SHARED.shown(rows, EVERY_RATE, "attention"), 0),
    "of_shown": Claim(lambda rows: len(EVERY_RATE.tested(rows)), 0),
    "changed": Claim(lambda rows: sum(one.changed for one in chosen(rows)), 0),
    "of_changed": Claim(
        lambda rows: sum(len(one.short) for one in chosen(rows)), 0,
        holds=lambda rows: all(one.gain.p is None or one.gain.p > 0.05 for one in chosen(rows)),
    ),
}  # fmt: skip
STUDY = Study(
    question="What does each part of our memory give, and what do rivals keep on equal terms?",
    variants={**OURS, **WITHOUT, **SIGHTED, **CONVOLVED},
    settings=SETTINGS,
    context=STANDARD_LENGTH.context,
    reads=READS,
    sweeps={
        "apart": Sweep("without"),
        "equal-sight": Sweep("equal_sight"),
        "every-rate": Sweep("every_rate"),
    },
    families={
        "4,096 tokens: with each part more than": AHEAD,
        "4,096 tokens: ours more than": EVERY_RATE,
        "4,096 tokens, equal sight: ours more than": EQUAL_SIGHT,
        "4,096 tokens: one step more than": BUILT_UP,
    },
    tables={
        **{f"parts-{of.setting.task}": of.table for of in PARTS},
        **{f"rates-{of.setting.task}": of.table for of in RATES},
        **{f"sight-{of.setting.task}": of.table for of in SIGHT},
        "parts": lambda rows: at_both(rows, IN_PARTS),
        "answers": lambda rows: at_both(rows, IN_PARTS, "exact"),
        "sight": lambda rows: at_both(rows, {key: rows.variants[key].name for key in AT_SIGHT}),
        "lucky": lucky,
        "longer": longer,
    },
    figures={
        f"{name}.png": lambda rows, every=every: SHARED.over_rates(
            rows, [(of, 4096) for of in every]
        )
        for name, every in (("parts", PARTS), ("rates", RATES))
    },
    claims=CLAIMS,
)
