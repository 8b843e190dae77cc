"""Groups of the table: a variant on a task at a training length, with its figures by seed.

A group has one run a seed, at the learning rate chosen on the validation set. A figure at a tested
length has a value for each seed: NaN for one that diverged, none where it was not measured. Runs
that failed, timed out or were killed are no results and are in no group.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

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
from rulekeep.analysis.table import BASELINE, LEARNED, Run
from rulekeep.records import Evaluation, Record
from rulekeep.records.figures import SCORES
from rulekeep.records.record import PARTS

# What two groups must have in common to be compared, beside task and length.
_ALIKE = ("steps", "batch_size", "mixed_lengths", "length_growth", "width", "layers")
# What a run that diverged has no value of, where none of its seeds ended.
_SCORED = {*SCORES, "val_loss", "intrusion_rate"}
BySeed: TypeAlias = Mapping[int, float]


# The table, name and tested length in tokens of a figure. Tables are `scores`, `chance` (of a
# score), `corrected` (a score without it), `parts` (retention by step, position and kind) and
# `costs`, of which those of the whole run have no length.
Key: TypeAlias = tuple[str, str, int | None]


def figures(record: Record) -> Iterator[tuple[Key, float]]:
    """Test figures and costs of a run that ended; of one that diverged what it had before."""
    for one in record.tests():
        for table, figure, value in _scored(one):
            yield (table, figure, one.context), value
    if record.has_model:
        by_length = {"state_bytes": record.state_bytes, "decode_ms_per_token": record.decode_ms}
        for figure, costs in by_length.items():
            for at, value in costs.items():
                yield ("costs", figure, at), value
        for figure, value in record.costs.items():
            if math.isfinite(value):
                yield ("costs", figure, None), value


def _scored(one: Evaluation) -> Iterator[tuple[str, str, float]]:
    chance = dict(one.chance)
    for figure, value in one.figures.items():
        if figure == "intrusion_chance":
            yield "chance", "intrusion_rate", value
            continue
        yield "scores", figure, value
        if figure in chance:
            yield "corrected", figure, chance_corrected(value, chance[figure])
    for figure, level in chance.items():
        yield "chance", figure, level
    for part in PARTS:
        for label, (retention, level, _) in one.parts.get(part, {}).items():
            figure = f"retention, {part} {label}"
            yield "parts", figure, retention
            yield "chance", figure, level
            # A default is no retention: its chance is 1, and nothing is left to correct.
            if level < 1:
                yield "corrected", figure, chance_corrected(retention, level)


class Rates(NamedTuple):
    """The learning rates tried for a group: how many runs each has, and the one that is shown.

    `choice` is what the rule says of these runs over the `seeds` that all compared rates have, or
    `problem` why it says nothing. `rate` is the one with most runs: the sweep chose it; the rule's
    where several have as many, of those alone. None of what is not trained.
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
    runs: Mapping[int, Run]
    rates: Rates

    @property
    def rate(self) -> float | None:
        """The learning rate of its runs."""
        return self.rates.rate

    @property
    def first(self) -> Run:
        """Its first run: what is alike in all is read there."""
        return next(iter(self.runs.values()))

    @property
    def is_own(self) -> bool:
        """Whether the mixer is a plug-in."""
        return self.first.is_own

    @property
    def is_attention(self) -> bool:
        """Whether it is attention, with which others are compared."""
        return self.first.mixer == BASELINE

    @property
    def is_strong(self) -> bool:
        """Whether it is attention with a convolution on queries, keys and values."""
        size = self.first.settings.get("conv_size", "none")
        return self.is_attention and size not in ("none", "0", "1")

    @cached_property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that a seed was tested at or was to be tested at."""
        tested = {one.context for run in self.runs.values() for one in run.record.tests()}
        return tuple(sorted(tested.union(*(run.test_contexts for run in self.runs.values()))))

    @cached_property
    def values(self) -> dict[Key, dict[int, float]]:
        """Every figure but those of validation: one a seed."""
        found: dict[Key, dict[int, float]] = defaultdict(dict)
        tests = [one for run in self.runs.values() for one in run.record.tests()]
        ended = [one for one in tests if one.not_finite_from is None]
        # The scores that those have that ended.
        scored = {figure for one in ended for figure in one.figures} if ended else _SCORED
        for seed, run in self.runs.items():
            failed = self._failed_at(run)
            for key, value in figures(run.record):
                if not (key[0] == "scores" and key[2] in failed):
                    found[key][seed] = value
            for tested in sorted(at for at, counts in failed.items() if counts):
                for figure in scored:
                    found["scores", figure, tested][seed] = math.nan
        return dict(found)

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

        `table` is one of those of `figures`. A seed diverged in training, or its outputs are not
        finite at this length.
        """
        return self.values.get((table, figure, tested), {})

    def cost(self, figure: str, tested: int | None = None) -> BySeed:
        """A cost for each seed that ended training and has it; some are after so many tokens."""
        return self.by_seed(figure, tested, "costs")

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

    @cached_property
    def _summaries(self) -> dict[tuple[str, int | None], Summary]:
        return {
            (figure, at): (summarise_scores if figure in SCORES else summarise)([*each.values()])
            for (table, figure, at), each in self.values.items()
            if table == "scores"
        }

    def summary(self, figure: str, tested: int) -> Summary | None:
        """A figure of the test split over the seeds; None when no seed has it."""
        return self._summaries.get((figure, tested))

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


