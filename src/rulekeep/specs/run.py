"""One run: a mixer trained on a task and then tested, or an outside model that is scored on one."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rulekeep.specs.base import Device, Spec, between_commas, each_once

Option: TypeAlias = bool | int | float | str | None
Positions: TypeAlias = Literal["none", "learned", "earliness"]
HYBRID = "+"


def in_order(contexts: tuple[int, ...], what: str = "context") -> tuple[int, ...]:
    """Lengths in tokens, shortest first, each once; `what` they are in an error."""
    for context in contexts:
        if not 1 <= context <= 2**24:
            raise ValueError(f"{what} {context}: must be from 1 to {2**24}")
    return tuple(sorted(each_once(what, contexts)))


def _tested_in_order(contexts: tuple[int, ...]) -> tuple[int, ...]:
    return in_order(contexts, "test context") if contexts else ()


def _in_full(precision: object) -> object:
    return "bfloat16" if precision == "bf16" else precision


class TrainingSpec(Spec):
    """AdamW with a clipped gradient norm; the learning rate warms up linearly and falls by a
    cosine.

    `final_share` is the final learning rate as a fraction of the peak: 1 keeps it constant.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_gradient_norm: float
    warmup_steps: int = 0
    final_share: float = 1.0


class RunSpec(Spec, use_attribute_docstrings=True):
    """One run: a mixer trained on a task from one seed, then tested at several contexts."""

    kind: ClassVar[str] = "run"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 1

    task: str = "recite"
    """A task of the catalogue, file.py:Class or module:Class."""
    task_options: dict[str, Option] = Field(default={})
    """The task's own options, as in --task-options.rules 8."""
    mixer: str = "attention"
    """A mixer of the catalogue, file.py:Class or module:Class; a+b for a hybrid."""
    mixer_options: dict[str, Option] = Field(default={})
    """The mixer's own, as in --mixer-options.heads 8, or a.heads in a hybrid."""
    width: int = Field(default=64, ge=1, le=2**14)
    """Channels of the residual stream."""
    layers: int = Field(default=2, ge=1, le=256)
    """Blocks of a mixer and a feed-forward layer."""
    hidden: int | None = Field(default=None, ge=1, le=2**17)
    """Channels inside the feed-forward layer, 4 x width if left out."""
    added_positions: Positions = "none"
    """Added to the embeddings: none, learned, earliness."""
    context: int = Field(default=128, ge=1, le=2**24)
    """Longest training length in tokens."""
    mixed_lengths: bool = True
    """Train at lengths up to the context, log-uniform; or at the context only."""
    length_growth: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the steps during which the longest training length grows."""
    # A list as well, as TOML has it.
    test_contexts: Annotated[
        tuple[int, ...], BeforeValidator(between_commas), AfterValidator(_tested_in_order)
    ] = Field(default=(), strict=False)
    """Lengths to test at, between commas."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of data, lengths and initialisation."""
    steps: int = Field(default=600, ge=1, le=10**9)
    """Training steps."""
    batch_size: int = Field(default=64, ge=1, le=2**20)
    """Sequences a step."""
    learning_rate: float = Field(default=3e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    warmup_steps: int = Field(default=50, ge=0, le=10**9)
    """Steps of linear warm-up."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """Final learning rate as a fraction of the peak; 1 keeps it constant."""
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    """Weight decay, on weights of linear layers only."""
    max_gradient_norm: float = Field(default=1.0, gt=0, le=10**9)
    """The gradient is clipped to this norm."""
    initial_states: Literal["zero", "passed", "noise"] = "zero"
    """States that the last steps of training begin from: zero, passed (those that other texts have
    left), noise (with their mean and spread).
    """
    state_steps: int = Field(default=500, ge=1, le=10**9)
    """How many steps these are, if not zero."""
    evaluate_every: int = Field(default=25, ge=1, le=10**9)
    """Steps between evaluations on the validation set."""
    validation_examples: int = Field(default=256, ge=1, le=10**7)
    """Validation examples per evaluation."""
    test_examples: int = Field(default=1000, ge=1, le=10**7)
    """Test examples at a context up to 1028."""
    long_test_examples: int = Field(default=256, ge=1, le=10**7)
    """Test examples at a longer context."""
    stop_when_solved: bool = False
    """Stop when `exact` on the validation set reaches 0.995."""
    device: Device = "cpu"
    precision: Annotated[Literal["float32", "bfloat16"], BeforeValidator(_in_full)] = "float32"
    """float32, or bfloat16 (bf16) by autocast."""
    threads: int = Field(default=1, ge=1, le=1024)
    """torch threads of the run."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps}: must be below steps {self.steps}; "
                f"give warmup_steps as well, {self.steps - 1} or less"
            )
        return self

    @model_validator(mode="after")
    def _every_mixer_has_a_layer(self) -> Self:
        count = len(self.mixer.split(HYBRID))
        if count > self.layers:
            fix = f"give it layers {count} or more"
            if "/" in self.mixer:
                fix += f"; a file's path may hold no {HYBRID}"
            raise ValueError(
                f"mixer {self.mixer!r}: has {count} mixers for {self.layers} layers; {fix}"
            )
        return self

    @property
    def mixers(self) -> tuple[str, ...]:
        """The mixer of each layer: a hybrid's mixers take turns."""
        names = self.mixer.split(HYBRID)
        return tuple(names[i % len(names)] for i in range(self.layers))

    @property
    def tested(self) -> tuple[int, ...]:
        return self.test_contexts or (self.context,)

    @property
    def label(self) -> str:
        what = f"{self.task} {self.mixer} context {self.context}"
        return f"{what} seed {self.seed} rate {self.learning_rate:g}"

    @property
    def training(self) -> TrainingSpec:
        return TrainingSpec(**{name: getattr(self, name) for name in TrainingSpec.model_fields})


