"""Our memory beside attention, and beyond the lengths trained on: README, docs/evidence.md.

    rulekeep study beyond run|build|check

At the longest length trained on: retention, `exact` and steps beside the attention that the
validation set scores best there. Beyond it: both figures at every length tested, beside the
attention that test scores best at that very length, the difference paired by seed, and how probable
so large a one is by chance (paired t-test), corrected for the rows of its column (Holm).

A marked rule is told from a decoy by the cue before it, which attention without positions hardly
sees and the eight taps of our memory's gate do. So attention gets taps as well
(benchmarks/convolved_attention.py), and the signal of how early a token is. The validation set's
first seed alone chooses the rate: where that seed keeps more with another one at 4,096 tokens, or
others do not learn with it, the other rate is run as well, in attention's favour (`taps_2`).
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rulekeep.analysis.best import best_on_test, best_on_validation, learned_at, steps_to_learn
from rulekeep.analysis.cells import Group
from rulekeep.analysis.plots import as_bytes, labelled_lines
from rulekeep.analysis.reading import BASELINE
from rulekeep.analysis.rows import (
    Rows,
    Span,
    TaskSetting,
    Variant,
    difference,
    floored,
    pivot,
    text_of,
)
from rulekeep.analysis.summary import (
    LEARNED_RETENTION,
    Summary,
    holm,
    paired_chance,
    paired_difference,
)
from rulekeep.article.report import markdown_table
from rulekeep.records import Record
from rulekeep.reporting.drawing import files
from rulekeep.reporting.figures import charts
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.study import Claim, Study, Sweep
from rulekeep.sweeps.presets import BEYOND_ATTENTION_TESTS, SEEDS
from rulekeep.sweeps.presets import exam as exam_protocol

TRAINED, MIDDLE, LONG, FAR = 256, 1028, 4096, 16384
FIGURES = ("retention", "exact")
SETTINGS = [
    TaskSetting(task, placement)
    for task in ("apply", "override", "recite")
    for placement in ("early", "marked")
]
(
    APPLY_EARLY, APPLY_MARKED, OVERRIDE_EARLY, OVERRIDE_MARKED, RECITE_EARLY, RECITE_MARKED
) = SETTINGS  # fmt: skip
OURS, SIGNAL = "sparse_delta", "added_positions=earliness"
TAPS = f"benchmarks/convolved_attention.py:ConvolvedAttention[{SIGNAL}]"
# One that the validation set did not choose, for each task setting with taps.
ASIDE_RATES = {
    RECITE_EARLY: 3e-3, RECITE_MARKED: 3e-3, APPLY_EARLY: 1e-2, APPLY_MARKED: 1e-2,
    OVERRIDE_EARLY: 1e-2, OVERRIDE_MARKED: 1e-2,
}  # fmt: skip
# What is tested at 16,384 tokens as well, and at what rates: early rules at those that every seed
# learns with, marked ones at the one that keeps more at 4,096.
FAR_RATES = {one: (rate,) for one, rate in ASIDE_RATES.items() if one.task != "override"}
FAR_RATES[RECITE_EARLY] = (1e-3, ASIDE_RATES[RECITE_EARLY])


def is_aside(record: Record) -> bool:
    """Whether a run is at the rate that its task setting has aside."""
    spec = record.spec
    setting = TaskSetting(spec.task, str(spec.task_options["placement"]))
    return ASIDE_RATES.get(setting) == spec.learning_rate


def is_of_grid(record: Record) -> bool:
    """Whether a run is the grid's, or at the rate that the grid has chosen."""
    spec = record.spec
    chooses = spec.task_options["placement"] == "marked" and spec.seed == SEEDS[0]
    return chooses or not is_aside(record)


