"""The form of a drawn sample: aligned tables, and tokens of the vocabulary.

A task of a user may draw anything: `rulekeep check-task` and the screen of a run look here.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from rulekeep.tasks import Role, Sample, SampledTask

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


def form_of(sample: Sample, words: int, n: int, context: int) -> Iterator[tuple[str, str | None]]:
    """The properties of the form of `n` examples, each with what is wrong; None if nothing is.

    Where tables do not fit, the rest is not looked at.
    """
    wrong = _misfits(sample, n, context)
    yield "tables are aligned", ", ".join(wrong) or None
    if not wrong:
        yield "tokens are of the vocabulary", _odd_tokens(sample, words)
        yield "roles are roles, an answer's in the answer alone", _odd_roles(sample)
        first, place = sample.first_mention, sample.answer_start + np.arange(sample.chance.shape[1])
        known = (sample.source >= 0) & (sample.source < place)
        chance = (sample.chance > 0) & (sample.chance <= 1)
        for what, odd, table in (
            ("first uses are supervised", first & ~sample.supervised, sample.supervised),
            ("first uses are uses of rules", first & ~sample.rule, sample.rule),
            ("chance is above 0 and at most 1", sample.supervised & ~chance, sample.chance),
            ("first uses have a source before them", first & ~known, sample.source),
            ("no answer is a rule's and an item at once", sample.rule & sample.item, sample.rule),
        ):
            said = None
            if count := np.count_nonzero(odd):
                said = f"{count:,} of {odd.size:,} are {table[odd][0]} or the like"
            yield what, said
        yield "rules and their decoys are of rule_words", _odd_rule_words(sample, first & known)
        yield "there are first uses", None if first.any() else "there are none"


def _misfits(sample: Sample, n: int, context: int) -> list[str]:
    """Which tables have a wrong shape, or values of a wrong kind.

    Tables of answers reach from the start of the answer to the end. That is more than the
    `answer_length` of the task if answers stand among other words, as in `recall`'s layout
    `zoology`.
    """
    start, misfits = sample.answer_start, list[str]()
    if not 1 <= start < context:
        return [f"answer_start: {start}, must be from 1 to {context - 1}"]
    for name in sample.tables:
        table = np.asarray(getattr(sample, name))
        shape = [n, context if name in _OF_CONTEXT else context - start]
        kind, allowed = _KINDS.get(name, ("whole numbers", np.integer))
        if list(table.shape) != shape:
            misfits.append(f"{name}: {list(table.shape)}, must be {shape}")
        elif not np.issubdtype(table.dtype, allowed):
            misfits.append(f"{name}: {table.dtype}, must be {kind}")
    return misfits


def _odd_tokens(sample: Sample, words: int) -> str | None:
    for name, table in (("tokens", sample.tokens), ("labels", sample.answers)):
        low, high = int(table.min()), int(table.max())
        if low < 0 or high >= words:
            return f"{name}: {low} to {high}, the vocabulary has 0 to {words - 1}"
    return None


def _odd_roles(sample: Sample) -> str | None:
    unknown = np.setdiff1d(sample.roles, [*Role])
    if unknown.size:
        return f"roles: {unknown[0]} is none, they are 0 to {max(Role)}"
    if (sample.roles[:, : sample.answer_start] == Role.ANSWER).any():
        return "roles: some before answer_start are an answer's; give them Role.PLAIN"
    of_answer = sample.roles[:, sample.answer_start :]
    if sample.labels is None and (sample.supervised & (of_answer != Role.ANSWER)).any():
        return "roles: some that are supervised are no answer's; give them Role.ANSWER"
    return None


def _odd_rule_words(sample: Sample, used: Bool[np.ndarray, "n answer"]) -> str | None:
    if sample.rule_words is None:
        return None
    row, place = np.nonzero(used)
    decoys = sample.tokens[sample.roles == Role.DECOY_RULE]
    rules = sample.tokens[row, sample.source[row, place]]
    missing = np.setdiff1d(np.concatenate([decoys, rules]), sample.rule_words.tokens)
    return f"rule_words: token {missing[0]} is a rule's, and not of them" if missing.size else None


def said_of_sample(task: SampledTask, sample: Sample, n: int, context: int) -> str | None:
    """What is wrong with the form of `n` examples; None if nothing is."""
    every = form_of(sample, len(task.vocabulary), n, context)
    return next((f"{what}: {said}" for what, said in every if said), None)
