"""Runs gathered into what is compared: tasks, mixers at their chosen rate, cells over seeds.

A cell is a task, a mixer, a training length and a test length; its figures are one a seed, NaN
for a seed that diverged. Runs that failed, timed out or were killed are no result and are in no
cell. The learning rate is chosen on the dev split; only test figures are shown.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from rulekeep.report.reading import BASELINE, LEARNED, SCORES, Evaluation, Run
from rulekeep.summary import (
    HalfDistances,
    PairedDifference,
    RateChoice,
    Summary,
    chance_corrected,
    choose_learning_rate,
    half_distances,
    paired_difference,
    summarise,
    summarise_scores,
)


@dataclass(frozen=True)
class Group:
    """A mixer trained on one task at one length with one learning rate: a run a seed.

    An outside model is not trained, and stands at the longest length that others were trained at.
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
            for evaluation in run.evaluations:
                if evaluation.split == "test":
                    self._tests[seed, evaluation.context] = evaluation

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return next(iter(self.runs.values())).trained_at

    @property
    def trained(self) -> str:
        """The same, as one says it."""
        return "not trained" if self.trained_at is None else f"trained at {self.trained_at}"

    @cached_property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that a seed was tested at or was to be tested at."""
        asked = {context for run in self.runs.values() for context in run.test_contexts}
        return tuple(sorted(asked | {context for _, context in self._tests}))

    def by_seed(self, figure: str, context: int) -> dict[int, float]:
        """A figure of the test split for each seed; NaN if it diverged, none if not measured."""
        found = {}
        for seed, run in self.runs.items():
            if run.status == "diverged":
                # Where there is nothing to be tested at, it has failed at nothing.
                if not self.is_undefined(context):
                    found[seed] = math.nan
            elif (test := self._tests.get((seed, context))) and figure in test.figures:
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
        """What guessing scores, as the evaluations say."""
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
        """A score of the test split with its chance taken out, for each seed that has both."""
        return {
            seed: chance_corrected(test.figures[figure], test.chance[figure])
            for seed, test in self.tests(context).items()
            if figure in test.chance and math.isfinite(test.figures.get(figure, math.nan))
        }

    def is_undefined(self, context: int) -> bool:
        """Learned positions end at the length trained on: there is nothing to test beyond."""
        learned = any(run.settings.get("added_positions") == LEARNED for run in self.runs.values())
        return learned and context > self.context

    def cost(self, key: str) -> dict[int, float]:
        """A cost for each seed that ended training and has it."""
        return {
            s: r.costs[key] for s, r in self._ended() if math.isfinite(r.costs.get(key, math.nan))
        }

    def state_bytes(self, context: int) -> dict[int, float]:
        """Bytes of one sequence's state after so many tokens, as `cost`."""
        return {s: r.state_bytes[context] for s, r in self._ended() if context in r.state_bytes}

    def decode_ms(self, context: int) -> dict[int, float]:
        """Milliseconds a token after so many tokens, as `cost`."""
        return {s: r.decode_ms[context] for s, r in self._ended() if context in r.decode_ms}

    def _ended(self) -> list[tuple[int, Run]]:
        return [(seed, run) for seed, run in self.runs.items() if run.status == "done"]

    def half_distance(self) -> HalfDistances | str:
        """Half distance of chance-corrected retention, or why there is none."""
        curves: dict[int, dict[int, float]] = {}
        for context in self.test_contexts:
            chance = self.chance("retention", context)
            for seed, value in self.by_seed("retention", context).items():
                corrected = chance_corrected(value, chance or 0.0)
                curves.setdefault(seed, {})[context] = corrected
        try:
            return half_distances(curves)
        except ValueError as error:
            return str(error) if curves else "no retention measured"