class PredictorSpec(Spec):
    """An outside model scored on a task; nothing is trained."""

    kind: ClassVar[str] = "predictor"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 1

    # file.py:Class or module:Class.
    predictor: str
    task: str = "recite"
    task_options: dict[str, Option] = Field(default={})
    # A list as well, as JSON has it.
    test_contexts: Annotated[tuple[int, ...], AfterValidator(in_order)] = Field(
        default=(256,), strict=False
    )
    seed: int = Field(default=1, ge=0, lt=2**63)
    test_examples: int = Field(default=1000, ge=1, le=10**7)
    long_test_examples: int = Field(default=256, ge=1, le=10**7)

    @property
    def label(self) -> str:
        return f"{self.task} {self.predictor} seed {self.seed}"

    @property
    def steps(self) -> int:
        """The number of contexts to read, by which progress is counted."""
        return len(self.test_contexts)


class RetestSpec(Spec):
    """The folder of a run, as an absolute path, and the lengths to test it at later.

    `examples` are the number at each length; None takes the number in the spec of the run.
    """

    folder: str
    contexts: Annotated[tuple[int, ...], AfterValidator(in_order)]
    examples: int | None = Field(default=None, ge=1, le=10**7)
    command: str


# What a run is where its user says nothing: the protocol of the committed baselines. A spec's own
# defaults are another matter: ids are made of what differs from them, so they stay.
USUAL = {"context": 256, "steps": 1000, "length_growth": 0.65, "validation_examples": 128}
_WARMUP: int = RunSpec.model_fields["warmup_steps"].default
# What they are if left out, as help says it.
LEFT_OUT = {
    "test_contexts": "1, 4 and 16 times the context if left out.",
    "warmup_steps": f"Steps / 10, {_WARMUP} at most, if left out.",
}


def usual(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run; missing ones give 1,000 steps to 256 tokens, tested up to 16 times."""
    # What was given comes first: an error shows the beginning of all values.
    made = {**values, **{name: value for name, value in USUAL.items() if name not in values}}
    context, steps = made["context"], made["steps"]
    if "warmup_steps" not in made and isinstance(steps, int) and 0 < steps < 10 * _WARMUP:
        made["warmup_steps"] = steps // 10
    if "test_contexts" not in made and isinstance(context, int):
        # 1028, not 1024: as the article.
        longer = (context, 1028 if context == 256 else 4 * context, 16 * context)
        made["test_contexts"] = longer[:1] if made.get("added_positions") == "learned" else longer
    return made
