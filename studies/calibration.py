"""Calibration of rules in words: which fit is nearest the truth, and does the interval hold it?

    python studies/calibration.py                 # makes up prompts, about ten minutes; into a file
    rulekeep study calibration build|check

Prompts are made up with a known truth: an option scores by itself, a prompt adds to all options,
and a stated option gains by its own gain and the prompt's ease. All scores have noise. Three fits
of what an option scores by itself:

    rivals          its mean over prompts that state another option
    and stated      a[prompt] + b[option] + d where it is stated, by least squares over all scores
    prompt, option  a[prompt] + b[option] over all but stated options: what `rulekeep.language` has

Fills docs/methods.md.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rulekeep.analysis.rows import Rows
from rulekeep.language.calibration import Judged, keys_of
from rulekeep.language.chat import unstated_for
from rulekeep.language.intervals import interval, resampled
from rulekeep.printable import markdown_table
from rulekeep.records.record import Choice
from rulekeep.records.store import write_text
from rulekeep.study import Claim, Study

MEASURED = Path(__file__).parent.parent / "results" / "language-coverage" / "coverage.json"
REPEATS, RULES = 200, 4
# Prompts, families, options of each.
CELLS = [(n, f, k) for k in (2, 4) for f in (6, 28) for n in (20, 60, 200)]
NOISE, EASE = 0.7, 0.5


class Truth(NamedTuple):
    """What each option of each family scores by itself, and gains where it is stated."""

    base: np.ndarray
    gains: np.ndarray

    @classmethod
    def drawn(cls, draw: np.random.Generator, families: int, options: int) -> "Truth":
        """Options differ in both, by themselves."""
        shape = (families, options)
        return cls(draw.normal(0, 1.5, shape), np.maximum(0, draw.normal(0.8, 0.8, shape)))

    def retention(self, draw: np.random.Generator) -> float:
        """The share of rules followed where what options score by themselves is known."""
        family = draw.integers(len(self.base), size=40_000)
        option = draw.integers(self.base.shape[1], size=family.size)
        gains = self.gains[family, option] + draw.normal(0, EASE, family.size)
        scores = draw.normal(0, NOISE, (family.size, self.base.shape[1]))
        scores[np.arange(family.size), option] += np.maximum(0, gains)
        return float((scores.argmax(1) == option).mean())


def made(draw: np.random.Generator, truth: Truth, prompts: int, unstated: int) -> list[Choice]:
    """What families score in prompts: of those that are stated, and of some that are not."""
    (families, options), rows = truth.base.shape, []
    for prompt in range(prompts):
        ease = draw.normal(0, EASE)
        for rank, family in enumerate(draw.permutation(families)[: RULES + unstated]):
            option = int(draw.integers(options)) if rank < RULES else None
            scores = draw.normal(0, 2) + truth.base[family] + draw.normal(0, NOISE, options)
            if option is not None:
                scores[option] += max(0.0, truth.gains[family, option] + ease)
            rows.append(Choice("none", "test", prompt, f"f{family}", rank, option, tuple(scores)))
    return rows


def by_rivals(options: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The mean of each option over prompts that state another."""
    rivals = [(options >= 0) & (options != at) for at in range(scores.shape[1])]
    return np.array([scores[of, at].mean() if of.any() else np.nan for at, of in enumerate(rivals)])


