"""Specs: what a user asks for, validated once, frozen, and the same after a JSON round trip.

Unknown keys are errors, and a message names the value received and the fix.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

_T = TypeVar("_T")
ArticleModelName: TypeAlias = Literal["attention", "compressed"]

PUBLISHED_CONTEXTS = (64, 256, 1028)
PUBLISHED_SEED = 7
PUBLISHED_STEPS = 80
PUBLISHED_BATCH_SIZE = 64
PUBLISHED_WIDTH = 64
PUBLISHED_HIDDEN = 256
PUBLISHED_LAYERS = 2
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
            raise UsageError(_one_line(error, cls)) from None

    @classmethod
    def parse_json(cls, values: Mapping[str, Any]) -> Self:
        """A spec from values as JSON or TOML has them: a list stands for a tuple.

        Raises:
            UsageError: a value is wrong.
        """
        try:
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise UsageError(_one_line(error, cls)) from None
        except (TypeError, ValueError) as error:
            raise UsageError(f"not a value that a spec can hold: {error}") from None

    @property
    def as_recorded(self) -> dict[str, Any]:
        """What a record says of it."""
        return self.model_dump(mode="json")


class TrainingSpec(Spec):
    """AdamW, the gradient's norm clipped; the rate warms up linearly and falls by a cosine.

    `final_share` is what the last step has of `learning_rate`: 1 keeps it constant.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_gradient_norm: float
    warmup_steps: int = 0
    final_share: float = 1.0


Option: TypeAlias = bool | int | float | str | None
Positions: TypeAlias = Literal["none", "learned", "earliness"]
HYBRID = "+"


class RunSpec(Spec):
    """One run: a mixer trained on a task from one seed, then tested at several contexts."""

    kind: ClassVar[str] = "run"
    # What makes the run, by name: only the process that does loads torch.
    runner: ClassVar[str] = "rulekeep.run:run"

    task: str = Field(
        default="recite", description="A task of the catalogue, file.py:Class or module:Class."
    )
    task_options: dict[str, Option] = Field(
        default={}, description="The task's own options, as in --task-options.rules 8."
    )
    mixer: str = Field(
        default="attention",
        description="A mixer of the catalogue, file.py:Class or module:Class; a+b for a hybrid.",
    )
    mixer_options: dict[str, Option] = Field(
        default={},
        description="The mixer's own, as in --mixer-options.heads 8, or a.heads in a hybrid.",
    )
    width: int = Field(default=64, ge=1, le=2**14, description="Channels of the residual stream.")
    layers: int = Field(
        default=2, ge=1, le=256, description="Blocks of a mixer and a feed-forward layer."
    )
    hidden: int | None = Field(
        default=None,
        ge=1,
        le=2**17,
        description="Channels inside the feed-forward layer, 4 x width if left out.",
    )
    added_positions: Positions = Field(
        default="none", description="Added to the embeddings: none, learned, earliness."
    )
    context: int = Field(
        default=128, ge=1, le=2**24, description="Longest training length in tokens."
    )
    mixed_lengths: bool = Field(
        default=True,
        description="Train at lengths up to the context, log-uniform; or at the context only.",
    )
    length_growth: float = Field(
        default=0.0, ge=0, le=1, description="Share of the steps in which the longest length grows."
    )
    test_contexts: tuple[int, ...] = Field(
        default=(),
        description="Lengths to test at, between commas; the training length if left out.",
    )
    seed: int = Field(
        default=1, ge=0, lt=2**63, description="Data, lengths and initialisation are drawn from it."
    )
    steps: int = Field(default=600, ge=1, le=10**9, description="Training steps.")
    batch_size: int = Field(default=64, ge=1, le=2**20, description="Sequences a step.")
    learning_rate: float = Field(
        default=3e-3, gt=0, le=10, description="The highest learning rate, of AdamW."
    )
    warmup_steps: int = Field(default=50, ge=0, le=10**9, description="Steps of linear warm-up.")
    final_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The cosine ends at this share of the rate; 1 keeps it constant.",
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=10, description="On weights of linear layers only."
    )
    max_gradient_norm: float = Field(
        default=1.0, gt=0, le=10**9, description="The gradient is clipped to this norm."
    )
    evaluate_every: int = Field(
        default=25, ge=1, le=10**9, description="Steps between looks at the dev split."
    )
    dev_examples: int = Field(
        default=256, ge=1, le=10**7, description="Examples of the dev split at a look."
    )
    test_examples: int = Field(
        default=1000, ge=1, le=10**7, description="Test examples at a context up to 1028."
    )
    long_test_examples: int = Field(
        default=256, ge=1, le=10**7, description="Test examples at a longer context."
    )
    stop_when_solved: bool = Field(default=False, description="Stop when dev exact reaches 0.995.")
    device: str = Field(default="cpu", description="cpu, cuda or cuda:N.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32, or bfloat16 by autocast."
    )
    threads: int = Field(default=1, ge=1, le=1024, description="torch threads of the run.")

    @field_validator("test_contexts")
    @classmethod
    def _contexts_in_order(cls, contexts: tuple[int, ...]) -> tuple[int, ...]:
        for context in contexts:
            if not 1 <= context <= 2**24:
                raise ValueError(f"test_contexts {context}: must be from 1 to {2**24}")
        return tuple(sorted(_each_once("test context", contexts))) if contexts else ()

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, device: str) -> str:
        name, _, number = device.partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise ValueError(f"device {device!r}: must be cpu, cuda or cuda:N")
        return device

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps}: must be below steps {self.steps}")
        return self

    @property
    def mixers(self) -> tuple[str, ...]:
        """The mixer's name in each layer: a hybrid's names in turn."""
        names = self.mixer.split(HYBRID)
        return tuple(names[i % len(names)] for i in range(self.layers))

    @property
    def tested(self) -> tuple[int, ...]:
        """The contexts that are tested."""
        return self.test_contexts or (self.context,)

    @property
    def label(self) -> str:
        """What to call it while it runs."""
        what = f"{self.task} {self.mixer} context {self.context}"
        return f"{what} seed {self.seed} rate {self.learning_rate:g}"

    @property
    def training(self) -> TrainingSpec:
        """How it is trained."""
        return TrainingSpec(**{name: getattr(self, name) for name in TrainingSpec.model_fields})


