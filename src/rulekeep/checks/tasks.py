"""Checks a task against the contract: each property, and by how much it differs.

    for row in check_task(MyTask, rules=2):
        print(row.passed, row.property, row.compared)

`rulekeep check-task my_task.py:MyTask` gives the same rows. The properties are:

- determinism: two equal calls, and pieces and the whole, are the same to the bit; seeds differ;
- split disjointness: no combination stands in two splits (see `_disjoint`);
- chance: on first uses, a reader of the answer so far is right as often as stated;
- masks: aligned with the answer, `supervised` includes every first use, sources come before;
- sources: they decide what the answer shows; none stands in the last 33 tokens, unless answers
  stand among other words;
- decoys: a word is as often a decoy in its own example as in others;
- the certificate: readers without memory stay at chance (`rulekeep.checks.certificate`).
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from rulekeep.checks.certificate import MOST_EXCESS, Certificate, certify, in_one_piece
from rulekeep.checks.rows import Row
from rulekeep.checks.sample_form import form_of
from rulekeep.registry import make
from rulekeep.specs import UsageError
from rulekeep.tasks import Role, Sample, SampledTask, Split
from rulekeep.tasks.sampled import CLEAR_TOKENS

DRAWN = 2000
_NOT_LOOKED_AT = "skipped: they are of a task for which all above holds"
# Readers that learn from few examples are off; by more of a stated chance than this, it is wrong.
_OFF = 0.25
# Standard errors: beyond them by luck in one of 15,000.
_FAR = 4
# Combinations that splits would share by luck, for none to tell that they are kept apart: none is
# then met in one of 50.
_MET = 4
# Few combinations, so that train would hold most of test's if the two were not kept apart.
_SMALL = {"rules": 2, "rule_words": 8, "items": 8}


def check_task(
    cls: type[SampledTask],
    *,
    context: int | None = None,
    examples: int = 8000,
    seed: int = 0,
    **options: Any,
) -> list[Row]:
    """The properties of a task with these options, at its shortest context by default.

    Raises:
        UsageError: an option or the context is impossible.
    """
    task = _made(cls, options)
    length = task.shortest_context if context is None else context
    sample = task.sample("test", length, DRAWN, seed=seed)
    form = form_of(sample, len(task.vocabulary), DRAWN, length)
    rows = [
        *_deterministic(task, length, seed, sample),
        *(Row(what, said is None, said or "all are") for what, said in form),
    ]
    if not all(row.passed for row in rows):
        # Where tables do not fit, the rest would only say so in other words.
        return [*rows, Row("sources, splits, chance, certificate", None, _NOT_LOOKED_AT)]
    made = certify(task, length, examples=examples, seed=seed)
    disjoint = _disjoint(cls, task, options, length, seed)
    return [*rows, *_sources(sample), disjoint, _chance(made), _certificate(made, length)]


def _made(cls: type[SampledTask], options: dict[str, Any]) -> SampledTask:
    return make(f"task {cls.__name__!r}", cls, cls.options_type.parse(**options))


def _deterministic(task: SampledTask, context: int, seed: int, sample: Sample) -> Iterator[Row]:
    n = len(sample.tokens)
    again = task.sample("test", context, n, seed=seed)
    yield _same("the same call gives the same examples", sample, again)
    third = n // 3
    parts = [
        task.sample("test", context, count, seed=seed, start=start)
        for start, count in ((0, third), (third, 1), (third + 1, n - third - 1))
    ]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in sample.tables
    }
    whole = sample._replace(**joined)
    yield _same("in pieces and at once are the same examples", sample, whole)
    for what, other in (
        ("another seed", task.sample("test", context, n, seed=seed + 1)),
        ("another split", task.sample("train", context, n, seed=seed)),
    ):
        same = _share_of_equal_rows(sample, other)
        yield Row(
            f"{what} gives other examples", same < 0.5, f"{same:.1%} of {n:,} rows are the same"
        )


def _same(what: str, one: Sample, other: Sample) -> Row:
    for name in (*one.tables, "answer_start"):
        left, right = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        if left.shape != right.shape:
            return Row(what, False, f"{name}: shape {left.shape} against {right.shape}")
        if differ := int(np.count_nonzero(left != right)):
            return Row(what, False, f"{name}: {differ:,} of {left.size:,} values differ")
    return Row(what, True, f"{len(one.tables)} tables of {len(one.tokens):,} examples, 0 differ")


def _share_of_equal_rows(one: Sample, other: Sample) -> float:
    if one.tokens.shape != other.tokens.shape:
        return 0.0
    return float((one.tokens == other.tokens).all(axis=1).mean())


def _none(what: str, wrong: np.ndarray, said: str) -> Row:
    return Row(what, not wrong.any(), f"{np.count_nonzero(wrong):,} of {wrong.size:,} {said}")


def _sources(sample: Sample) -> Iterator[Row]:
    row, place = np.nonzero(sample.first_mention)
    source = sample.source[row, place]
    roles = sample.roles[row, source]
    yield _none("a source is an instruction", ~np.isin(roles, (Role.RULE, Role.ITEM)), "are not")
    pairs = np.unique(
        np.stack([sample.tokens[row, source], sample.answers[row, place]], axis=1), axis=0
    )
    words = len(np.unique(pairs[:, 0]))
    yield Row(
        "what stands at the source decides the answer", len(pairs) == words,
        f"{words} instructions lead to {len(pairs)} answers",
    )  # fmt: skip
    if in_one_piece(sample):
        near = source >= sample.answer_start - CLEAR_TOKENS
        what = f"no source stands in the last {CLEAR_TOKENS} tokens before the answer"
        yield _none(what, near, "do")
    yield _apart(sample)


def _apart(sample: Sample) -> Row:
    """A rule word used as a decoy is as often a rule of its own example as of another.

    Compared as fractions of the decoys of an example: more rules leave less room for decoys.
    """
    what = "decoys say nothing of the rules"
    n, size = len(sample.tokens), int(sample.tokens.max()) + 1
    row, at = np.nonzero(sample.roles == Role.RULE)
    rules = row * size + sample.tokens[row, at]
    # Of the words of rules whatever has another role; where no list says which they are, what has
    # none: a request may name a rule, and an item be one of its words.
    if sample.rule_words is not None:
        is_decoy = np.isin(sample.tokens, sample.rule_words.tokens) & (sample.roles != Role.RULE)
    else:
        is_decoy = np.isin(sample.tokens, sample.tokens[row, at]) & (sample.roles == Role.PLAIN)
    is_decoy |= sample.roles == Role.DECOY_RULE
    is_decoy[:, sample.answer_start :] = False
    row, at = np.nonzero(is_decoy)
    if not len(row):
        return Row(what, None, "skipped: there are none")
    word = sample.tokens[row, at]
    own, other = (np.isin(of * size + word, rules).astype(float) for of in (row, (row + 1) % n))
    more = np.bincount(row, own - other, n) / np.maximum(1, np.bincount(row, minlength=n))
    return Row(
        what,
        abs(float(more.sum())) <= _FAR * float(np.sqrt((more**2).sum())),
        f"{own.mean():.4f} of {len(row):,} are a rule of their own example, "
        f"{other.mean():.4f} of another's",
    )


def _disjoint(
    cls: type[SampledTask], task: SampledTask, options: dict[str, Any], context: int, seed: int
) -> Row:
    """No combination stands in two splits, in a small variant of the task if it has one.

    A combination is the words of the instructions in order and the first item of the answer.
    Examples with revised rules, which have more instructions, are left out.
    """
    what = "no two splits share a combination"
    if task.combinations is None:
        return Row(what, True, "splits by seed alone, as the task says: nothing to compare")
    said = "as asked for"
    try:
        small = _made(cls, {**options, **_SMALL})
        if small.combinations is not None and small.combinations < task.combinations:
            task, said = small, " ".join(f"{name}={value}" for name, value in _SMALL.items())
            context = max(context, task.shortest_context)
    except UsageError:
        # A task whose options cannot be these is compared as it is.
        pass
    splits: tuple[Split, ...] = ("train", "validation", "test")
    found = {
        split: _combinations(task.sample(split, context, 4 * DRAWN, seed=seed)) for split in splits
    }
    shared = {
        f"{one} and {other}": len(found[one] & found[other])
        for one, other in itertools.combinations(splits, 2)
    }
    most, of = max(shared, key=lambda pair: shared[pair]), sum(map(len, found.values()))
    drawn = f"{of:,} drawn ({said}: {task.combinations:,} in all)"
    # That splits which are not kept apart would share, of combinations drawn at random.
    by_luck = len(found["train"]) * len(found["test"]) / (task.combinations or 1)
    if not shared[most] and by_luck < _MET:
        return Row(
            what, None,
            f"skipped: of {drawn} two splits would hardly share one by luck either; give options "
            "that make fewer",
        )  # fmt: skip
    return Row(what, not shared[most], f"{most} share {shared[most]:,} of {drawn}")


def _combinations(sample: Sample) -> set[bytes]:
    is_rule = sample.roles == Role.RULE
    count = is_rule.sum(axis=1)
    rows = np.flatnonzero(count == count.min())
    words = sample.tokens[rows][is_rule[rows]].reshape(len(rows), -1)
    item = np.zeros((len(rows), 1), dtype=words.dtype)
    has_item = sample.item[rows].any(axis=1)
    first = sample.item[rows].argmax(axis=1)
    item[has_item, 0] = sample.answers[rows, first][has_item]
    return {row.tobytes() for row in np.concatenate([words, item], axis=1)}


def _chance(made: Certificate) -> Row:
    """A reader of the answer so far alone is right as often as stated."""
    best = made.so_far
    # Twice the bound's distance: seldom more by luck, with examples as few as are asked for.
    room = max(min(MOST_EXCESS, _OFF * best.chance), 2 * (best.bound - best.excess))
    return Row(
        "chance is as often as the answer so far gives first uses away",
        abs(best.excess) <= room,
        f"{best.reader}: {best.retention:.4f} against {best.chance:.4f} stated (room {room:.4f})",
    )


def _certificate(made: Certificate, context: int) -> Row:
    worst = max((one for one in made.readings if one.local), key=lambda reading: reading.bound)
    few = ": too few, ask for more" if made.too_few else ""
    return Row(
        "readers without memory stay at chance",
        made.passed,
        f"{worst.reader} at {context:,}: {worst.excess:+.4f} above chance, "
        f"bound {worst.bound:.4f}, at most {MOST_EXCESS}; {made.examples:,} examples{few}",
    )
