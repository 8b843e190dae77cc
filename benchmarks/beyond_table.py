"""Our memory beside attention, and beyond the lengths trained on: README, docs/evidence.md.

    python benchmarks/beyond_table.py                     # of the committed folders
    python benchmarks/beyond_table.py RUNS RUNS           # of other folders, as one contest

First README's table, a figure a length; then those of docs/evidence.md, with more of each.
At the longest length trained on: retention, `exact` and steps beside the attention that dev scores
best there by that figure, and the difference paired by seed. Beyond it: retention and `exact` at
every length tested, beside the attention that test scores best at that very length, how much
more of both there is, paired by seed, and how probable so large a difference is by chance (paired
t-test), corrected for the rows of its column. Last, retention of every attention at each length.
Means over the seeds with 95 % intervals (Student t); steps are medians, up to the first look at dev
with 0.9 of the figure. A cell with fewer than five seeds is left out. Attention that sees its
neighbours (`convolved_attention.py`) counts as attention.

Draws `retention.png` into results/beyond, or the last folder given: the figure of
`rulekeep report`, of these cells alone, and of the attentions that keep most somewhere.
"""

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attention_controls import ASIDE, CONVOLVED, aside_records, at_another_rate
from exam_table import tables, task_of, text_of
from scipy.stats import ttest_1samp
from variants import is_group_of

from rulekeep.article.report import markdown_table
from rulekeep.records import Asked
from rulekeep.report.cells import Contest, Group, contests, spoken
from rulekeep.report.drawing import files
from rulekeep.report.figures import charts
from rulekeep.report.merging import merged
from rulekeep.report.reading import BASELINE, read_runs
from rulekeep.specs import contestants
from rulekeep.store import read_runs as kept_runs
from rulekeep.store import write_bytes
from rulekeep.summary import (
    ENOUGH_SEEDS,
    LEARNED_RETENTION,
    PairedDifference,
    paired_difference,
)

ROOT = Path(__file__).parent.parent / "results"
DRAWN = ROOT / "beyond"
FOLDERS = (ROOT / "exam", DRAWN, ROOT / "beyond-attention", ROOT / "attention-controls", ASIDE)
FIGURE = "retention.png"
OURS = "sparse_delta"
SIGNAL = "earliness"
LENGTHS = (256, 4096, 16384)
# A label's parts are a name and its value, which `spoken` says the other way round.
TAPS_LABEL = "attention, added_positions earliness, taps 8"
# At the rate that dev did not choose.
ASIDE_LABEL = "attention, added_positions earliness, taps at rate 2 8"
(ROTARY,) = contestants("attention[positions=rotary]")
# What keeps less than another everywhere beyond 256 tokens, or is not defined there.
NOT_DRAWN = contestants(
    "attention[added_positions=learned],attention[positions=rotary,added_positions=earliness],"
    "attention[positions=alibi,added_positions=earliness],attention[positions=alibi]"
)
CAPTION = (
    "Mean and 95 % interval over 5 seeds (Student t), every seed as a small point; lengths are set "
    "apart a little so that intervals do not overlap. Black: attention as it is used most. Rate 2: "
    "one that dev did not choose."
)


def page(found: list[tuple[Contest, Group]]) -> str:
    """Every table, as Markdown."""
    return "\n".join([headline(found), *details(found)])


def headline(found: list[tuple[Contest, Group]]) -> str:
    """Retention of our memory and of the best attention, where both or one was tested."""
    trained = found[0][1].context
    head, body = ["retention", "chance"], []
    lengths = [at for at in LENGTHS if any(at in ours.test_contexts for _, ours in found)]
    beside = [at for at in lengths if any(best_on_test(*one, "retention", at) for one in found)]
    for at in lengths:
        head += [f"attention at {at:,}"] * (at in beside) + [f"{OURS} at {at:,}"]
    for contest, ours in found:
        chance = ours.chance("retention", trained)
        row = [task_of(contest), "–" if chance is None else f"{chance:.3f}"]
        for at in lengths:
            best = best_on_test(contest, ours, "retention", at)
            row += [text_of(best and best.summary("retention", at))] * (at in beside)
            row.append(text_of(ours.summary("retention", at)))
        body.append(row)
    return markdown_table(head, body) + "\n"


def details(found: list[tuple[Contest, Group]]) -> list[str]:
    """The tables of docs/evidence.md."""
    return [
        within(found, "retention"), within(found, "exact"),
        _beyond(found, "retention"), _beyond(found, "exact"), _more(found), _by_chance(found),
        _everyone(found),
    ]  # fmt: skip