VARIANTS = {
    "alibi_early": Variant(
        f"attention[positions=alibi,{SIGNAL}]", "attention, alibi positions, earliness"
    ),
    "none_early": Variant(
        f"attention[positions=none,{SIGNAL}]", "attention, no positions, earliness"
    ),
    "rotary_early": Variant(
        f"attention[positions=rotary,{SIGNAL}]", "attention, rotary positions, earliness"
    ),
    "taps": Variant(TAPS, "attention, 8 taps, earliness", is_of_grid),
    "taps_2": Variant(TAPS, "attention, 8 taps at rate 2, earliness", is_aside),
    "learned": Variant("attention[added_positions=learned]", "attention, learned positions"),
    "alibi": Variant("attention[positions=alibi]", "attention, alibi positions"),
    "none": Variant("attention[positions=none]", "attention, no positions"),
    "rotary": Variant("attention[positions=rotary]", "attention, rotary positions"),
    "slots": Variant("slots", "slots"),
    "ours": Variant(f"sparse_delta[hidden=240,{SIGNAL}]", OURS),
}
ATTENTION = [key for key in VARIANTS if key not in ("slots", "ours")]
WITHOUT_TAPS = [key for key in ATTENTION if not key.startswith("taps")]
# Those that are drawn, in the report's own words. What keeps less than another everywhere beyond
# 256 tokens, or is not defined there, is left out.
DRAWN = {
    "none_early": "attention, added_positions earliness, positions none",
    "none": "attention, added_positions none, positions none",
    "rotary": "attention, added_positions none, positions rotary",
    "taps": "attention, added_positions earliness, taps 8",
    "slots": "slots",
    "ours": "sparse_delta, added_positions earliness",
    "taps_2": "attention, added_positions earliness, taps at rate 2 8",
}
CAPTION = (
    "Mean and 95 % interval over 5 seeds (Student t), every seed as a small point; lengths are set "
    "apart a little so that intervals do not overlap. Black: attention as it is used most. Rate 2: "
    "one that dev did not choose."
)


# --- what makes the runs with taps ---------------------------------------------------------------


def neighbours(records: Sequence[Record]) -> Sequence[AnySpec]:
    """The exam but for `recall`, with taps: marked rules first, where attention keeps least."""
    kept = [one for one in _with_taps(records) if one.task != "recall"]
    return sorted(kept, key=lambda spec: spec.task_options["placement"] == "early")


def aside() -> Sequence[AnySpec]:
    """What the grid lacks of five seeds at a rate that was not chosen, and 16,384 tokens."""
    specs = list[RunSpec]()
    for setting, rate in ASIDE_RATES.items():
        seeds = SEEDS[1:] if setting.placement == "marked" else SEEDS
        specs += _of_setting(setting, rate, seeds)
    for setting, rates in FAR_RATES.items():
        for spec in (one for rate in rates for one in _of_setting(setting, rate, SEEDS)):
            tested = {"test_contexts": (min(spec.test_contexts), FAR)}
            few = {"long_test_examples": BEYOND_ATTENTION_TESTS}
            specs.append(spec.model_copy(update={**tested, **few}))
    return specs


def _of_setting(setting: TaskSetting, rate: float, seeds: Sequence[int]) -> list[RunSpec]:
    # Without records: the grid alone, on marked rules, with its one seed.
    options = {"placement": setting.placement}
    return [
        spec.model_copy(update={"task_options": {**spec.task_options, **options}, "seed": seed})
        for spec in _with_taps([])
        if (spec.task, spec.learning_rate) == (setting.task, rate)
        for seed in seeds
    ]


def _with_taps(records: Sequence[Record]) -> list[RunSpec]:
    specs = exam_protocol(records, mixers=contestants(TAPS))
    return [spec for spec in specs if isinstance(spec, RunSpec)]


# --- who is compared -----------------------------------------------------------------------------


def ours(rows: Rows, setting: TaskSetting) -> Group:
    """Our memory on a task setting."""
    found = rows.cell("ours", setting)
    assert found is not None, setting
    return found


def best_there(
    rows: Rows, setting: TaskSetting, figure: str, length: int, among: Iterable[str] = ATTENTION
) -> Group | None:
    """The attention that test scores best at this very length; None where none was tested."""
    return best_on_test(rows.cells(setting, among), figure, length, len(SEEDS))


def best_within(rows: Rows, setting: TaskSetting, figure: str) -> Group:
    """The attention that the validation set scores best at the longest length trained on."""
    return best_on_validation(rows.cells(setting, ATTENTION), figure, TRAINED)


def gain(rows: Rows, setting: TaskSetting, figure: str, length: int) -> Summary | None:
    """What our memory has more than the attention that is best there, paired by seed."""
    best = best_there(rows, setting, figure, length)
    return best and difference(ours(rows, setting), best, figure, length).summary


def gains(rows: Rows, figure: str, length: int) -> dict[TaskSetting, Summary]:
    """The same of each task setting where an attention was tested."""
    found = {one: gain(rows, one, figure, length) for one in SETTINGS}
    return {setting: one for setting, one in found.items() if one is not None}


def shown(rows: Rows, figure: str, length: int) -> dict[TaskSetting, Summary]:
    """Those whose interval is above 0."""
    return {one: more for one, more in gains(rows, figure, length).items() if more.low > 0}


