"""The causality rule: teacher-forced answers equal the same answers read token by token.

    teacher-forced      p(a_i | text, a_1 … a_{i-1}), all places in one call
    token by token      the same, from a call that was not given a_i and later tokens

A causal model gives the same both ways, up to rounding. A model that sees later tokens does not: a
token that is not given cannot be seen. The model itself is asked nothing, and no place of an answer
is trusted: `AnswerCheck` compares the answers that are scored. For a mixer alone, `changes` and
`in_pieces` make the inputs to compare, before a run (`checks.mixers`) and in `rulekeep check`
(`checks.properties`).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rulekeep.mixers.base import MixerError, Vectors
from rulekeep.seeds import named_seed

# Of the answers of an evaluation this many may differ: scores that are all but equal, or a choice
# inside a mixer that rounding turns.
MOST_OTHER = 0.02
# bfloat16 has steps of 1/8 between logits of 16 and 32, and a kernel may add up a batch of another
# size in another order: both move a logit by some tenths, and so a probability, which moves by a
# quarter of that at most, by less than 0.1. Below the floor are words that a mask shuts out.
_MOVED, _MOVED_NATS, _FLOOR = 0.1, 0.5, 1e-6
# Answers with a mistake that are read once more, along the true tokens: a share of a batch.
_SHARE, _LEAST_ROWS = 8, 16
# Of the largest value; where all are smaller than this, of this.
LEAST_SCALE = 1e-3


class _Count(NamedTuple):
    """How many answers were compared, differed, and were right in only one of the two readings."""

    answers: int = 0
    others: int = 0
    better: int = 0
    worse: int = 0

    @property
    def failed(self) -> bool:
        allowed = max(min(1, self.answers - 1), MOST_OTHER * self.answers)
        # Rounding turns as many answers right as wrong: twice the standard deviation of that.
        by_chance = 2 * (self.better + self.worse) ** 0.5
        return self.others > allowed or self.better - self.worse > allowed + by_chance


class AnswerCheck:
    """Compares what an evaluation scores with the same answers read token by token.

    `exact` is for models that compute in float32: there, another word is another answer. Elsewhere
    rounding may change a word. Then probabilities count, and whether teacher forcing gets more
    right.
    """

    def __init__(self, *names: object, exact: bool) -> None:
        """`names` name the random stream from which rows are drawn."""
        self._exact = exact
        self._stream = np.random.default_rng(named_seed("causality", *names))
        # Compared up to the first mistake; compared at every place.
        self._counts = {"part": _Count(), "whole": _Count()}

    def rows(self, unread: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " rows"]:
        """Which answers of a batch to read again, among those that were not read to the end."""
        most = max(_LEAST_ROWS, len(unread) // _SHARE)
        every = np.flatnonzero(unread)
        return every if len(every) <= most else np.sort(self._stream.permutation(every)[:most])

    def rows_of_labelled(self, n: int) -> int:
        """How many of `n` texts to read again where no answer is fed back: 16 in an evaluation.

        Elsewhere generation reads all of them token by token; here nothing has to be generated.
        """
        return min(n, max(0, _LEAST_ROWS - self._counts["whole"].answers))

    def add(
        self,
        told: Float[Tensor, "n answer vocabulary"],
        read: Float[Tensor, "n answer vocabulary"],
        answers: Int[Tensor, "n answer"],
        where: Bool[Tensor, "n answer"],
        *,
        whole: bool,
    ) -> None:
        """Add logits of both readings, and where both saw the same tokens.

        `whole` says that the answers were read along the true tokens, to the end.
        """
        one, other = told.float(), read.float()
        words = one.argmax(-1), other.argmax(-1)
        off = moved(one, other, answers)
        if self._exact:
            off |= words[0] != words[1]
        right, alone = (word == answers for word in words)
        found = [
            int((places & where).any(1).sum()) for places in (off, right & ~alone, alone & ~right)
        ]
        key = "whole" if whole else "part"
        pairs = zip(self._counts[key], (len(told), *found), strict=True)
        self._counts[key] = _Count(*(a + b for a, b in pairs))

    def fault(self) -> str | None:
        """How many answers differ, if too many do; otherwise None."""
        for count in self._counts.values():
            if count.failed:
                differ = max(count.others, count.better)
                return (
                    f"{differ} of {count.answers} teacher-forced answers differ from the same "
                    "answers read token by token"
                )
        return None


def causality_error(said: str) -> MixerError:
    """The error for a mixer whose teacher-forced answers differ from those token by token."""
    return MixerError(
        f"Causality check failed {said}. The mixer is non-causal, inconsistent with its state, or "
        "random; run `rulekeep check`"
    )


def moved(
    one: Float[Tensor, "n answer vocabulary"],
    other: Float[Tensor, "n answer vocabulary"],
    answers: Int[Tensor, "n answer"],
) -> Bool[Tensor, "n answer"]:
    """Where probabilities of words differ, or the loss of the right word, beyond rounding.

    Probabilities are compared, not logits: a mask may be any large number.
    """
    before, after = one.softmax(-1), other.softmax(-1)
    most = (before - after).abs().amax(-1)
    true = [
        p.gather(-1, answers[..., None])[..., 0].clamp(min=_FLOOR).log() for p in (before, after)
    ]
    # What is not a number is within no bound.
    return ~((most <= _MOVED) & ((true[0] - true[1]).abs() <= _MOVED_NATS))


def changes(
    call: Callable[[Vectors], Vectors], x: Vectors, cuts: Sequence[int], other: Vectors
) -> Iterator[tuple[int, Vectors, Vectors]]:
    """Outputs of a text, and of the same text with tokens of another from each cut on."""
    before = call(x.clone())
    for cut in cuts:
        later = x.clone()
        # Larger than the text's own, so that what looks at the largest of all is seen.
        later[:, cut:] = 3 * other[:, cut:]
        yield cut, before, call(later)


def in_pieces(
    call: Callable[[Tensor, Any], tuple[Tensor, Any]], x: Vectors, split: Sequence[int],
    state: Any = None,
) -> tuple[Vectors, Any]:  # fmt: skip
    """A text in pieces of these lengths; each piece starts from the state of the previous one."""
    outputs = []
    for piece in x.split(list(split), dim=1):
        y, state = call(piece, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def largest_of(y: Tensor) -> float:
    """The largest absolute value among the finite ones; 0 if there is none."""
    finite = y[y.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def first_place(where: Bool[Tensor, "batch time"], otherwise: int) -> int:
    """The first place that any row has."""
    places = where.any(0).nonzero()
    return int(places[0]) if len(places) else otherwise


def finite_tokens(y: Vectors) -> int:
    """How many tokens stand before the first with an output that is not finite."""
    return first_place(~y.isfinite().all(2), y.shape[1])
