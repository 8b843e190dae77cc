"""Rules in words, given to a language model whose context is compressed."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from rulekeep.specs.base import Spec, each_once

Placement: TypeAlias = Literal["start", "middle"]
Mentions: TypeAlias = Literal["none", "word", "instruction"]
Control: TypeAlias = Literal["none", "no_rules", "swapped"]
Replies: TypeAlias = Literal["scored", "written"]
Format: TypeAlias = Literal["float32", "bfloat16"]

NO_COMPRESSION = "none"
# Of scored replies.
LEAST_PROMPTS = 3


class LanguageSpec(Spec):
    """One cell: rules at a distance from the requests, the same prompts under every compression."""

    kind: ClassVar[str] = "language"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 3

    model: str = Field(description="A folder or GGUF file that transformers can load, or a name.")
    endpoint: str = Field(default="", description="Address of the API that has this model.")
    # Of the model behind an endpoint, where it is scored; a loaded model has its own.
    template: str = Field(default="", description="Jinja file of its chat template.")
    replies: Replies = "scored"
    rules: str = Field(default="", description="TOML file of families; empty for the shipped ones.")
    chat: str = Field(default="", description="JSON Lines file of conversations; made if empty.")
    system: str = Field(default="", description="File of a system prompt with rules in it.")
    # Those that are asked for, of the file's: a family that fails without chat is left out.
    families: tuple[str, ...] = ()
    rules_at_once: int = Field(default=4, ge=1, le=64)
    distance: int = Field(
        default=512, ge=0, le=2**20, description="Tokens of chat after the rules."
    )
    placement: Placement = "start"
    mentions: Mentions = "none"
    control: Control = "none"
    compress: Annotated[tuple[str, ...], AfterValidator(partial(each_once, "compress"))] = (
        NO_COMPRESSION,
    )
    prompts: int = Field(default=100, ge=1, le=10**6)
    # Families that are asked for in each prompt and not stated: what their options score is held
    # against what they score as rules. Written replies need none.
    unstated: int = Field(default=2, ge=0, le=64)
    seed: int = Field(default=1, ge=0, lt=2**63)
    device: str = "cpu"
    dtype: Format = "float32"

    @field_validator("endpoint")
    @classmethod
    def _address(cls, text: str) -> str:
        parts = urlsplit(text)
        if text and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(f"endpoint {text!r}: write its address, http://localhost:8000/v1")
        if "@" in parts.netloc or parts.query:
            # It would stand in the record.
            raise ValueError("endpoint: holds a key; leave it out, and set OPENAI_API_KEY")
        return text

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if self.replies == "scored" and self.prompts < LEAST_PROMPTS:
            raise ValueError(
                f"prompts {self.prompts}: each is held against others; give {LEAST_PROMPTS} or more"
            )
        if self.template and not (self.endpoint and self.replies == "scored"):
            raise ValueError(
                f"template {self.template!r}: is for scored replies of an endpoint; leave it out"
            )
        if self.system and self.placement != "start":
            raise ValueError(
                f"placement {self.placement}: a system prompt of yours has its rules; leave it out"
            )
        if not self.endpoint:
            return self
        if self.dtype != "float32":
            raise ValueError(f"dtype {self.dtype}: is for a model that is loaded; leave it out")
        if self.replies == "scored" and not self.template:
            raise ValueError(
                "replies scored: an endpoint's chat template must be known; "
                "give template, a file of Jinja, or replies written"
            )
        return self

    @property
    def as_recorded(self) -> dict[str, Any]:
        """The cell as records keep it, named as in `RunSpec`; the distance is its context."""
        named = {"task": self.kind, "mixer": Path(self.model).name}
        return {**self.model_dump(mode="json"), **named, "context": max(1, self.distance)}

    @property
    def label(self) -> str:
        if not self.families:
            return "which families it follows, no chat"
        said = {"mentions": self.mentions, "control": self.control}
        extra = "".join(f", {key} {value}" for key, value in said.items() if value != "none")
        if len(self.compress) > 1:
            extra += f", {len(self.compress)} compressions"
        elif self.compress != (NO_COMPRESSION,):
            extra += f", {self.compress[0]}"
        return f"{self.rules_at_once} rules at the {self.placement}, {self.distance} tokens{extra}"

    @property
    def split(self) -> Literal["validation", "test"]:
        """Which prompts are read: families are chosen on validation."""
        return "test" if self.families else "validation"

    @property
    def steps(self) -> int:
        """Prompts to be read: what its progress counts."""
        return self.prompts

    @property
    def effort(self) -> float:
        """What a prompt takes beside those of other cells: the tokens that are read, roughly."""
        mentioned = (self.rules_at_once + self.unstated) * (self.mentions != "none")
        return 300.0 + self.distance + 100.0 * mentioned