def read(*roots: Path) -> list[tuple[Contest, Group]]:
    """Each task that our memory was run on with five seeds or more, with its runs."""
    found = []
    aside = contests(read_runs(merged(aside_records())).runs)
    asides = {_asked(other): _named(other, ASIDE_LABEL) for other in aside}
    # What stands aside at another rate is a row of its own, and chooses nothing.
    every = (
        one for root in roots for one in kept_runs(root).records
        if not (root == ASIDE and at_another_rate(one))
    )  # fmt: skip
    for contest in map(_named, contests(read_runs(merged(every)).runs)):
        if other := asides.get(_asked(contest)):
            contest = replace(contest, groups=(*contest.groups, *other.groups))
        for group in contest.groups:
            specs = [run.record.spec for run in group.runs.values()]
            ours = all(
                (spec.mixer, spec.rest.get("added_positions")) == (OURS, SIGNAL) for spec in specs
            )
            if ours and complete(group):
                found.append((contest, group))
    return found


def _asked(contest: Contest) -> Asked:
    """The task with all its options: its name tells those alone that differ among what is read."""
    return next(iter(contest.groups[0].runs.values())).asked


def _named(contest: Contest, label: str = TAPS_LABEL) -> Contest:
    """The same, with the attention of a file called one."""
    (taps,) = CONVOLVED
    groups = (
        replace(one, mixer=BASELINE, label=label) if is_group_of(one, taps) else one
        for one in contest.groups
    )
    return replace(contest, groups=tuple(groups))


def best_on_dev(contest: Contest, figure: str, context: int) -> Group:
    """The attention with the highest mean of it on dev at the longest length trained on.

    Of several with the same mean, the one that learns in the fewest steps: in attention's favour.
    """

    def scored(group: Group) -> tuple[float, float]:
        figures = [
            evaluation.figures[figure]
            for run in group.runs.values()
            for evaluation in run.evaluations
            if (evaluation.split, evaluation.context) == ("dev", context)
        ]
        # One with a diverged seed comes last, as in a report: the others' mean is not its own.
        whole = figures and all(run.status == "done" for run in group.runs.values())
        return statistics.mean(figures) if whole else -math.inf, -steps_to_learn(group, figure)

    return max(attentions(contest, context), key=scored)


def best_on_test(contest: Contest, ours: Group, figure: str, context: int) -> Group | None:
    """The attention with the highest mean at this very length; None where none was tested."""

    def scored(group: Group) -> float:
        each = group.by_seed(figure, context).values()
        return statistics.mean(each) if all(map(math.isfinite, each)) else -math.inf

    every = attentions(contest, ours.context)
    tested = [one for one in every if len(one.by_seed(figure, context)) >= ENOUGH_SEEDS]
    return max(tested, key=scored, default=None)


def steps_to_learn(group: Group, figure: str) -> float:
    """Median over the seeds of the first look at dev that reaches it; infinite where none does."""
    return statistics.median(learned_at(group, figure).values())


def learned_at(group: Group, figure: str) -> dict[int, float]:
    """The first look at dev that reaches it, by seed; infinite where none does."""
    return {
        run.seed: next(
            (row["step"] for row in run.history if row[figure] >= LEARNED_RETENTION), math.inf
        )
        for run in group.runs.values()
    }


def attentions(contest: Contest, context: int) -> list[Group]:
    """Those that were trained at this length and are run in full."""
    return [g for g in contest.at(context) if g.mixer == BASELINE and complete(g)]


def complete(group: Group) -> bool:
    """Whether all its seeds are there: a cell that has fewer would be read as if it had."""
    return len(group.runs) >= ENOUGH_SEEDS


def within(
    found: list[tuple[Contest, Group]], figure: str, named: Callable[[Contest], str] = task_of
) -> str:
    """A figure at the longest length trained on, beside dev's best attention, and the steps."""
    body = []
    for contest, ours in found:
        context = ours.context
        if not attentions(contest, context):
            continue
        other = best_on_dev(contest, figure, context)
        mine, theirs = ours.by_seed(figure, context), other.by_seed(figure, context)
        row = [named(contest), spoken(other.label)]
        for group in (other, ours):
            row.append(text_of(group.summary(figure, context)))
        row.append(paired_difference(mine, theirs).summary.text())
        row += [steps_text(steps_to_learn(group, figure)) for group in (other, ours)]
        body.append(row)
    head = [f"{figure}, {found[0][1].context} tokens", "best attention", "its", OURS, "difference"]
    head += ["its steps", f"steps of {OURS}"]
    return markdown_table(head, body) + "\n"


def steps_text(count: float) -> str:
    """Steps as a cell of a table."""
    return f"{count:,.0f}" if math.isfinite(count) else "never"


