"""Groups runs for comparison: tasks, mixers at their chosen learning rate, cells over seeds.

A cell is a task, a mixer, a training length and a test length. It has one figure per seed, NaN for
a seed that diverged. Runs that failed, timed out or were killed are no results and are in no cell.
The learning rate is chosen on the validation set; only test figures are shown.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from rulekeep.analysis.reading import BASELINE, LEARNED, Run
from rulekeep.analysis.summary import (
    RateChoice,
    Summary,
    ValidationScores,
    chance_corrected,
    choose_learning_rate,
    mean_scores,
    paired_difference,
    summarise,
    summarise_scores,
)
from rulekeep.records.figures import SCORES
from rulekeep.records.record import Evaluation, Record

# What two groups must have in common to be compared, beside task and length.
_ALIKE = ("steps", "batch_size", "mixed_lengths", "length_growth", "width", "layers")


@dataclass(frozen=True)
class Group:
    """A mixer trained on one task at one length with one learning rate: one run per seed.

    An outside model is not trained, and is shown at the longest training length of the others.
    """

    task: str
    label: str
    mixer: str
    context: int
    rate: float | None
    runs: Mapping[int, Run]
    _tests: dict[tuple[int, int], Evaluation] = field(init=False, default_factory=dict)
    _summaries: dict[tuple[str, int], Summary | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for seed, run in self.runs.items():
            for evaluation in run.record.evaluations:
                if evaluation.split == "test":
                    self._tests[seed, evaluation.context] = evaluation

    @property
    def is_own(self) -> bool:
        """Whether the mixer is a plug-in: the user of a report looks for it first."""
        (run, *_) = self.runs.values()
        # As it was asked for: the name that is shown may be shortened.
        return ":" in run.record.spec.mixer

    @property
    def is_attention(self) -> bool:
        """Whether it is attention, with which others are compared."""
        return self.mixer == BASELINE

    @property
    def is_strong(self) -> bool:
        """Whether it is attention with a convolution on queries, keys and values."""
        (run, *_) = self.runs.values()
        size = run.settings.get("conv_size", "none")
        return self.is_attention and size not in ("none", "0", "1")

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return next(iter(self.runs.values())).trained_at

    @cached_property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that a seed was tested at or was to be tested at."""
        asked = {context for run in self.runs.values() for context in run.test_contexts}
        return tuple(sorted(asked | {context for _, context in self._tests}))

    def by_seed(self, figure: str, context: int) -> dict[int, float]:
        """A test figure for each seed; NaN if it diverged, absent if not measured.

        It diverged in training, or its outputs are not finite at this length.
        """
        found = {}
        for seed, run in self.runs.items():
            test = self._tests.get((seed, context))
            if run.status == "diverged" or (test and test.not_finite_from is not None):
                if self._has_failed_at(run, figure, context):
                    found[seed] = math.nan
            elif test and figure in test.figures:
                found[seed] = test.figures[figure]
        return found

    def summary(self, figure: str, context: int) -> Summary | None:
        """A figure of the test split over the seeds; None when no seed has it."""
        # Tables, figures and sentences all ask: each is computed once.
        if (figure, context) not in self._summaries:
            values = list(self.by_seed(figure, context).values())
            one = summarise_scores if figure in SCORES else summarise
            self._summaries[figure, context] = one(values) if values else None
        return self._summaries[figure, context]

    def finite(self, figure: str, context: int) -> dict[int, float]:
        """As `by_seed`, only the seeds whose figure is a number."""
        found = self.by_seed(figure, context)
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def chance(self, figure: str, context: int) -> float | None:
        """The chance level in the evaluations."""
        levels = [
            test.chance[figure]
            for (_, tested), test in self._tests.items()
            if tested == context and figure in test.chance
        ]
        return levels[0] if levels else None

    def tests(self, context: int) -> dict[int, Evaluation]:
        """What each seed that was tested at this length scored there."""
        return {seed: test for (seed, tested), test in self._tests.items() if tested == context}

    def corrected(self, figure: str, context: int) -> dict[int, float]:
        """A test score corrected for chance, for each seed that has both."""
        return {
            seed: chance_corrected(test.figures[figure], test.chance[figure])
            for seed, test in self.tests(context).items()
            if figure in test.chance and math.isfinite(test.figures.get(figure, math.nan))
        }

    def is_undefined(self, context: int) -> bool:
        """Whether learned positions end before this length."""
        learned = any(run.settings.get("added_positions") == LEARNED for run in self.runs.values())
        return learned and context > self.context

    def _has_failed_at(self, run: Run, figure: str, context: int) -> bool:
        # At what it was to be tested at, where there is something to be tested, and at a figure
        # that those that ended have.
        ended = [test for test in self._tests.values() if test.not_finite_from is None]
        asked = run.test_contexts or self.test_contexts
        # A run that diverged has no weights to be tested later, and would have failed there too.
        later = {at for other in self.runs.values() for at in other.record.tested_later}
        return (
            (context in asked or context in later)
            and not self.is_undefined(context)
            and (not ended or any(figure in test.figures for test in ended))
        )

    def cost(self, key: str) -> dict[int, float]:
        """A cost for each seed that ended training and has it."""
        return self._costs(lambda record: record.costs.get(key))

    def state_bytes(self, context: int) -> dict[int, float]:
        """Bytes of one sequence's state after so many tokens, as `cost`."""
        return self._costs(lambda record: record.state_bytes.get(context))

    def decode_ms(self, context: int) -> dict[int, float]:
        """Milliseconds a token after so many tokens, as `cost`."""
        return self._costs(lambda record: record.decode_ms.get(context))

    def _costs(self, cost_of: Callable[[Record], float | None]) -> dict[int, float]:
        ended = {s: cost_of(run.record) for s, run in self.runs.items() if run.record.has_model}
        return {s: cost for s, cost in ended.items() if cost is not None and math.isfinite(cost)}


