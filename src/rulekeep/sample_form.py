"""What a drawn sample must be before anything reads it: aligned tables, tokens of the vocabulary.

A task of a user's own may draw anything. What is wrong with it is said here once, in one line,
instead of by whatever trips over it first.
"""

import numpy as np

from rulekeep.tasks import Sample, SampledTask

# Of a sample, what has a row for each example.
TABLES = [name for name in Sample._fields if name not in ("answer_start", "rule_words")]
_OF_CONTEXT = ("tokens", "roles")
_MASKS = ("supervised", "rule", "first_mention", "item", "prohibition")
# The others hold whole numbers.
_KINDS: dict[str, tuple[str, type[np.generic]]] = {
    # As torch's losses take them.
    "tokens": ("int64", np.int64),
    "chance": ("numbers", np.floating),
    **dict.fromkeys(_MASKS, ("bool", np.bool_)),
}


def said_of_tables(sample: Sample, n: int, context: int) -> list[str]:
    """Which tables have another shape than theirs, or hold another kind of values.

    Those of answers reach from where the answer starts to the end. That is more than the task's
    `answer_length` where answers stand among other words, as in `recall` of the layout `zoology`.
    """
    start, found = sample.answer_start, list[str]()
    if not 1 <= start < context:
        return [f"answer_start: {start}, must be from 1 to {context - 1}"]
    for name in TABLES:
        table = np.asarray(getattr(sample, name))
        shape = [n, context if name in _OF_CONTEXT else context - start]
        kind, allowed = _KINDS.get(name, ("whole numbers", np.integer))
        if list(table.shape) != shape:
            found.append(f"{name}: {list(table.shape)}, must be {shape}")
        elif not np.issubdtype(table.dtype, allowed):
            found.append(f"{name}: {table.dtype}, must be {kind}")
    return found


def said_of_tokens(sample: Sample, words: int) -> str | None:
    """That tokens are not of the vocabulary, with the least and the largest."""
    low, high = int(sample.tokens.min()), int(sample.tokens.max())
    if low < 0 or high >= words:
        return f"tokens: {low} to {high}, the vocabulary has 0 to {words - 1}"
    return None


def said_of_sample(task: SampledTask, sample: Sample, n: int, context: int) -> str | None:
    """What is wrong with the form of `n` examples; None where nothing is."""
    found = said_of_tables(sample, n, context)
    return ", ".join(found) or said_of_tokens(sample, len(task.vocabulary))