def corrected(rows: Rows, figure: str, length: int) -> dict[str, float]:
    """How probable each difference is where there is none, corrected for all by Holm's method."""
    tested = {}
    for setting in SETTINGS:
        if best := best_there(rows, setting, figure, length):
            more = difference(ours(rows, setting), best, figure, length).by_seed
            p = paired_chance([*more.values()]) if more else None
            tested |= {} if p is None else {setting.name: p}
    return holm(tested)


def stand(rows: Rows, figure: str, length: int) -> set[str]:
    """The task settings whose difference stands after the correction."""
    return {name for name, p in corrected(rows, figure, length).items() if p < 0.05}


# --- tables --------------------------------------------------------------------------------------

DOWN = {one.name: one for one in SETTINGS}


def headline(rows: Rows) -> str:
    """Retention of our memory and of the best attention at three lengths."""

    def cell(setting: TaskSetting, column: tuple[str, int]) -> str:
        who, length = column
        if who == "chance":
            return rows.chance(setting, "retention", length)
        if who == "ours":
            return rows.text("ours", setting, "retention", length)
        best = best_there(rows, setting, "retention", length)
        return text_of(best and best.summary("retention", length))

    across = {"chance": ("chance", TRAINED)}
    for at in (TRAINED, LONG, FAR):
        across |= {f"attention at {at:,}": ("best", at), f"{OURS} at {at:,}": ("ours", at)}
    return pivot("retention", DOWN, across, cell)


def within(figure: str) -> Callable[[Rows], str]:
    """A figure at the longest length trained on, beside the best attention, and the steps."""

    def table(rows: Rows) -> str:
        body = []
        for setting in SETTINGS:
            mine, best = ours(rows, setting), best_within(rows, setting, figure)
            row = [setting.name, rows.name(best)]
            row += [text_of(one.summary(figure, TRAINED)) for one in (best, mine)]
            row.append(difference(mine, best, figure, TRAINED).summary.text())
            body.append(row + [steps_text(steps_to_learn(one, figure)) for one in (best, mine)])
        head = [f"{figure}, {TRAINED} tokens", "best attention", "its", OURS, "difference"]
        return markdown_table([*head, "its steps", f"steps of {OURS}"], body)

    return table


def steps_text(count: float) -> str:
    """Steps as a cell of a table."""
    return f"{count:,.0f}" if math.isfinite(count) else "never"


def further(figure: str) -> Callable[[Rows], str]:
    """A figure beyond the lengths trained on, the lowest seed, and the best attention there."""

    def table(rows: Rows) -> str:
        def cell(setting: TaskSetting, column: tuple[str, int]) -> str:
            what, length = column
            if what == "best":
                best = best_there(rows, setting, figure, length)
                which = f", {rows.name(best).removeprefix('attention, ')}" if best else ""
                return f"{text_of(best and best.summary(figure, length))}{which}"
            row = rows.known("ours", setting, figure, length)
            return row.summary.text() if what == "ours" else f"{row.lowest:.3f}"

        # Some heads stand several times: no dictionary can hold them.
        asked = [
            (head, (what, at))
            for at in (MIDDLE, LONG, FAR)
            for head, what in (
                (f"{OURS} at {at:,}", "ours"), ("lowest seed", "lowest"),
                ("best attention there", "best"),
            )
        ]  # fmt: skip
        body = [[one.name, *(cell(one, column) for _, column in asked)] for one in SETTINGS]
        return markdown_table([f"{figure}, beyond", *(head for head, _ in asked)], body)

    return table


ASKED_BEYOND = {f"{figure} at {at:,}": (figure, at) for figure in FIGURES for at in (LONG, FAR)}


def more(rows: Rows) -> str:
    """What our memory keeps more than the best attention of each length."""
    return pivot(
        f"{OURS} − best attention",
        DOWN,
        ASKED_BEYOND,
        lambda setting, asked: text_of(gain(rows, setting, *asked)),
    )


def chances(rows: Rows) -> str:
    """How probable each of these differences is where there is none, a column's rows together."""
    found = {asked: corrected(rows, *asked) for asked in ASKED_BEYOND.values()}

    def cell(setting: TaskSetting, asked: tuple[str, int]) -> str:
        p = found[asked].get(setting.name)
        if p is None:
            return "not run"
        return f"{p:.3f}" if p >= 0.001 else "< 0.001"

    return pivot("p, corrected by Holm", DOWN, ASKED_BEYOND, cell)


