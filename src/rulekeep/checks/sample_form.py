"""The form of a drawn sample: aligned tables, and tokens of the vocabulary.

A task of a user may draw anything. An error is reported here once, in one line, before other code
fails on it.
"""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from rulekeep.plugins import failure_line
from rulekeep.specs import UsageError
from rulekeep.tasks import Article, Role, Sample, SampledTask, Split

AnyTask: TypeAlias = SampledTask | Article


class SampleError(UsageError):
    """A task draws something that is no sample, or its code fails."""


_OF_CONTEXT = ("tokens", "roles")
_MASKS = ("supervised", "rule", "first_mention", "item", "prohibition")
# The others hold whole numbers.
_KINDS: dict[str, tuple[str, type[np.generic]]] = {
    # As torch's losses take them.
    "tokens": ("int64", np.int64),
    "labels": ("int64", np.int64),
    "chance": ("numbers", np.floating),
    **dict.fromkeys(_MASKS, ("bool", np.bool_)),
}


def said_of_tables(sample: Sample, n: int, context: int) -> list[str]:
    """Which tables have a wrong shape, or values of a wrong kind.

    Tables of answers reach from the start of the answer to the end. That is more than the
    `answer_length` of the task if answers stand among other words, as in `recall`'s layout
    `zoology`.
    """
    start, found = sample.answer_start, list[str]()
    if not 1 <= start < context:
        return [f"answer_start: {start}, must be from 1 to {context - 1}"]
    for name in sample.tables:
        table = np.asarray(getattr(sample, name))
        shape = [n, context if name in _OF_CONTEXT else context - start]
        kind, allowed = _KINDS.get(name, ("whole numbers", np.integer))
        if list(table.shape) != shape:
            found.append(f"{name}: {list(table.shape)}, must be {shape}")
        elif not np.issubdtype(table.dtype, allowed):
            found.append(f"{name}: {table.dtype}, must be {kind}")
    return found


def said_of_tokens(sample: Sample, words: int) -> str | None:
    """The message for tokens or labels outside the vocabulary, with the least and the largest."""
    for name, table in (("tokens", sample.tokens), ("labels", sample.answers)):
        low, high = int(table.min()), int(table.max())
        if low < 0 or high >= words:
            return f"{name}: {low} to {high}, the vocabulary has 0 to {words - 1}"
    return None


def said_of_roles(sample: Sample) -> str | None:
    """The message for unknown roles, or for an answer before the answer starts."""
    unknown = np.setdiff1d(sample.roles, [*Role])
    if unknown.size:
        return f"roles: {unknown[0]} is none, they are 0 to {max(Role)}"
    if (sample.roles[:, : sample.answer_start] == Role.ANSWER).any():
        return "roles: some before answer_start are an answer's; give them Role.PLAIN"
    return None


def said_of_rule_words(sample: Sample) -> str | None:
    """The message for rules or decoys that are not among the task's `rule_words`."""
    if sample.rule_words is None:
        return None
    row, place = np.nonzero(sample.first_mention)
    source = sample.source[row, place]
    known = (source >= 0) & (source < sample.tokens.shape[1])
    used = [
        sample.tokens[sample.roles == Role.DECOY_RULE],
        sample.tokens[row[known], source[known]],
    ]
    missing = np.setdiff1d(np.concatenate(used), sample.rule_words.tokens)
    return f"rule_words: token {missing[0]} is a rule's, and not of them" if missing.size else None


def said_of_first_uses(sample: Sample) -> str | None:
    """The message for impossible first uses, sources or chances."""
    off = ~((sample.chance > 0) & (sample.chance <= 1)) & sample.supervised
    if off.any():
        return f"chance: {sample.chance[off][0]}, must be above 0 and at most 1"
    first = sample.first_mention
    for name in ("supervised", "rule"):
        if (first & ~getattr(sample, name)).any():
            return f"first_mention: holds where {name} does not"
    place = sample.answer_start + np.arange(first.shape[1])
    unknown = first & ~((sample.source >= 0) & (sample.source < place))
    if unknown.any():
        return f"source: {sample.source[unknown][0]} for a first use, must be a place before it"
    return None


def said_of_sample(task: AnyTask, sample: Sample, n: int, context: int) -> str | None:
    """What is wrong with the form of `n` examples; None if nothing is."""
    if found := said_of_tables(sample, n, context):
        return ", ".join(found)
    said = said_of_tokens(sample, len(task.vocabulary)) or said_of_roles(sample)
    return said or said_of_first_uses(sample) or said_of_rule_words(sample)


def whole_samples(
    named: str, task: AnyTask, split: Split, context: int, n: int, *, seed: int, step: int
) -> Iterator[Sample]:
    """Examples 0 to `n` - 1, `step` at a time; raises as `whole_sample`, and for `n` below 1."""
    for start in range(0, max(1, n), step):
        count = min(step, n - start)
        yield whole_sample(named, task, split, context, count, seed=seed, start=start)


def whole_sample(
    named: str, task: AnyTask, split: Split, context: int, n: int, *, seed: int, start: int
) -> Sample:
    """The sample of `task.sample`, after a check of its form; messages call the task `named`.

    Raises:
        UsageError: a value is out of its range.
        SampleError: the code of the task fails, or draws something that is no sample.
    """
    try:
        sample = task.sample(split, context, n, seed=seed, start=start)
        said = said_of_sample(task, sample, n, context)
    except UsageError:
        raise
    except Exception as error:
        said = failure_line(error)
    if said is not None:
        raise SampleError(f"{named}: {said}")
    return sample
