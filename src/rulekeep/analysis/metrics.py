"""Metrics as pure functions of predicted tokens: no model, no torch.

`score_samples` takes `Sample`s in chunks, so that long contexts need not be held at once:

    >>> sample = task.sample("test", 256, 100)
    >>> score_samples([(sample, predictions, generated)])["retention"]

Predictions are teacher-forced: position i of the answer is predicted from the true tokens
before it. Generated answers are the model's own, each token from its own tokens before.

A score s with chance level c is corrected to (s - c) / (1 - c): 0 is chance, 1 is perfect.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from rulekeep.analysis.summary import chance_corrected
from rulekeep.records.figures import SCORES
from rulekeep.tasks.base import AnswerMask, AnswerTable, Role
from rulekeep.tasks.sampled import RuleWords, Sample


@dataclass
class _Tally:
    """The number of right answers, of all answers, and of answers at each chance level.

    Levels are counted, not summed. So the mean has the same bits however examples are chunked.
    """

    n: int = 0
    right: int = 0
    levels: Counter[float] = field(default_factory=Counter)

    def add(self, right: np.ndarray, chance: np.ndarray) -> None:
        self.n += right.size
        self.right += int(right.sum())
        values, counts = np.unique(chance, return_counts=True)
        self.levels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    @property
    def share(self) -> float | None:
        return self.right / self.n if self.n else None

    @property
    def chance(self) -> float | None:
        levels = (value * count for value, count in self.levels.items())
        return math.fsum(levels) / self.n if self.n else None

    @property
    def entry(self) -> dict[str, Any]:
        return {"n": self.n, "retention": self.share, "chance": self.chance}


# A name, and where a score has parts the part: a step, a position or a kind.
_Tallies = defaultdict[tuple[str, int | str], _Tally]


def _ids(sample: Sample, said: AnswerTable) -> AnswerTable:
    """Answers as an array.

    Raises:
        ValueError: their shape is not that of the answers, or they are no token ids.
    """
    # A plain one: an array of a class of its own may be equal to anything.
    found = np.asarray(said)
    if found.shape != sample.answers.shape:
        raise ValueError(f"answers {found.shape}: must be {sample.answers.shape}")
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"answers of {found.dtype}: must be token ids, whole numbers")
    return found


def score_samples(
    parts: Iterable[tuple[Sample, AnswerTable, AnswerTable | None]],
) -> dict[str, Any]:
    """Scores of predicted and generated answers by name, as records keep them.

    Each part is a chunk of examples, its teacher-forced predictions and its generated answers, both
    `[n, answer]` token ids. The chunking changes no figure. Scores are from 0 to 1, over supervised
    positions only; None if nothing counts. `n` is the number of examples.

    `retention` is over first mentions of rules, which cannot be copied from the answer. `joint` is
    over examples with a first mention. `exact` is None if none were generated;
    `exact_teacher_forced` is the same for predictions.

    Of the wrong answers at first mentions, `intrusion_rate` is the fraction that name a decoy from
    before. `intrusion_chance` is the mean fraction of wrong rules, possible there, that stand as
    decoys.

    `retention_by_step` is by step of the output. `retention_by_position` is by the rank of the
    instruction in the context, from 0. `retention_by_kind` is by `requirement`, `prohibition` and
    `default` (the first time that an attribute shows one), in tasks with prohibitions. Each entry
    has `n` answers, `retention` and `chance`.

    `chance` is the level of the best guess without the context (see `Sample`). For `exact` and
    `joint` it is the mean over examples of the product over positions. For `joint` this is exact.
    For `exact` it is exact if chance at a position does not depend on earlier answers. With several
    kinds of items it does, and the product errs by less than 0.003. The guesser knows whether a
    rule stands at a position, so chance is 1 for defaults, but not which kind of rule. `corrected`
    are scores corrected for chance.

    Raises:
        ValueError: a shape is not that of the answers, they are no token ids, or only some chunks
            were generated.
    """
    tallies: _Tallies = defaultdict(_Tally)
    n = generations = 0
    for sample, forced, own in parts:
        predictions = _ids(sample, forced)
        generated = None if own is None else _ids(sample, own)
        n += len(sample.tokens)
        generations += 0 if generated is None else len(generated)
        _count(tallies, sample, predictions, generated)
    if generations not in (0, n):
        raise ValueError(f"generated answers {generations}: must be 0 or all {n}")

    def of(name: str) -> _Tally:
        return tallies[name, ""]

    def by(name: str) -> list[tuple[Any, dict[str, Any]]]:
        found = ((part, tally) for (whole, part), tally in tallies.items() if whole == name)
        return sorted((part, tally.entry) for part, tally in found if tally.n)

    shares = {name: of(name).share for name in SCORES}
    chance = {name: of(name).chance for name in SCORES}
    # It is known where nothing was generated too.
    chance["exact"] = of("exact_teacher_forced").chance
    kinds = dict(by("kind"))
    return {
        **shares,
        "n": n,
        "exact_teacher_forced": of("exact_teacher_forced").share,
        "intrusion_rate": of("intrusion").share,
        "intrusion_chance": of("intrusion").chance,
        "retention_by_step": [{"step": step, **entry} for step, entry in by("step")],
        "retention_by_position": [{"position": rank, **entry} for rank, entry in by("position")],
        "retention_by_kind": kinds if "prohibition" in kinds else {},
        "chance": chance,
        "corrected": {
            name: None
            if share is None or (level := chance[name]) in (None, 1)
            else chance_corrected(share, level)
            for name, share in shares.items()
        },
    }


def _count(
    tallies: _Tallies, sample: Sample, predictions: AnswerTable, generated: AnswerTable | None
) -> None:
    """Adds one chunk to every tally."""
    right, chance = predictions == sample.answers, sample.chance
    supervised = sample.supervised
    first = sample.first_mention & supervised

    def add(name: str, right: AnswerMask, where: AnswerMask, part: int | str = "") -> None:
        tallies[name, part].add(right[where], chance[where])

    def add_whole(name: str, right: AnswerMask, where: AnswerMask) -> None:
        rows = where.any(axis=1)
        product = np.where(where, chance, 1.0).prod(axis=1)
        tallies[name, ""].add((right | ~where).all(axis=1)[rows], product[rows])

    for name, score in SCORES.items():
        said = generated if score.generated else predictions
        if said is not None and score.whole:
            add_whole(name, said == sample.answers, score.where(sample))
        elif said is not None:
            add(name, said == sample.answers, score.where(sample))
    add_whole("exact_teacher_forced", right, supervised)
    for step in np.unique(sample.step[first]).tolist():
        add("step", right, first & (sample.step == step), step)
    add("kind", right, first & sample.prohibition, "prohibition")
    add("kind", right, first & ~sample.prohibition, "requirement")
    add("kind", right, _first_defaults(sample), "default")

    mentions = _mentions(sample, predictions)
    rank = np.where(mentions.there, mentions.source, np.iinfo(np.int64).max)
    rank = rank.argsort(axis=1).argsort(axis=1)
    for position in range(rank.shape[1]):
        at = mentions.there & (rank == position)
        tallies["position", position].add(~mentions.wrong[at], mentions.chance[at])
    if sample.rule_words is not None:
        _count_intrusions(tallies["intrusion", ""], sample, sample.rule_words, mentions)


def _first_defaults(sample: Sample) -> AnswerMask:
    """Answers that are neither rule nor item, each token the first time in an answer."""
    row, column = np.nonzero(sample.supervised & ~sample.rule & ~sample.item)
    token = sample.answers[row, column]
    # In order of rows and columns, so the first index of a pair is its first use.
    first = np.unique(np.stack([row, token]), axis=1, return_index=True)[1]
    found = np.zeros_like(sample.rule)
    found[row[first], column[first]] = True
    return found


class _Mentions(NamedTuple):
    """First mentions of each example in order, `[n, most of one example]`, where `there`."""

    there: np.ndarray
    at: np.ndarray
    source: np.ndarray
    said: np.ndarray
    wrong: np.ndarray
    chance: np.ndarray


def _mentions(sample: Sample, predictions: AnswerTable) -> _Mentions:
    first = sample.first_mention & sample.supervised
    count = first.sum(axis=1, keepdims=True)
    # A stable sort puts first mentions in front and keeps their order.
    column = np.argsort(~first, axis=1, kind="stable")[:, : count.max(initial=0)]
    there = np.arange(column.shape[1]) < count
    said, answer, source, chance = (
        np.take_along_axis(table, column, axis=1)
        for table in (predictions, sample.answers, sample.source, sample.chance)
    )
    at = sample.answer_start + column
    return _Mentions(there, at, source, said, there & (said != answer), chance)


def _count_intrusions(tally: _Tally, sample: Sample, words: RuleWords, mentions: _Mentions) -> None:
    """Adds the wrong answers: whether each names a decoy, and the share of those that would."""
    n, size = len(sample.tokens), len(words.tokens)
    index = np.full(max(sample.tokens.max(), words.tokens.max()) + 1, -1)
    index[words.tokens] = np.arange(size)
    # Where each word first stands as a decoy, `[n, words]`: past the end if nowhere.
    decoy_at = np.full((n, size), sample.tokens.shape[1])
    row, at = np.nonzero(sample.roles == Role.DECOY_RULE)
    column = index[sample.tokens[row, at]]
    assert (column >= 0).all(), "a decoy rule is a rule word"
    np.minimum.at(decoy_at, (row, column), at)
    answers, times = np.unique(words.answers, return_counts=True)
    # An answer that several words demand names the one of the position's group.
    shared = np.isin(words.answers, answers[times > 1])
    used = np.zeros((n, size), dtype=bool)
    for turn in range(mentions.there.shape[1]):
        rows = np.flatnonzero(mentions.there[:, turn])
        word = index[sample.tokens[rows, mentions.source[rows, turn]]]
        assert (word >= 0).all(), "a first mention follows a rule word"
        used[rows, word] = True
        wrong = mentions.wrong[rows, turn]
        rows, word = rows[wrong], word[wrong]
        decoys = decoy_at[rows] < mentions.at[rows, turn, None]
        group = words.groups == words.groups[word, None]
        named = (words.answers == mentions.said[rows, turn, None]) & (group | ~shared)
        possible = group & ~used[rows]
        share = (possible & decoys).sum(axis=1) / np.maximum(possible.sum(axis=1), 1)
        tally.add((named & decoys).any(axis=1), share)
