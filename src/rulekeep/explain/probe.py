"""A linear probe: which word each rule has, from the state alone.

    Z  = (X − mean) / deviation                            standardised states, [n, floats]
    W  = argmin |Z W − Y|² + penalty · floats · |W|²       Y: one column per rule and word, 0 or 1
    rule j has the word w whose column of z W is the highest, of those of rule j

This is a ridge classifier in closed form, through the products of all states with each other: n is
smaller than the state. The penalty is chosen on the last fifth of the training examples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.kernel_ridge import KernelRidge

# Of the mean square of a standardised state.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
_HELD_OUT = 5
# What varies less, beside the part that varies most, is lost in the rounding of float32.
_FAINT = 1e-6


def probe(
    states: Float[np.ndarray, "n floats"],
    words: Int[np.ndarray, "n rules"],
    scored: Float[np.ndarray, "scored floats"],
) -> tuple[Int[np.ndarray, "scored rules"], float]:
    """Learn the words of rules from states, and guess those of the scored states.

    The guesses, and the chosen penalty. Words are numbers from 0 up; -1 if an example has no such
    rule.
    """
    z, others = _standardised(states, scored)
    own, cross = _products(z, z), _products(others, z)
    classes = [np.unique(column[column >= 0]) for column in words.T]
    targets = np.concatenate(
        [column[:, None] == known for column, known in zip(words.T, classes, strict=True)], axis=1
    ).astype(np.float64)
    fit = len(words) - len(words) // _HELD_OUT

    def right(penalty: float) -> float:
        scores = _fitted(own[:fit, :fit], targets[:fit], own[fit:, :fit], penalty)
        return float((_best(scores, classes) == words[fit:])[words[fit:] >= 0].mean())

    # Of penalties that do as well, the strongest.
    penalty = max(reversed(PENALTIES), key=right)
    return _best(_fitted(own, targets, cross, penalty), classes), penalty


def _standardised(states: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays by mean and deviation of the first, without constant or non-finite columns."""
    with np.errstate(all="ignore"):
        mean = states.mean(axis=0, dtype=np.float64)
        deviation = states.std(axis=0, dtype=np.float64)
        finite = np.isfinite(deviation) & np.isfinite(scored).all(axis=0)
    largest = deviation[finite].max(initial=0.0)
    kept = finite & (deviation > _FAINT * largest)
    shift, scale = (row[kept].astype(np.float32) for row in (mean, deviation))
    return (states[:, kept] - shift) / scale, (scored[:, kept] - shift) / scale


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    products: np.ndarray = (a @ b.T).astype(np.float64) / max(1, a.shape[1])
    return products


def _fitted(own: np.ndarray, targets: np.ndarray, cross: np.ndarray, penalty: float) -> np.ndarray:
    mean = targets.mean(axis=0)
    ridge: Any = KernelRidge(alpha=penalty, kernel="precomputed")
    scores: np.ndarray = ridge.fit(own, targets - mean).predict(cross) + mean
    return scores


def _best(scores: np.ndarray, classes: Sequence[np.ndarray]) -> np.ndarray:
    found, start = [], 0
    for known in classes:
        own = scores[:, start : start + len(known)]
        start += len(known)
        # A rule that no training example has is guessed as none.
        found.append(known[own.argmax(axis=1)] if len(known) else np.full(len(scores), -1))
    return np.stack(found, axis=1)