@dataclass(frozen=True)
class Rates:
    """The learning rates tried for a mixer on a task at a training length; the chosen one, or why
    none.

    `choice` is what the rule says of these runs. `rate` is the one with most runs: the sweep chose
    it; the rule's where several have as many, of those alone. `runs` counts the runs of each rate.
    `seeds` are those that all rates have that are compared.
    """

    task: str
    label: str
    context: int
    choice: RateChoice | None
    problem: str
    runs: Mapping[float, int]
    seeds: int
    rate: float | None = None


@dataclass(frozen=True)
class Contest:
    """One task: its groups, and the rates that they were chosen from."""

    task: str
    groups: tuple[Group, ...]
    rates: tuple[Rates, ...]

    @property
    def contexts(self) -> tuple[int, ...]:
        """Training lengths in tokens."""
        return tuple(sorted({group.context for group in self.groups}))

    def at(self, context: int) -> list[Group]:
        """The groups trained at this length."""
        return [group for group in self.groups if group.context == context]

    def against_attention(
        self, group: Group, figure: str, test: int
    ) -> tuple[Group, Summary] | None:
        """The strongest attention for a group, and the group's figure minus its figure, by seed.

        The strongest has the highest test figure, which favours attention. It is trained like the
        group, and shares a seed with it. None if there is no other.
        """
        ours = group.by_seed(figure, test)
        rivals = [
            other
            for other in self.at(group.context)
            if other.is_attention
            and trained_alike(other, group)
            and ours.keys() & other.finite(figure, test).keys()
        ]

        # As in the ranking, one with a diverged seed comes after all others.
        def strength(one: Group) -> tuple[bool, float]:
            return not has_diverged(one.by_seed(figure, test)), mean_of(one.finite(figure, test))

        best = max(rivals, key=strength, default=group)
        if best is group:
            return None
        return best, paired_difference(ours, best.by_seed(figure, test))


def mean_of(by_seed: Mapping[int, float]) -> float:
    """The mean over at least one seed."""
    return sum(by_seed.values()) / len(by_seed)


def has_diverged(by_seed: Mapping[int, float]) -> bool:
    """Whether the figure of a seed is NaN."""
    return any(map(math.isnan, by_seed.values()))


def trained_alike(one: Group, other: Group) -> bool:
    """Whether two groups are of one protocol, as far as their records say."""
    first, second = (next(iter(group.runs.values())).settings for group in (one, other))
    return all(first.get(key, second.get(key)) == second.get(key, first.get(key)) for key in _ALIKE)


def compared_at(groups: Sequence[Group], own: Group | None = None) -> int:
    """The longest context at which half of the mixers, and two at least, were tested; or 0.

    At longer contexts few mixers would stand alone. For one mixer, its longest. If one is named,
    only contexts at which it was tested count; every one if all its seeds diverged.
    """
    tested: dict[int, set[str]] = {}
    for group in groups:
        for context in group.test_contexts:
            summary = group.summary("retention", context)
            if summary is not None and summary.mean is not None:
                tested.setdefault(context, set()).add(group.label)
    if own is not None:
        mine = {context: labels for context, labels in tested.items() if own.label in labels}
        tested = mine or tested
    every = {label for labels in tested.values() for label in labels}
    several = [context for context, labels in tested.items() if len(labels) > 1]
    most = [context for context in several if 2 * len(tested[context]) >= len(every)]
    return max(most or several or tested, default=0)