def _beyond(found: list[tuple[Contest, Group]], figure: str) -> str:
    trained = found[0][1].context
    lengths = sorted({at for _, ours in found for at in ours.test_contexts if at > trained})
    head = [f"{figure}, beyond"]
    for at in lengths:
        head += [f"{OURS} at {at:,}", "lowest seed", "best attention there"]
    body = []
    for contest, ours in found:
        row = [task_of(contest)]
        for at in lengths:
            values = ours.finite(figure, at).values()
            row += [text_of(ours.summary(figure, at)), f"{min(values):.3f}" if values else "–"]
            best = best_on_test(contest, ours, figure, at)
            which = f", {spoken(best.label).removeprefix('attention, ')}" if best else ""
            row.append(f"{text_of(best and best.summary(figure, at))}{which}")
        body.append(row)
    return markdown_table(head, body) + "\n"


def _everyone(found: list[tuple[Contest, Group]]) -> str:
    """Retention of all that are run in full, slots too, a table a length."""
    return tables(
        [
            replace(contest, groups=tuple(one for one in contest.groups if complete(one)))
            for contest, _ in found
        ]
    )


def _more(found: list[tuple[Contest, Group]]) -> str:
    """What our memory keeps more than the best attention of each length, paired by seed."""
    asked = _asked_beyond(found)
    body = []
    for contest, ours in found:
        more = [more_than_best(contest, ours, *one) for one in asked]
        body.append([task_of(contest), *(text_of(one and one.summary) for one in more)])
    head = [f"{OURS} − best attention", *(f"{figure} at {at:,}" for figure, at in asked)]
    return markdown_table(head, body) + "\n"


def _by_chance(found: list[tuple[Contest, Group]]) -> str:
    """How probable each of these differences is where there is none, a column's rows together."""
    asked = _asked_beyond(found)
    columns = [corrected(found, *one) for one in asked]
    names = [task_of(contest) for contest, _ in found]
    body = [
        [name, *(_chance_of(column[name]) if name in column else "not run" for column in columns)]
        for name in names
    ]
    head = ["p, corrected by Holm", *(f"{figure} at {at:,}" for figure, at in asked)]
    return markdown_table(head, body) + "\n"


def _chance_of(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _asked_beyond(found: list[tuple[Contest, Group]]) -> list[tuple[str, int]]:
    lengths = [at for at in LENGTHS if at > found[0][1].context]
    return [(figure, at) for figure in ("retention", "exact") for at in lengths]


def more_than_best(
    contest: Contest, ours: Group, figure: str, context: int
) -> PairedDifference | None:
    """What our memory has more than the attention that is best there; None where none is."""
    best = best_on_test(contest, ours, figure, context)
    mine = ours.by_seed(figure, context)
    return best and paired_difference(mine, best.by_seed(figure, context))


def corrected(found: list[tuple[Contest, Group]], figure: str, context: int) -> dict[str, float]:
    """How probable each row's difference is (paired t-test), corrected for all by Holm's method."""
    tested = {}
    for contest, ours in found:
        if (more := more_than_best(contest, ours, figure, context)) is not None:
            p = _paired_t([*more.by_seed.values()])
            tested |= {} if p is None else {task_of(contest): p}
    return holm(tested)


def _paired_t(differences: Sequence[float]) -> float | None:
    """How probable so large a mean is where there is none; None of fewer than two pairs."""
    known = [one for one in differences if math.isfinite(one)]
    if len(known) < 2:
        return None
    # Alike in every seed: the test divides 0 by 0, and nothing speaks for a difference.
    return float(ttest_1samp(known, 0.0).pvalue) if any(known) else 1.0


def holm(tested: Mapping[str, float]) -> dict[str, float]:
    """Each p corrected for all of them (Holm 1979)."""
    least, result = 0.0, {}
    for place, (name, p) in enumerate(sorted(tested.items(), key=lambda one: one[1])):
        # None may be less probable than one with a smaller p.
        least = max(least, min(1.0, (len(tested) - place) * p))
        result[name] = least
    return result


def figure(found: list[tuple[Contest, Group]]) -> bytes:
    """The report's figure of retention over context, as a PNG."""
    said = [
        replace(
            contest,
            task=task_of(contest),
            baselines={
                one.context: one.label for one in contest.groups if is_group_of(one, ROTARY)
            },
            groups=tuple(
                replace(one, label=f"{OURS}, added_positions {SIGNAL}") if one is ours else one
                for one in contest.groups
                if complete(one) and not any(is_group_of(one, other) for other in NOT_DRAWN)
            ),
        )
        for contest, ours in found
    ]
    return files(replace(charts(said)[0], caption=CAPTION))[FIGURE]


if __name__ == "__main__":
    folders = [Path(name) for name in sys.argv[1:]]
    found = read(*folders or FOLDERS)
    write_bytes((folders[-1] if folders else DRAWN) / FIGURE, figure(found))
    sys.stdout.write(page(found))