def and_stated(options: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Prompt, option and stated, by least squares."""
    stated = (options[:, None] == np.arange(scores.shape[1])).astype(float)
    z, y = stated - stated.mean(1, keepdims=True), scores - scores.mean(1, keepdims=True)
    around = z - z.mean(0)
    spread = (around**2).sum()
    gain = (around * (y - y.mean(0))).sum() / spread if spread > 1e-9 else 0.0
    return np.asarray(y.mean(0) - gain * z.mean(0))


FITS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "rivals": by_rivals,
    "and stated": and_stated,
}


def by_fit(rows: Sequence[Choice], fit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Retention by a fit of the other prompts of each rule."""
    families: dict[str, list[Choice]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    right = []
    for of in families.values():
        options = np.array([-1 if row.option is None else row.option for row in of])
        scores = np.array([row.scores for row in of])
        for at in np.flatnonzero(options >= 0):
            others = np.arange(len(of)) != at
            if others.any():
                fitted = fit(options[others], scores[others])
                if not np.isnan(fitted).any():
                    right.append((scores[at] - fitted).argmax() == options[at])
    return float(np.mean(right))


class Held(NamedTuple):
    """Of one cell: errors of each fit, and whether the interval holds the truth, by repeat."""

    errors: Mapping[str, list[float]]
    inside: list[bool]


def held(prompts: int, families: int, options: int, repeats: int, seed: int = 1) -> Held:
    """Makes up so many cells, each with families of its own."""
    draw = np.random.default_rng([seed, prompts, families, options])
    errors: dict[str, list[float]] = {name: [] for name in ("prompt, option", *FITS)}
    inside = []
    for _ in range(repeats):
        truth = Truth.drawn(draw, families, options)
        rows, real = (
            made(draw, truth, prompts, unstated_for(families, prompts)),
            truth.retention(draw),
        )
        keys = keys_of(rows)
        own, weights = Judged(rows, keys), resampled(len(keys))
        shares = own.by_prompt(own.right(weights)[0])
        kept = interval(shares, weights[:, own.prompts])
        inside.append(kept.low <= real <= kept.high)
        errors["prompt, option"].append(kept.mean - real)
        for name, fit in FITS.items():
            errors[name].append(by_fit(rows, fit) - real)
    return Held(errors, inside)


def measure(repeats: int = REPEATS) -> None:
    """Every cell, into the file."""
    rows = []
    for prompts, families, options in CELLS:
        found = held(prompts, families, options, repeats)
        rows.append({
            "prompts": prompts, "families": families, "options": options,
            "covered": float(np.mean(found.inside)),
            "bias": {name: round(float(np.mean(of)), 4) for name, of in found.errors.items()},
            "error": {
                name: round(float(np.sqrt(np.mean(np.square(of)))), 4)
                for name, of in found.errors.items()
            },
        })  # fmt: skip
    values = {"command": "python studies/calibration.py", "repeats": repeats, "rows": rows}
    MEASURED.parent.mkdir(exist_ok=True)
    write_text(MEASURED, json.dumps(values, indent=1) + "\n")


@cache
def measured() -> list[dict[str, Any]]:
    """The rows of the file."""
    rows: list[dict[str, Any]] = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    return rows


NAMES = ("rivals", "and stated", "prompt, option")


def by_cell(rows: Rows) -> str:
    """How often the interval holds the truth, and the error of each fit."""
    del rows
    body = [
        [
            str(row["options"]), str(row["families"]), str(row["prompts"]),
            f"{row['covered']:.0%}",
            *(f"{row['error'][name]:.3f} ({row['bias'][name]:+.3f})" for name in NAMES),
        ]
        for row in measured()
    ]  # fmt: skip
    return markdown_table(["options", "families", "prompts", "covered", *NAMES], body)


STUDY = Study(
    question="Which fit of what options score by themselves is nearest the truth?",
    variants={},
    settings=[],
    context=0,
    tables={"cells": by_cell},
    claims={
        "least": Claim(
            lambda _: f"{min(row['covered'] for row in measured()):.0%}".replace("%", " %"),
            holds=lambda _: min(row["covered"] for row in measured()) >= 0.9,
        ),
        "error": Claim(
            lambda _: max(row["error"]["prompt, option"] for row in measured()), 3,
            holds=lambda _: all(
                row["error"]["prompt, option"] < row["error"]["rivals"] + 0.001
                for row in measured()
            ),
        ),
    },
)  # fmt: skip

if __name__ == "__main__":
    measure()