def strength(by_seed: BySeed) -> tuple[bool, float]:
    """What attention is ranked by: one with a diverged seed comes after all others."""
    finite = {seed: value for seed, value in by_seed.items() if math.isfinite(value)}
    return len(finite) == len(by_seed), mean_of(finite) if finite else -math.inf


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
    best = max(rivals, key=lambda one: strength(one.by_seed(figure, test)), default=group)
    if best is group:
        return None
    return best, paired_difference(ours, best.by_seed(figure, test))


def grouped(runs: Iterable[Run]) -> list[Group]:
    """The runs that are results, by task, variant and training length, in their order."""
    found: dict[tuple[str, str, int], list[Run]] = defaultdict(list)
    for run in runs:
        if run.record.is_result:
            found[run.task, run.label, run.context].append(run)
    groups = []
    for (task, label, context), same in found.items():
        rates = _rates(same)
        of_rate = {run.seed: run for run in same if run.rate == rates.rate}
        groups.append(Group(task=task, label=label, context=context, runs=of_rate, rates=rates))
    return groups


def _rates(runs: Sequence[Run]) -> Rates:
    tried: dict[float, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        if run.rate is not None:
            tried[run.rate][run.seed] = run
    if not tried:
        return Rates(runs={}, problem="no learning rate recorded")
    # A sweep runs all seeds at the rate that it chose, whatever it knew and by whatever rule. Of
    # several rates with as many runs these choose, and no run of another.
    most = max(len(by_seed) for by_seed in tried.values())
    leading = {rate: by_seed for rate, by_seed in tried.items() if len(by_seed) == most}
    compared = leading if len(leading) > 1 else tried
    # Rates compare over the same seeds only; more seeds at the chosen one are usual.
    common = sorted(set.intersection(*(set(by_seed) for by_seed in compared.values())))
    both = [by_seed[seed] for by_seed in compared.values() for seed in common]
    validations = _validations(both)
    found = Rates(
        runs={rate: len(by_seed) for rate, by_seed in sorted(tried.items())},
        seeds=len(common),
        rate=min(leading),
    )
    if not common:
        return found._replace(problem="the rates share no seed")
    is_measured = any(math.isfinite(loss) for loss, _ in validations.values())
    if not is_measured and any(run.record.status == "done" for run in both):
        return found._replace(problem="no validation loss recorded at a length that all have")
    by_rate = {
        rate: [validations[by_seed[seed].record.id] for seed in common]
        for rate, by_seed in compared.items()
    }
    choice = choose_learning_rate(by_rate, extended=False)
    if choice.rate is not None and min(tried) < choice.rate < max(tried):
        # Rates on both sides of it were run, if with fewer seeds.
        choice = replace(choice, edge=None, extension=None)
    rate = next(iter(leading)) if len(leading) == 1 else choice.rate
    return found._replace(choice=choice, rate=found.rate if rate is None else rate)


def _validations(runs: Iterable[Run]) -> dict[str, tuple[float, ValidationScores | None]]:
    """What validation says of each run, by its id; NaN if it diverged.

    It is over the training lengths at which all runs were validated: others would give runs unequal
    weights.
    """
    looks = {run.record.id: _looks(run) for run in runs}
    measured = [set(by_length) for by_length in looks.values() if by_length]
    shared = sorted(set.intersection(*measured)) if measured else []
    return {
        run: validation([by_length[at] for at in shared if by_length])
        for run, by_length in looks.items()
    }


def _looks(run: Run) -> dict[int, Evaluation]:
    record = run.record
    if record.status == "diverged":
        return {}
    every = record.evaluations
    validated = [one for one in every if one.split == "validation" and one.context <= run.context]
    if any(one.not_finite_from is not None for one in validated):
        return {}
    looks = {one.context: one for one in validated if "val_loss" in one.figures}
    if not looks and record.history and "val_loss" in record.history[-1]:
        last = {"val_loss": record.history[-1]["val_loss"]}
        return {run.context: Evaluation(split="validation", context=run.context, figures=last)}
    return looks


def validation(looks: Sequence[Evaluation]) -> tuple[float, ValidationScores | None]:
    """Mean validation loss (nats a token) over several lengths, and scores: retention and exact.

    The loss is NaN, and the scores None, where one length says nothing of them.
    """
    losses = [one.figures.get("val_loss", math.nan) for one in looks]
    scores = [
        ValidationScores(one.figures["retention"], one.figures["exact"], int(one.examples))
        for one in looks
        if one.examples and {"retention", "exact"} <= one.figures.keys()
    ]
    loss = sum(losses) / len(losses) if losses else math.nan
    return loss, mean_scores(scores) if scores and len(scores) == len(looks) else None