def every(length: int) -> Callable[[Rows], str]:
    """Retention of all variants at a length."""

    def table(rows: Rows) -> str:
        def cell(setting: TaskSetting, variant: str | None) -> str:
            if variant is None:
                return rows.chance(setting, "retention", length)
            return rows.text(variant, setting, "retention", length)

        across = {"chance": None, **{one.name: key for key, one in VARIANTS.items()}}
        return pivot(f"{length} tokens", DOWN, across, cell)

    return table


def with_taps(rows: Rows) -> str:
    """Attention with taps at both rates, our memory, and the difference to each."""
    asked = [("retention", at) for at in (TRAINED, MIDDLE, LONG)]
    asked += [("exact", at) for at in (TRAINED, LONG)]
    head = ["", "", "rate", *(f"{figure}, {at}" for figure, at in asked)]
    head.append(f"seeds 1 to 5 at {LONG}")
    names = {"taps": "attention with taps", "taps_2": "the same, not dev's rate", "ours": OURS}
    body = []
    for setting in (*SETTINGS[4:], *SETTINGS[:4]):
        cells = {key: rows.cell(key, setting) for key in names}
        for key, name in names.items():
            texts = [rows.text(key, setting, *one) for one in asked]
            seeds = sorted(rows.known(key, setting, "retention", LONG).seeds.items())
            said = ", ".join(f"{kept:.3f}" for _, kept in seeds)
            body.append([setting.name, name, f"{cells[key].rate:.3g}", *texts, said])
        for key in ("taps", "taps_2"):
            mine, theirs = cells["ours"], cells[key]
            found = [difference(mine, theirs, *one).summary.text() for one in asked[:3]]
            rate = f"to {theirs.rate:.3g}"
            body.append([setting.name, "difference", rate, *found, "", "", ""])
    return markdown_table(head, body)


def drawn(rows: Rows) -> bytes:
    """The report's figure of retention over context, of those that keep most somewhere."""
    said = []
    for setting in SETTINGS:
        groups = (
            replace(one, label=DRAWN[one.label], mixer=BASELINE if one.label in ATTENTION else OURS)
            for one in rows.cells(setting, DRAWN)
        )
        drawn = replace(rows.contests[setting], task=setting.name, groups=tuple(groups))
        said.append(replace(drawn, baselines={TRAINED: DRAWN["rotary"]}))
    return files(replace(charts(said)[0], caption=CAPTION))["retention.png"]


LENGTHS = (TRAINED, MIDDLE, LONG, FAR)
# Where the name of a line stands in README's figure.
NAMED_AT = {"attention, rotary": (1700, 0.36), "best attention": (4300, 0.64), OURS: (2048, 1.05)}


def opening(file_format: str) -> Callable[[Rows], bytes]:
    """README's figure: one task setting, attention as it is used most, at its best, our memory."""

    def figure(rows: Rows) -> bytes:
        best = {at: best_there(rows, RECITE_MARKED, "retention", at) for at in LENGTHS}
        every = dict(
            zip(
                NAMED_AT,
                (
                    dict.fromkeys(LENGTHS, rows.cell("rotary", RECITE_MARKED)),
                    best,
                    dict.fromkeys(LENGTHS, ours(rows, RECITE_MARKED)),
                ),
                strict=True,
            )
        )
        lines = {
            name: {
                at: (summary.mean, summary.low, summary.high)
                for at, group in groups.items()
                if group and (summary := group.summary("retention", at))
            }
            for name, groups in every.items()
        }
        chance = ours(rows, RECITE_MARKED).chance("retention", FAR) or 0.0
        return as_bytes(labelled_lines(lines, NAMED_AT, chance), file_format)

    return figure


# --- claims --------------------------------------------------------------------------------------

WORDS = ("none", "one", "two", "three", "four", "five", "six")


def mean(
    variant: str, setting: TaskSetting, length: int, figure: str = "retention"
) -> Callable[[Rows], float]:
    """The mean of one row."""
    return lambda rows: rows.known(variant, setting, figure, length).mean


def seed(
    variant: str, setting: TaskSetting, length: int, number: int, figure: str = "retention"
) -> Callable[[Rows], float]:
    """One seed of a row."""
    return lambda rows: rows.known(variant, setting, figure, length).seeds[number]


def seeds(variant: str, setting: TaskSetting, length: int) -> Callable[[Rows], str]:
    """What each seed keeps, in their order."""

    def listed(rows: Rows) -> str:
        found = rows.known(variant, setting, "retention", length).seeds
        return ", ".join(f"{kept:.3f}" for _, kept in sorted(found.items()))

    return listed


