"""The published experiment: its cells, and the settings that the article fixed."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from rulekeep.specs.base import Device, Spec, UsageError
from rulekeep.specs.mixer import MixerSpec, mixer_specs
from rulekeep.specs.run import TrainingSpec

PUBLISHED_CONTEXTS = (64, 256, 1028)
PUBLISHED_SEED = 7
PUBLISHED_STEPS = 80
PUBLISHED_BATCH_SIZE = 64
PUBLISHED_WIDTH = 64
PUBLISHED_HIDDEN = 256
PUBLISHED_LAYERS = 2
ARTICLE_MODELS = ("attention", "compressed")
# The published decoys give the rules away; independent ones are drawn from all words.
ArticleDecoys: TypeAlias = Literal["published", "independent"]
MOST_ARTICLE_STEPS = 10**6


class ArticleCell(Spec):
    """One model of the article trained once: the unit that runs, records and resumes.

    `model` is one of the two published, or a mixer with its options, delta[heads=8].
    """

    kind: ClassVar[str] = "article"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 1

    # 9 tokens of prefix and 7 of target at least.
    context: int = Field(ge=16, le=2**17)
    model: str
    seed: int = Field(default=PUBLISHED_SEED, ge=0, lt=2**63)
    steps: int = Field(default=PUBLISHED_STEPS, ge=1, le=MOST_ARTICLE_STEPS)
    serial: bool = False
    decoys: ArticleDecoys = "published"
    device: Device = "cpu"

    @field_validator("model")
    @classmethod
    def _is_known(cls, model: str) -> str:
        if model not in ARTICLE_MODELS:
            _joining_mixer(model)
        return model

    @property
    def label(self) -> str:
        """A readable name, unique to the cell."""
        serial = "-serial" if self.serial else ""
        decoys = "" if self.decoys == "published" else f"-{self.decoys}"
        return f"ctx{self.context}-{self.model}-seed{self.seed}-steps{self.steps}{serial}{decoys}"

    @property
    def joining_mixer(self) -> MixerSpec | None:
        """The mixer that joins the comparison; None for the published models."""
        return None if self.model in ARTICLE_MODELS else _joining_mixer(self.model)

    @property
    def training(self) -> TrainingSpec:
        """How it is trained: as published, at a constant learning rate."""
        return TrainingSpec(
            steps=self.steps,
            batch_size=PUBLISHED_BATCH_SIZE,
            learning_rate=3e-3,
            weight_decay=0.01,
            max_gradient_norm=1.0,
        )

    @property
    def as_recorded(self) -> dict[str, Any]:
        """The cell as records keep it, with what the article fixed, named as in `RunSpec`."""
        joining_mixer = self.joining_mixer
        return {
            **self.model_dump(mode="json"),
            "task": "article",
            "mixer": joining_mixer.mixer if joining_mixer else self.model,
            **({"mixer_options": dict(joining_mixer.options)} if joining_mixer else {}),
            "test_contexts": [self.context],
            "width": PUBLISHED_WIDTH,
            "hidden": PUBLISHED_HIDDEN,
            "layers": PUBLISHED_LAYERS,
            "added_positions": "learned",
            **self.training.model_dump(mode="json"),
        }


def article_cells(
    *,
    contexts: Sequence[int] = PUBLISHED_CONTEXTS,
    models: Sequence[str] = ARTICLE_MODELS,
    seeds: Sequence[int] = (PUBLISHED_SEED,),
    serial: bool = False,
    **rest: Any,
) -> list[ArticleCell]:
    """The cells of a contest, in the order of its table: seed, then context, then model.

    Attention has one form only, so `serial` leaves its cells as they are. `rest` are further fields
    of every cell.
    """
    return [
        ArticleCell.parse(
            context=context, model=model, seed=seed, serial=serial and model == "compressed", **rest
        )
        for seed in seeds
        for context in contexts
        for model in models
    ]


def _joining_mixer(model: str) -> MixerSpec:
    (mixer,) = mixer_specs(model)
    for name in mixer.settings:
        raise UsageError(f"model {model!r}: the article fixes {name}; leave it out")
    return mixer