@dataclass(frozen=True)
class Rates:
    """The learning rates tried for a mixer on a task, and the choice or why there is none.

    `runs` counts those of each rate; `compared` are the training lengths and seeds that all rates
    have, in the order of their losses.
    Where one rate only was run, `reused_from` is the task whose grid chose it, if one did.
    """

    task: str
    label: str
    choice: RateChoice | None
    problem: str
    runs: Mapping[float, int]
    compared: tuple[tuple[int, int], ...]
    reused_from: str | None = None

    @property
    def seeds(self) -> int:
        """How many the rates compare over."""
        return len({seed for _, seed in self.compared})

    def by_seed(self, losses: Sequence[float]) -> list[float]:
        """Of the losses of one rate, the mean over the lengths for each seed."""
        found: dict[int, list[float]] = {}
        for (_, seed), loss in zip(self.compared, losses, strict=True):
            found.setdefault(seed, []).append(loss)
        return [sum(one) / len(one) for one in found.values()]


@dataclass(frozen=True)
class Contest:
    """One task: its groups, the rates they were chosen from, and what is compared with.

    `baselines` has the attention of each training length that has one: of several, dev's best.
    """

    task: str
    groups: tuple[Group, ...]
    rates: tuple[Rates, ...]
    baselines: Mapping[int, str]

    @property
    def contexts(self) -> tuple[int, ...]:
        """Training lengths in tokens."""
        return tuple(sorted({group.context for group in self.groups}))

    def at(self, context: int) -> list[Group]:
        """The groups trained at this length."""
        return [group for group in self.groups if group.context == context]

    def against_baseline(self, group: Group, figure: str, test: int) -> PairedDifference | None:
        """The group's figure minus the baseline's, by seed; None without a seed in common."""
        baseline = self.baselines.get(group.context)
        for other in self.at(group.context):
            if other.label == baseline and group.label != baseline:
                ours, theirs = group.by_seed(figure, test), other.by_seed(figure, test)
                if ours.keys() & theirs.keys():
                    return paired_difference(ours, theirs)
        return None


def compared_at(groups: Sequence[Group], own: Group | None = None) -> int:
    """The longest context that two mixers or more were tested at; of one mixer, its longest; or 0.

    Where one of several was tested further than the others, it would stand there alone. With one
    of them named, of the contexts that it was tested at.
    """
    tested: dict[int, set[str]] = {}
    for group in groups:
        for context in group.test_contexts:
            summary = group.summary("retention", context)
            if summary is not None and summary.mean is not None:
                tested.setdefault(context, set()).add(group.label)
    if own is not None:
        tested = {context: labels for context, labels in tested.items() if own.label in labels}
    several = [context for context, labels in tested.items() if len(labels) > 1]
    return max(several or tested, default=0)


def contests(runs: Sequence[Run]) -> list[Contest]:
    """The runs that are results, a contest a task."""
    found = []
    results = [run for run in runs if run.is_result]
    for task, same_task in groupby(results, key=lambda run: run.task):
        groups: list[Group] = []
        rates: list[Rates] = []
        for label, same_label in groupby(list(same_task), key=lambda run: run.label):
            mine = list(same_label)
            tried = _rates(task, label, mine)
            rates.append(tried)
            groups += _groups(task, label, mine, tried.choice.rate if tried.choice else None)
        found.append(Contest(task, tuple(groups), tuple(rates), _baselines(groups)))
    return _with_origins(found)


def _with_origins(found: list[Contest]) -> list[Contest]:
    """Says of each rate that was not chosen on its own task on which it was."""
    chosen: dict[tuple[str, float], list[str]] = {}
    for contest in found:
        for rates in contest.rates:
            if len(rates.runs) > 1 and rates.choice and rates.choice.rate:
                chosen.setdefault((rates.label, rates.choice.rate), []).append(contest.task)
    return [
        replace(contest, rates=tuple(_with_origin(rates, chosen) for rates in contest.rates))
        for contest in found
    ]


def _with_origin(rates: Rates, chosen: Mapping[tuple[str, float], Sequence[str]]) -> Rates:
    if len(rates.runs) != 1:
        return rates
    (rate,) = rates.runs
    # The same task at another difficulty, if its grid chose this rate too.
    root = rates.task.partition(",")[0]
    origins = sorted(
        chosen.get((rates.label, rate), ()), key=lambda task: task.partition(",")[0] != root
    )
    return replace(rates, reused_from=origins[0] if origins else None)