def at_rate(
    variant: str, setting: TaskSetting, length: int, rate: float
) -> Callable[[Rows], float]:
    """What seed 1 keeps at a rate, chosen or not."""

    def kept(rows: Rows) -> float:
        (found,) = (
            test.figures["retention"]
            for run in rows.tried(variant, setting)
            if run.seed == 1 and math.isclose(run.rate or 0, rate, rel_tol=1e-3)
            for test in run.record.tests()
            if test.context == length
        )
        return found

    return kept


def best_mean(
    setting: TaskSetting,
    length: int,
    among: Sequence[str] = ATTENTION,
    figure: str = "retention",
) -> Callable[[Rows], float]:
    """The figure of the attention that retains most there."""

    def found(rows: Rows) -> float:
        best = best_there(rows, setting, "retention", length, among)
        assert best is not None, setting
        return best.summary(figure, length).mean

    return found


def best_summary(setting: TaskSetting, length: int) -> Callable[[Rows], Summary]:
    """The same with its interval."""
    return lambda rows: best_there(rows, setting, "retention", length).summary("retention", length)


def more_than(
    variant: str, other: str, setting: TaskSetting, length: int, figure: str = "retention"
) -> Callable[[Rows], Summary]:
    """What one variant has more than another, paired by seed."""
    return lambda rows: (
        difference(rows.cell(variant, setting), rows.cell(other, setting), figure, length).summary
    )


def gained(setting: TaskSetting, length: int) -> Callable[[Rows], Summary]:
    """What our memory keeps more than the attention that is best there."""
    return lambda rows: gains(rows, "retention", length)[setting]


def not_shown(value: Callable[[Rows], Summary]) -> Claim:
    """A difference whose interval holds 0."""
    return Claim(value, holds=lambda rows: value(rows).low <= 0 <= value(rows).high)


def lowest(figure: str, length: int) -> Callable[[Rows], float]:
    """The lowest of our memory's runs."""
    return lambda rows: min(rows.known("ours", one, figure, length).lowest for one in SETTINGS)


def steps_apart(setting: TaskSetting, figure: str, sign: int) -> Callable[[Rows], Summary]:
    """How many steps fewer (1) or more (-1) our memory takes than the best attention."""

    def apart(rows: Rows) -> Summary:
        best, mine = best_within(rows, setting, figure), ours(rows, setting)
        return paired_difference(*[learned_at(one, figure) for one in (best, mine)][::sign]).summary

    return apart


def step_ratios(rows: Rows, figure: str) -> list[float]:
    """The steps of our memory by those of the best attention, a task setting each."""
    return [
        steps_to_learn(ours(rows, one), figure)
        / steps_to_learn(best_within(rows, one, figure), figure)
        for one in SETTINGS
    ]


def margin(rows: Rows) -> float:
    """The lowest end of the intervals of differences at the longest length trained on."""
    return min(
        difference(ours(rows, one), best_within(rows, one, figure), figure, TRAINED).summary.low
        for one in SETTINGS
        for figure in FIGURES
    )


def runs(rows: Rows) -> list:
    """All of our memory's at the chosen rates."""
    return [run for one in SETTINGS for run in ours(rows, one).runs.values()]


def slowest(rows: Rows) -> float:
    """The step at which the last of our memory's runs has learned whole answers."""
    return max(step for one in SETTINGS for step in learned_at(ours(rows, one), "exact").values())


def losses(rows: Rows) -> list[float]:
    """What each of our memory's runs loses of `exact` from 4,096 to 16,384 tokens, most first."""
    found = []
    for setting in SETTINGS:
        before, after = (rows.known("ours", setting, "exact", at).seeds for at in (LONG, FAR))
        found += [before[one] - after[one] for one in before]
    return sorted(found, reverse=True)


def by_place(variant: str, setting: TaskSetting) -> Callable[[Rows], list[float]]:
    """What is kept at 4,096 tokens of each of the four rules, in their order."""

    def kept(rows: Rows) -> list[float]:
        tests = rows.cell(variant, setting).tests(LONG).values()
        each = [test.parts["position"] for test in tests]
        return [statistics.mean(one[str(place)].retention for one in each) for place in range(4)]

    return kept


def unlearned(setting: TaskSetting) -> Callable[[Rows], str]:
    """How many seeds with taps have not learned, at the rate that was chosen."""
    return lambda rows: WORDS[
        sum(
            kept < LEARNED_RETENTION
            for kept in rows.known("taps", setting, "retention", TRAINED).seeds.values()
        )
    ]