def contests(runs: Sequence[Run]) -> list[Contest]:
    """The runs that are results, grouped by task."""
    found = []
    results = [run for run in runs if run.record.is_result]
    for task, same_task in groupby(results, key=lambda run: run.task):
        groups: list[Group] = []
        rates: list[Rates] = []
        same = groupby(same_task, key=lambda run: (run.label, run.context))
        for (label, context), runs_there in same:
            mine = list(runs_there)
            tried = _rates(task, label, context, mine)
            rates.append(tried)
            groups.append(_group(tried, mine))
        found.append(Contest(task, tuple(groups), tuple(rates)))
    return found


def _validated(runs: Iterable[Run]) -> dict[str, tuple[float, ValidationScores | None]]:
    """Mean validation loss (nats a token) of each run by its id, NaN if it diverged or has none;
    and its scores.

    They are over the training lengths at which all runs were validated: others would give runs
    unequal weights.
    """
    looks = {run.id: _looks(run) for run in runs}
    shared = set[int]()
    if measured := [set(one) for one in looks.values() if one]:
        shared = set.intersection(*measured)
    found = dict[str, tuple[float, ValidationScores | None]]()
    for run, one in looks.items():
        rows = [one[at] for at in sorted(shared)] if one else []
        losses = [row.figures["val_loss"] for row in rows]
        found[run] = (sum(losses) / len(losses) if losses else math.nan, scores_of(rows))
    return found


def _looks(run: Run) -> dict[int, Evaluation]:
    if run.status == "diverged":
        return {}
    validated = [
        one for one in run.record.evaluations if one.split == "dev" and one.context <= run.context
    ]
    if any(one.not_finite_from is not None for one in validated):
        return {}
    looks = {one.context: one for one in validated if "val_loss" in one.figures}
    if not looks and run.record.history and "val_loss" in run.record.history[-1]:
        last = {"val_loss": run.record.history[-1]["val_loss"]}
        return {run.context: Evaluation(split="dev", context=run.context, figures=last)}
    return looks


def scores_of(looks: Sequence[Evaluation]) -> ValidationScores | None:
    """Retention and exact over several validation lengths; None where one says nothing of them."""
    rows = [
        ValidationScores(row.figures["retention"], row.figures["exact"], int(row.examples))
        for row in looks
        if row.examples and {"retention", "exact"} <= row.figures.keys()
    ]
    return mean_scores(rows) if rows and len(rows) == len(looks) else None


def _rates(task: str, label: str, context: int, runs: Sequence[Run]) -> Rates:
    tried: dict[float, dict[int, Run]] = {}
    for run in runs:
        if run.rate is not None:
            tried.setdefault(run.rate, {})[run.seed] = run
    found = Rates(
        task, label, context, None, "no learning rate recorded",
        {rate: len(by_seed) for rate, by_seed in sorted(tried.items())}, 0,
    )  # fmt: skip
    if not tried:
        return found
    # A sweep runs all seeds at the rate that it chose, whatever it knew and by whatever rule. Of
    # several rates with as many runs these choose, and no run of another.
    most = max(len(by_seed) for by_seed in tried.values())
    leading = {rate: by_seed for rate, by_seed in tried.items() if len(by_seed) == most}
    if len(leading) > 1:
        tried = leading
    # Rates compare over the same seeds only; more seeds at the chosen one are usual.
    common = sorted(set.intersection(*(set(by_seed) for by_seed in tried.values())))
    if not common:
        return replace(found, problem="the rates share no seed")
    compared = [by_seed[seed] for by_seed in tried.values() for seed in common]
    of_run = _validated(compared)
    by_rate = {
        rate: [of_run[by_seed[seed].id] for seed in common] for rate, by_seed in tried.items()
    }
    found = replace(found, seeds=len(common))
    measured = any(math.isfinite(loss) for loss, _ in of_run.values())
    if not measured and any(run.status == "done" for run in compared):
        return replace(found, problem="no validation loss recorded at a length that all have")
    choice = choose_learning_rate(by_rate, extended=False)
    if choice.rate is not None and min(found.runs) < choice.rate < max(found.runs):
        # Rates on both sides of it were run, if with fewer seeds.
        choice = replace(choice, edge=None, extension=None)
    rate = next(iter(leading)) if len(leading) == 1 else choice.rate
    return replace(found, choice=choice, rate=rate, problem="")


def _group(rates: Rates, runs: Sequence[Run]) -> Group:
    counts = Counter(run.rate for run in runs)
    rate = rates.rate
    if rate is None:
        rate = min(counts, key=lambda rate: (-counts[rate], rate or 0.0))
    by_seed = {run.seed: run for run in runs if run.rate == rate}
    return Group(rates.task, rates.label, runs[0].mixer, rates.context, rate, by_seed)