def spoken(label: str) -> str:
    """As one says it: "attention, rotary positions, earliness", "attention, no positions".

    A name with a comma in it that is none of ours stays as it is.
    """
    label, told_apart, code = label.partition(", code ")
    if told_apart:
        return f"{spoken(label)}{told_apart}{code}"
    name, *parts = label.split(", ")
    if any(" " not in part for part in parts):
        return label
    options = dict(part.rsplit(" ", 1) for part in parts)
    # Earliness says how early a token is, which is not where: it stands beside positions.
    early = options.get("added_positions") == "earliness"
    said = [
        f"{value} {key.removeprefix('added_')}"
        for key, value in options.items()
        if value not in ("none", "earliness")
    ]
    if options.get("positions") == "none" and options.get("added_positions") != LEARNED:
        said.insert(0, "no positions")
    return ", ".join([name, *said, *["earliness"] * early])


def labels(found: Iterable[Contest]) -> list[str]:
    """Every mixer of the report once, the baseline first: its place gives its colour."""
    every = {group.label: group.mixer for contest in found for group in contest.groups}
    return sorted(every, key=lambda label: (every[label] != BASELINE, label))


def dev_loss(run: Run) -> float:
    """Mean dev loss (nats a token) at lengths trained on; NaN when it diverged or has none."""
    if run.status == "diverged":
        return math.nan
    losses = [
        evaluation.figures["val_loss"]
        for evaluation in run.evaluations
        if evaluation.split == "dev"
        and evaluation.context <= run.context
        and "val_loss" in evaluation.figures
    ]
    if losses:
        return sum(losses) / len(losses)
    return run.history[-1].get("val_loss", math.nan) if run.history else math.nan


def _rates(task: str, label: str, runs: Sequence[Run]) -> Rates:
    tried: dict[float, dict[tuple[int, int], float]] = {}
    for run in runs:
        if run.rate is not None:
            tried.setdefault(run.rate, {})[run.context, run.seed] = dev_loss(run)
    counts = {rate: len(losses) for rate, losses in sorted(tried.items())}
    if not tried:
        return Rates(task, label, None, "no learning rate recorded", counts, ())
    # Rates compare only over the same lengths and seeds; more seeds at the chosen one are usual.
    common = _whole(set.intersection(*(set(losses) for losses in tried.values())))
    if not common:
        return Rates(task, label, None, "the rates share no length and seed", counts, ())
    losses = {rate: [by[pair] for pair in common] for rate, by in tried.items()}
    measured = any(math.isfinite(loss) for by in losses.values() for loss in by)
    if not measured and all(run.status == "done" for run in runs):
        return Rates(task, label, None, "no dev loss recorded", counts, common)
    return Rates(task, label, choose_learning_rate(losses, extended=False), "", counts, common)


def _whole(pairs: set[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Those of the seeds that have every length, in order; all if none has: seeds weigh alike."""
    lengths = {length for length, _ in pairs}
    by_seed = {seed: {(at, one) for at, one in pairs if one == seed} for _, seed in pairs}
    whole = [own for own in by_seed.values() if len(own) == len(lengths)]
    return tuple(sorted(set().union(*whole) or pairs))


def _groups(task: str, label: str, runs: Sequence[Run], chosen: float | None) -> list[Group]:
    groups = []
    by_context: dict[int, list[Run]] = {}
    for run in runs:
        by_context.setdefault(run.context, []).append(run)
    for context, mine in sorted(by_context.items()):
        counts = Counter(run.rate for run in mine)
        most = min(counts, key=lambda rate: (-counts[rate], rate or 0.0))
        rate = chosen if chosen in counts else most
        by_seed = {run.seed: run for run in mine if run.rate == rate}
        groups.append(Group(task, label, mine[0].mixer, context, rate, by_seed))
    return groups


def _baselines(groups: Sequence[Group]) -> dict[int, str]:
    ranked: dict[int, list[tuple[float, int, str]]] = {}
    for group in groups:
        if group.mixer == BASELINE:
            mean = sum(map(dev_loss, group.runs.values())) / len(group.runs)
            # A variant with a diverged run, or without any dev loss, comes last.
            rank = (mean if math.isfinite(mean) else math.inf, len(group.label), group.label)
            ranked.setdefault(group.context, []).append(rank)
    return {context: min(ranks)[-1] for context, ranks in ranked.items()}