ALIBI = ("alibi", "alibi_early")
ALIBI_SETTINGS = (RECITE_EARLY, APPLY_EARLY, RECITE_MARKED, APPLY_MARKED)
TAPS_SETTINGS = (RECITE_MARKED, RECITE_EARLY, OVERRIDE_MARKED, OVERRIDE_EARLY)
last_rule, each_rule = by_place("alibi_early", RECITE_MARKED), by_place("alibi", APPLY_MARKED)


def key_of(setting: TaskSetting) -> str:
    """As a part of a key."""
    return f"{setting.task}_{setting.placement}"


CLAIMS = {
    "runs": Claim(lambda rows: len(runs(rows)), 0, 30, 30),
    # What our memory keeps.
    "ours_far": Claim(
        lambda rows: min(rows.known("ours", one, "retention", FAR).mean for one in SETTINGS),
        minimum=0.99,
    ),
    "lowest_long": Claim(lambda rows: floored(lowest("retention", LONG)(rows)), minimum=0.99),
    "lowest_far": Claim(lambda rows: floored(lowest("retention", FAR)(rows)), minimum=0.98),
    "lowest_exact_far": Claim(lambda rows: floored(lowest("exact", FAR)(rows), 2), 2, 0.89),
    "losses": Claim(lambda rows: Span.of(losses(rows)[:3]), 2, 0.04, 0.1),
    "leak_before": Claim(seed("ours", RECITE_MARKED, LONG, 1)),
    "leak_after": Claim(seed("ours", RECITE_MARKED, FAR, 1)),
    "leak_exact_before": Claim(seed("ours", RECITE_MARKED, LONG, 1, "exact")),
    "leak_exact_after": Claim(seed("ours", RECITE_MARKED, FAR, 1, "exact")),
    "leak_2": Claim(seed("ours", APPLY_EARLY, FAR, 3), holds=lambda rows: losses(rows)[3] < 0.04),
    "leak_3": Claim(seed("ours", OVERRIDE_MARKED, FAR, 4)),
    "leak_2_exact_before": Claim(seed("ours", APPLY_EARLY, LONG, 3, "exact")),
    "leak_2_exact_after": Claim(seed("ours", APPLY_EARLY, FAR, 3, "exact")),
    "leak_3_exact_before": Claim(seed("ours", OVERRIDE_MARKED, LONG, 4, "exact")),
    "leak_3_exact_after": Claim(seed("ours", OVERRIDE_MARKED, FAR, 4, "exact")),
    **{
        f"rate_{place}": Claim(at_rate("ours", RECITE_MARKED, FAR, rate))
        for place, rate in enumerate((1e-3, 3e-3, 1e-2), 1)
    },
    "seconds": Claim(
        lambda rows: statistics.median(run.costs["train_seconds"] for run in runs(rows)), 0
    ),
    # Within the lengths trained on.
    "margin": Claim(margin, minimum=-0.01),
    "fewer": Claim(lambda rows: WORDS[sum(one < 1 for one in step_ratios(rows, "retention"))]),
    "most_times": Claim(lambda rows: f"{max(step_ratios(rows, 'retention')):.3g}"),
    "more_exact": Claim(lambda rows: WORDS[sum(one > 1 for one in step_ratios(rows, "exact"))]),
    "slowest": Claim(slowest, 0),
    "steps_override_early": Claim(steps_apart(OVERRIDE_EARLY, "retention", 1), 0, 0),
    "steps_override_marked": Claim(steps_apart(OVERRIDE_MARKED, "retention", 1), 0, 0),
    "steps_apply_early": Claim(steps_apart(APPLY_EARLY, "exact", -1), 1, 0),
    "steps_apply_marked": Claim(steps_apart(APPLY_MARKED, "exact", -1), 1, 0),
    "steps_none": Claim(
        lambda rows: steps_to_learn(rows.cell("none", RECITE_EARLY), "retention"), 0
    ),
    "steps_none_early": Claim(
        lambda rows: steps_to_learn(rows.cell("none_early", RECITE_EARLY), "retention"), 0
    ),
    "exact_override_marked": Claim(
        lambda rows: (
            difference(
                best_within(rows, OVERRIDE_MARKED, "exact"),
                ours(rows, OVERRIDE_MARKED),
                "exact",
                TRAINED,
            ).summary
        ),
        4,
        0,
    ),
    # Beside the best attention beyond them.
    "best_far": Claim(
        lambda rows: Span.of(
            best.summary("retention", FAR).mean
            for one in SETTINGS
            if (best := best_there(rows, one, "retention", FAR))
        ),
        holds=lambda rows: (
            [best.label for one in SETTINGS if (best := best_there(rows, one, "retention", FAR))]
            == ["taps_2"] * 4
        ),
    ),
    "best_long": Claim(
        lambda rows: min(
            best_there(rows, one, "retention", LONG).summary("retention", LONG).mean
            for one in SETTINGS
        ),
        holds=lambda rows: all(
            best_there(rows, one, "retention", LONG).label in ("taps", "taps_2") for one in SETTINGS
        ),
    ),
    **{
        f"gain_{key_of(setting)}_{length}": Claim(gained(setting, length), minimum=0)
        for setting, length in (
            (RECITE_MARKED, LONG),
            (OVERRIDE_EARLY, LONG),
            (RECITE_EARLY, LONG),
            (RECITE_MARKED, FAR),
            (RECITE_EARLY, FAR),
        )
    },
    "gain_apply_early_far": not_shown(gained(APPLY_EARLY, FAR)),
    "gain_apply_marked_far": not_shown(gained(APPLY_MARKED, FAR)),
    # Those that stand after Holm's correction, and one that does not.
    "stands_long": Claim(
        lambda rows: gained(RECITE_EARLY, LONG)(rows).mean,
        holds=lambda rows: (
            stand(rows, "retention", LONG) == {RECITE_EARLY.name}
            and len(shown(rows, "retention", LONG)) == 3
        ),
    ),
    "stands_far": Claim(
        lambda rows: gained(RECITE_MARKED, FAR)(rows).mean,
        holds=lambda rows: (
            stand(rows, "retention", FAR) == {RECITE_MARKED.name}
            and len(shown(rows, "retention", FAR)) == 2
        ),
    ),
    "falls_far": Claim(lambda rows: gained(RECITE_EARLY, FAR)(rows).mean),
    "answers_long": Claim(
        lambda rows: Span.of(one.mean for one in shown(rows, "exact", LONG).values()),
        minimum=0,
        holds=lambda rows: (
            stand(rows, "exact", LONG) == {one.name for one in shown(rows, "exact", LONG)}
        ),
    ),
    "answers_count": Claim(lambda rows: WORDS[len(shown(rows, "exact", LONG))]),
    # At the rates that the validation set chose for both.
    "chosen_recite_marked": Claim(more_than("ours", "taps", RECITE_MARKED, LONG), minimum=0),
    "chosen_override_early": Claim(more_than("ours", "taps", OVERRIDE_EARLY, LONG), minimum=0),
    "chosen_override_marked": Claim(more_than("ours", "taps", OVERRIDE_MARKED, LONG), minimum=0),
    "chosen_recite_early": not_shown(more_than("ours", "taps", RECITE_EARLY, LONG)),
    "chosen_recite_early_far": not_shown(more_than("ours", "taps", RECITE_EARLY, FAR)),
    # Attention with positions, and without.
    "rotary_middle": Claim(
        lambda rows: Span.of(mean("rotary", one, MIDDLE)(rows) for one in SETTINGS), maximum=0.53
    ),
    "rotary_most": Claim(
        lambda rows: max(mean("rotary", one, MIDDLE)(rows) for one in SETTINGS), maximum=0.53
    ),
    "rotary_long": Claim(mean("rotary", RECITE_MARKED, LONG)),
    "rotary_early_long": Claim(mean("rotary_early", RECITE_MARKED, LONG)),
    **{
        f"{variant}_{key_of(setting)}_{length}": Claim(mean(variant, setting, length))
        for variant in ("none", "none_early")
        for setting in (RECITE_EARLY, APPLY_EARLY)
        for length in (LONG, FAR)
    },
    "none_lowest": Claim(
        lambda rows: rows.known("none", RECITE_EARLY, "retention", LONG).lowest, 2
    ),
    "none_seeds_far": Claim(
        lambda rows: Span.of(rows.known("none", RECITE_EARLY, "retention", FAR).seeds.values())
    ),
    "none_early_exact_far": Claim(
        mean("none_early", RECITE_EARLY, FAR, "exact"),
        holds=lambda rows: mean("none_early", APPLY_EARLY, FAR, "exact")(rows) < 0.0005,
    ),
    "none_apply_marked": Claim(mean("none_early", APPLY_MARKED, TRAINED), 2),
    "none_recite_marked": Claim(mean("none_early", RECITE_MARKED, TRAINED), 2),
    "none_marked_long": Claim(
        lambda rows: max(
            mean(one, setting, LONG)(rows)
            for one in ("none", "none_early")
            for setting in (RECITE_MARKED, APPLY_MARKED)
        ),
        maximum=0.3,
    ),
    # With ALiBi.
    "alibi_learns": Claim(
        lambda rows: Span.of(
            mean(one, setting, TRAINED)(rows)
            for one in ALIBI
            for setting in (RECITE_MARKED, APPLY_MARKED)
        ),
        minimum=LEARNED_RETENTION,
    ),
    "alibi_long": Claim(
        lambda rows: Span.of(best_mean(one, LONG, ALIBI)(rows) for one in ALIBI_SETTINGS)
    ),
    **{
        f"alibi_{key_of(setting)}_{length}": Claim(best_mean(setting, length, ALIBI))
        for setting in ALIBI_SETTINGS
        for length in ((MIDDLE, LONG) if setting.placement == "early" else (LONG,))
    },
    "alibi_last_rule": Claim(lambda rows: last_rule(rows)[-1]),
    "alibi_other_rules": Claim(lambda rows: max(last_rule(rows)[:-1])),
    "alibi_first_rule": Claim(
        lambda rows: each_rule(rows)[0],
        holds=lambda rows: each_rule(rows) == sorted(each_rule(rows)),
    ),
    "alibi_fourth_rule": Claim(lambda rows: each_rule(rows)[-1]),
    "alibi_signal_costs": Claim(more_than("alibi", "alibi_early", APPLY_MARKED, LONG), minimum=0),
    # With taps.
    **{
        f"taps_{key_of(setting)}_{length}": Claim(best_summary(setting, length))
        for setting in (RECITE_EARLY, APPLY_EARLY)
        for length in (FAR,)
    },
    **{f"taps_{key_of(one)}": Claim(best_mean(one, LONG)) for one in TAPS_SETTINGS},
    **{f"others_{key_of(one)}": Claim(best_mean(one, LONG, WITHOUT_TAPS)) for one in TAPS_SETTINGS},
    "taps_apply_gain": Claim(more_than("taps_2", "none_early", APPLY_EARLY, FAR), minimum=0),
    "taps_exact": Claim(
        lambda rows: Span.of(best_mean(one, LONG, figure="exact")(rows) for one in TAPS_SETTINGS)
    ),
    "ours_exact": Claim(
        lambda rows: min(mean("ours", one, LONG, "exact")(rows) for one in TAPS_SETTINGS)
    ),
    **{
        f"taps_override_rate_{place}": Claim(at_rate("taps", OVERRIDE_MARKED, LONG, rate))
        for place, rate in enumerate((1e-3, 3e-3, 1e-2), 1)
    },
    **{
        f"taps_recite_rate_{place}": Claim(at_rate("taps", RECITE_MARKED, LONG, rate))
        for place, rate in enumerate((1e-3 / 3, 1e-3, 3e-3, 1e-2), 1)
    },
    "taps_unlearned_early": Claim(unlearned(APPLY_EARLY)),
    "taps_unlearned_marked": Claim(unlearned(APPLY_MARKED)),
    "taps_seeds_recite_marked": Claim(seeds("taps_2", RECITE_MARKED, FAR)),
    "taps_seeds_apply_marked": Claim(seeds("taps_2", APPLY_MARKED, FAR)),
    "taps_seeds_recite_early": Claim(seeds("taps", RECITE_EARLY, FAR)),
    "taps_seeds_recite_early_2": Claim(seeds("taps_2", RECITE_EARLY, FAR)),
    "taps_seeds_apply_early": Claim(seeds("taps_2", APPLY_EARLY, FAR)),
}

STUDY = Study(
    question="Does a memory of fixed size keep rules beyond the lengths it was trained on?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=TRAINED,
    reads=("exam",),
    sweeps={
        "beyond": Sweep("beyond"),
        "beyond-attention": Sweep("beyond-attention"),
        "attention-controls": Sweep("neighbours"),
        "attention-controls-aside": Sweep("aside"),
    },
    tables={
        "headline": headline,
        **{f"within-{figure}": within(figure) for figure in FIGURES},
        **{f"beyond-{figure}": further(figure) for figure in FIGURES},
        "more": more,
        "chances": chances,
        **{f"every-{at}": every(at) for at in (TRAINED, MIDDLE, LONG, FAR)},
        "taps": with_taps,
    },
    figures={
        "retention.png": drawn,
        **{f"opening.{kind}": opening(kind) for kind in ("png", "svg")},
    },
    claims=CLAIMS,
)
