"""Specs: what a user asks for, validated once, frozen, and the same after a JSON round trip.

Unknown keys are errors, and a message names the value received and the fix.
"""

from typing import Any, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

_T = TypeVar("_T")
ArticleModelName: TypeAlias = Literal["attention", "compressed"]

PUBLISHED_CONTEXTS = (64, 256, 1028)
PUBLISHED_SEED = 7
PUBLISHED_STEPS = 80
ARTICLE_MODELS: tuple[ArticleModelName, ...] = ("attention", "compressed")
SHORTEST_ARTICLE_CONTEXT = 16
LONGEST_ARTICLE_CONTEXT = 2**17


class UsageError(ValueError):
    """What a user asked for cannot be: one line that names the value and the fix."""


class Spec(BaseModel):
    """The base of every spec: frozen, keyword-only, strict about keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls, **values: Any) -> Self:
        """A spec from these values.

        Raises:
            UsageError: a value is wrong.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise UsageError(_one_line(error)) from None


class TrainingSpec(Spec):
    """AdamW at a constant learning rate, the gradient's norm clipped."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_gradient_norm: float


class ArticleCell(Spec):
    """One model of the article trained once: the unit that runs, records and resumes."""

    context: int
    model: ArticleModelName
    seed: int = PUBLISHED_SEED
    steps: int = PUBLISHED_STEPS
    serial: bool = False

    @property
    def label(self) -> str:
        """A readable name, unique to the cell: it names the cell's record on disk."""
        serial = "-serial" if self.serial else ""
        return f"ctx{self.context}-{self.model}-seed{self.seed}-steps{self.steps}{serial}"


class ArticleSpec(Spec):
    """The grid of cells that one `rulekeep article` runs."""

    contexts: tuple[int, ...] = PUBLISHED_CONTEXTS
    models: tuple[str, ...] = ARTICLE_MODELS
    seeds: tuple[int, ...] = (PUBLISHED_SEED,)
    steps: int = PUBLISHED_STEPS
    serial: bool = False

    @field_validator("contexts")
    @classmethod
    def _contexts_are_long_enough(cls, contexts: tuple[int, ...]) -> tuple[int, ...]:
        for context in contexts:
            if context < SHORTEST_ARTICLE_CONTEXT:
                raise ValueError(
                    f"context {context}: must be {SHORTEST_ARTICLE_CONTEXT} or more "
                    "(9 tokens of prefix and 7 of target)"
                )
            if context > LONGEST_ARTICLE_CONTEXT:
                raise ValueError(f"context {context}: must be {LONGEST_ARTICLE_CONTEXT} or less")
        return _each_once("context", contexts)

    @field_validator("models")
    @classmethod
    def _models_are_known(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for model in models:
            if model not in ARTICLE_MODELS:
                raise ValueError(f"model {model!r}: choose from {', '.join(ARTICLE_MODELS)}")
        return _each_once("model", models)

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        for seed in seeds:
            if not 0 <= seed < 2**63:
                raise ValueError(f"seed {seed}: must be from 0 to 2**63 - 1")
        return _each_once("seed", seeds)

    @field_validator("steps")
    @classmethod
    def _steps_are_positive(cls, steps: int) -> int:
        if steps < 1:
            raise ValueError(f"steps {steps}: must be 1 or more")
        return steps

    def cells(self) -> list[ArticleCell]:
        """Every cell, in the order of the tables: seed, then context, then model."""
        return [
            ArticleCell.model_validate(
                {
                    "context": context,
                    "model": model,
                    "seed": seed,
                    "steps": self.steps,
                    # Attention has one form only, so `--serial` leaves its cells as they are.
                    "serial": self.serial and model == "compressed",
                }
            )
            for seed in self.seeds
            for context in self.contexts
            for model in self.models
        ]


def _each_once(what: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise ValueError(f"no {what} given: name at least one")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value} given {values.count(value)} times: name each once")
    return values


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    place = ".".join(str(part) for part in first["loc"])
    return f"{place} {first['input']!r}: {message[0].lower()}{message[1:]}"