def named_seed(*names: object) -> int:
    """A seed for one random consumer, from what it is for: other consumers change nothing."""
    text = json.dumps([str(name) for name in names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class ArticleCell(Spec):
    """One model of the article trained once: the unit that runs, records and resumes."""

    kind: ClassVar[str] = "article"
    runner: ClassVar[str] = "rulekeep.article.cell:run_cell"
    code: ClassVar[tuple[str, ...]] = ("rulekeep.article.cell",)

    context: int
    model: ArticleModelName
    seed: int = PUBLISHED_SEED
    steps: int = PUBLISHED_STEPS
    serial: bool = False

    @property
    def label(self) -> str:
        """A readable name, unique to the cell."""
        serial = "-serial" if self.serial else ""
        return f"ctx{self.context}-{self.model}-seed{self.seed}-steps{self.steps}{serial}"

    @property
    def training(self) -> TrainingSpec:
        """How it is trained: as published, at a constant rate."""
        return TrainingSpec(
            steps=self.steps,
            batch_size=PUBLISHED_BATCH_SIZE,
            learning_rate=3e-3,
            weight_decay=0.01,
            max_gradient_norm=1.0,
        )

    @property
    def as_recorded(self) -> dict[str, Any]:
        """What a record says of it: what the article fixed too, under the names of a `RunSpec`."""
        return {
            **self.model_dump(mode="json"),
            "task": "article",
            "mixer": self.model,
            "test_contexts": [self.context],
            "width": PUBLISHED_WIDTH,
            "hidden": PUBLISHED_HIDDEN,
            "layers": PUBLISHED_LAYERS,
            "added_positions": "learned",
            **self.training.model_dump(mode="json"),
        }


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


class PredictorSpec(Spec):
    """An outside model scored on a task, as it is: nothing is trained."""

    kind: ClassVar[str] = "predictor"
    runner: ClassVar[str] = "rulekeep.predicting:run"

    predictor: str = Field(description="file.py:Class or module:Class.")
    task: str = "recite"
    task_options: dict[str, Option] = Field(default={})
    test_contexts: tuple[int, ...] = Field(default=(256,))
    seed: int = Field(default=1, ge=0, lt=2**63)
    test_examples: int = Field(default=1000, ge=1, le=10**7)
    long_test_examples: int = Field(default=256, ge=1, le=10**7)

    @property
    def label(self) -> str:
        """What to call it while it runs."""
        return f"{self.task} {self.predictor} seed {self.seed}"

    @property
    def steps(self) -> int:
        """Contexts to be read: what its progress counts."""
        return len(self.test_contexts)


AnySpec: TypeAlias = RunSpec | ArticleCell | PredictorSpec
KINDS: dict[str, type[RunSpec] | type[ArticleCell] | type[PredictorSpec]] = {
    RunSpec.kind: RunSpec,
    ArticleCell.kind: ArticleCell,
    PredictorSpec.kind: PredictorSpec,
}


def _each_once(what: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise ValueError(f"no {what} given: name at least one")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value} given {values.count(value)} times: name each once")
    return values


def _one_line(error: ValidationError, spec: type[BaseModel]) -> str:
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = list(spec.model_fields)
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        fix = (
            f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known) or 'none'}"
        )
        return f"{place!r}: there is no such option; {fix}"
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    return f"{place} {shown}: {message[0].lower()}{message[1:]}"
