"""Groups of the table: a variant on a task at a training length, with its figures by seed.

A group has one run a seed, at the learning rate chosen on the validation set. A figure at a tested
length has a value for each seed: NaN for one that diverged, none where it was not measured. Runs
that failed, timed out or were killed are no results and are in no group.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from rulekeep.analysis.labels import BASELINE, LEARNED
from rulekeep.analysis.runs import Run, figures
from rulekeep.analysis.summary import (
    RateChoice,
    Summary,
    ValidationScores,
    choose_learning_rate,
    mean_scores,
    paired_difference,
    summarise,
    summarise_scores,
)
from rulekeep.records.figures import SCORES
from rulekeep.records.record import Evaluation

# What two groups must have in common to be compared, beside task and length.
_ALIKE = ("steps", "batch_size", "mixed_lengths", "length_growth", "width", "layers")
# What a run that diverged has no value of, where none of its seeds ended.
_SCORED = (*SCORES, "val_loss", "intrusion_rate")
BySeed: TypeAlias = Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The learning rates tried for a group; the chosen one, or why none.

    `choice` is what the rule says of these runs. `rate` is the one with most runs: the sweep chose
    it; the rule's where several have as many, of those alone. `runs` counts the runs of each rate.
    `seeds` are those that all rates have that are compared.
    """

    runs: Mapping[float, int]
    choice: RateChoice | None = None
    problem: str = ""
    seeds: int = 0
    rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """A variant trained on one task at one length with one learning rate: one run a seed.

    An outside model is not trained, and is shown at the longest training length of the others.
    """

    task: str
    label: str
    context: int
    rate: float | None
    runs: Mapping[int, Run]
    rates: Rates
    _summaries: dict[tuple[str, int | None], Summary | None] = field(
        init=False, default_factory=dict
    )

    @property
    def first(self) -> Run:
        """Its first run: what is alike in all is read there."""
        return next(iter(self.runs.values()))

    @property
    def mixer(self) -> str:
        """The mixer's name."""
        return self.first.mixer

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return self.first.trained_at

    @property
    def is_own(self) -> bool:
        """Whether the mixer is a plug-in: the user of a report looks for it first."""
        # As it was asked for: the name that is shown may be shortened.
        return ":" in self.first.record.spec.mixer

    @property
    def is_attention(self) -> bool:
        """Whether it is attention, with which others are compared."""
        return self.mixer == BASELINE

    @property
    def is_strong(self) -> bool:
        """Whether it is attention with a convolution on queries, keys and values."""
        size = self.first.settings.get("conv_size", "none")
        return self.is_attention and size not in ("none", "0", "1")

    @cached_property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that a seed was tested at or was to be tested at."""
        every = self.runs.values()
        asked = {at for run in every for at in run.test_contexts}
        return tuple(sorted(asked | {one.context for run in every for one in run.record.tests()}))

    @cached_property
    def values(self) -> dict[tuple[str, str, int | None], dict[int, float]]:
        """Every figure but those of validation, by table, name and tested length: one a seed."""
        found: dict[tuple[str, str, int | None], dict[int, float]] = defaultdict(dict)
        names = self._names
        for seed, run in self.runs.items():
            failed = self._failed_at(run)
            for table, figure, split, tested, value in figures(run.record):
                if split in ("test", None) and not (table == "scores" and tested in failed):
                    found[table, figure, tested][seed] = value
            for tested in sorted(at for at, counts in failed.items() if counts):
                for figure in names:
                    found["scores", figure, tested][seed] = math.nan
        return dict(found)

    @property
    def _names(self) -> Iterable[str]:
        """The scores that those have that ended."""
        tests = [one for run in self.runs.values() for one in run.record.tests()]
        ended = [one for one in tests if one.not_finite_from is None]
        return {figure for one in ended for figure in one.figures} if ended else _SCORED

    def _failed_at(self, run: Run) -> dict[int, bool]:
        """Lengths at which a run has no score; whether it counts as diverged there.

        It does at what it was to be tested at, where there is something to be tested.
        """
        odd = {one.context for one in run.record.tests() if one.not_finite_from is not None}
        # A run that diverged has no weights to be tested later, and would have failed there too.
        later = {at for other in self.runs.values() for at in other.record.tested_later}
        asked = {*(run.test_contexts or self.test_contexts), *later}
        failed = self.test_contexts if run.record.status == "diverged" else odd
        return {at: at in asked and not self.is_undefined(at) for at in failed}

    def by_seed(self, figure: str, tested: int | None = None, table: str = "scores") -> BySeed:
        """A figure for each seed; NaN if it diverged, absent if not measured.

        It diverged in training, or its outputs are not finite at this length.
        """
        return self.values.get((table, figure, tested), {})

    def over(self, figure: str, table: str = "scores") -> dict[int, BySeed]:
        """A figure at each length that has it, by seed."""
        return {
            tested: by_seed
            for (of, named, tested), by_seed in self.values.items()
            if (of, named) == (table, figure) and tested is not None
        }

    def finite(self, figure: str, tested: int) -> BySeed:
        """As `by_seed`, only the seeds whose figure is a number."""
        found = self.by_seed(figure, tested)
        return {seed: value for seed, value in found.items() if math.isfinite(value)}

    def summary(self, figure: str, tested: int) -> Summary | None:
        """A figure of the test split over the seeds; None when no seed has it."""
        # Tables, figures and sentences all ask: each is computed once.
        if (figure, tested) not in self._summaries:
            values = [*self.by_seed(figure, tested).values()]
            of = summarise_scores if figure in SCORES else summarise
            self._summaries[figure, tested] = of(values) if values else None
        return self._summaries[figure, tested]

    def cost(self, key: str, tested: int | None = None) -> BySeed:
        """A cost for each seed that ended training and has it; some are after so many tokens."""
        return self.by_seed(key, tested, "costs")

    def corrected(self, figure: str, tested: int) -> BySeed:
        """A test score corrected for chance, for each seed that has both."""
        return self.by_seed(figure, tested, "corrected")

    def chance(self, figure: str, tested: int) -> float | None:
        """The chance level in the evaluations."""
        return next(iter(self.by_seed(figure, tested, "chance").values()), None)

    def is_undefined(self, tested: int) -> bool:
        """Whether learned positions end before this length."""
        learned = any(run.settings.get("added_positions") == LEARNED for run in self.runs.values())
        return learned and tested > self.context


def mean_of(by_seed: BySeed) -> float:
    """The mean over at least one seed."""
    return sum(by_seed.values()) / len(by_seed)


def has_diverged(by_seed: BySeed) -> bool:
    """Whether the figure of a seed is NaN."""
    return any(map(math.isnan, by_seed.values()))


def trained_alike(one: Group, other: Group) -> bool:
    """Whether two groups are of one protocol, as far as their records say."""
    first, second = one.first.settings, other.first.settings
    return all(first.get(key, second.get(key)) == second.get(key, first.get(key)) for key in _ALIKE)


def against_attention(
    group: Group, every: Iterable[Group], figure: str, test: int
) -> tuple[Group, Summary] | None:
    """The strongest attention for a group, and the group's figure minus its figure, by seed.

    The strongest has the highest test figure, which favours attention. It is trained like the
    group, and shares a seed with it. None if there is no other.
    """
    ours = group.by_seed(figure, test)
    rivals = [
        other
        for other in every
        if (other.task, other.context) == (group.task, group.context)
        and other.is_attention
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


def grouped(runs: Iterable[Run]) -> list[Group]:
    """The runs that are results, by task, variant and training length, in their order."""
    found: dict[tuple[str, str, int], list[Run]] = defaultdict(list)
    for run in runs:
        if run.record.is_result:
            found[run.task, run.label, run.context].append(run)
    return [_group(*key, same) for key, same in found.items()]


def _group(task: str, label: str, context: int, runs: Sequence[Run]) -> Group:
    rates = _rates(runs)
    rate = rates.rate
    if rate is None:
        counts = Counter(run.rate for run in runs)
        rate = min(counts, key=lambda rate: (-counts[rate], rate or 0.0))
    by_seed = {run.seed: run for run in runs if run.rate == rate}
    return Group(task=task, label=label, context=context, rate=rate, runs=by_seed, rates=rates)


def _rates(runs: Sequence[Run]) -> Rates:
    tried: dict[float, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if run.rate is not None:
            tried[run.rate][run.seed] = run
    found = Rates(runs={rate: len(by_seed) for rate, by_seed in sorted(tried.items())})
    if not tried:
        return replace(found, problem="no learning rate recorded")
    # A sweep runs all seeds at the rate that it chose, whatever it knew and by whatever rule. Of
    # several rates with as many runs these choose, and no run of another.
    most = max(len(by_seed) for by_seed in tried.values())
    leading = {rate: by_seed for rate, by_seed in tried.items() if len(by_seed) == most}
    compared = leading if len(leading) > 1 else tried
    # Rates compare over the same seeds only; more seeds at the chosen one are usual.
    common = sorted(set.intersection(*(set(by_seed) for by_seed in compared.values())))
    if not common:
        return replace(found, problem="the rates share no seed")
    both = [by_seed[seed] for by_seed in compared.values() for seed in common]
    validated = _validated(both)
    found = replace(found, seeds=len(common))
    measured = any(math.isfinite(loss) for loss, _ in validated.values())
    if not measured and any(run.record.status == "done" for run in both):
        return replace(found, problem="no validation loss recorded at a length that all have")
    by_rate = {
        rate: [validated[by_seed[seed].record.id] for seed in common]
        for rate, by_seed in compared.items()
    }
    choice = choose_learning_rate(by_rate, extended=False)
    if choice.rate is not None and min(found.runs) < choice.rate < max(found.runs):
        # Rates on both sides of it were run, if with fewer seeds.
        choice = replace(choice, edge=None, extension=None)
    rate = next(iter(leading)) if len(leading) == 1 else choice.rate
    return replace(found, choice=choice, rate=rate)


def _validated(runs: Iterable[Run]) -> dict[str, tuple[float, ValidationScores | None]]:
    """Mean validation loss (nats a token) of each run by its id, NaN if it diverged or has none;
    and its scores.

    They are over the training lengths at which all runs were validated: others would give runs
    unequal weights.
    """
    looks = {run.record.id: _looks(run) for run in runs}
    measured = [set(by_length) for by_length in looks.values() if by_length]
    shared = set.intersection(*measured) if measured else set[int]()
    found = dict[str, tuple[float, ValidationScores | None]]()
    for run, by_length in looks.items():
        rows = [by_length[at] for at in sorted(shared)] if by_length else []
        losses = [row.figures["val_loss"] for row in rows]
        found[run] = (sum(losses) / len(losses) if losses else math.nan, scores_of(rows))
    return found


def _looks(run: Run) -> dict[int, Evaluation]:
    record = run.record
    if record.status == "diverged":
        return {}
    validated = [
        one
        for one in record.evaluations
        if one.split == "validation" and one.context <= run.context
    ]
    if any(one.not_finite_from is not None for one in validated):
        return {}
    looks = {one.context: one for one in validated if "val_loss" in one.figures}
    if not looks and record.history and "val_loss" in record.history[-1]:
        last = {"val_loss": record.history[-1]["val_loss"]}
        return {run.context: Evaluation(split="validation", context=run.context, figures=last)}
    return looks


def scores_of(looks: Sequence[Evaluation]) -> ValidationScores | None:
    """Retention and exact over several validation lengths; None where one says nothing of them."""
    rows = [
        ValidationScores(row.figures["retention"], row.figures["exact"], int(row.examples))
        for row in looks
        if row.examples and {"retention", "exact"} <= row.figures.keys()
    ]
    return mean_scores(rows) if rows and len(rows) == len(looks) else None
