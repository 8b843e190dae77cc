"""Rules in words, given to a language model whose context is compressed."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from rulekeep.specs.base import Device, Spec, SplitTexts, each_once

Placement: TypeAlias = Literal["start", "middle"]
Mentions: TypeAlias = Literal["none", "word", "instruction"]
Control: TypeAlias = Literal["none", "no_rules", "swapped"]
Replies: TypeAlias = Literal["scored", "written"]
Format: TypeAlias = Literal["float32", "bfloat16"]

NO_COMPRESSION = "none"
# Of scored replies.
LEAST_PROMPTS = 3


class LanguageCommon(Spec, strict=False, use_attribute_docstrings=True):
    """What all cells of a command have in common."""

    model: str
    """A folder that transformers can load, or a GGUF file; with an endpoint, the model's name.
    Nothing is downloaded.
    """
    endpoint: str = ""
    """Address of an OpenAI-compatible API, as in http://localhost:8000/v1. The key comes from the
    variable OPENAI_API_KEY.
    """
    template: str = ""
    """Jinja file of the chat template of a model behind an endpoint; for scored replies."""
    rules: str = ""
    """A TOML file of families of rules; the shipped ones if left out."""
    families: SplitTexts = ()
    """Names of families of that file to ask for, between commas, whether the model can follow them
    or not. Those that it follows without chat if left out.
    """
    chat: str = ""
    """A file of your own conversations, one a line: {"messages": [{"role": …, "content": …}, …]}.
    Small talk if left out.
    """
    system: str = ""
    """A file with your own system prompt. A rule in it is a bullet that says what a family says, or
    a mark, {{family}}. The option is drawn; all else stays as it is.
    """
    rules_at_once: int = Field(default=4, ge=1, le=64)
    """Rules in each prompt."""
    prompts: int = Field(default=100, ge=1, le=10**6)
    """Prompts in each cell. Where replies are scored, each also asks for some families that it does
    not state: the fewer prompts, the more.
    """
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the conversations."""
    device: Device = "cpu"
    dtype: Format = "float32"
    """Number format that the model runs in. bfloat16 takes half the memory, and gives scores that
    are a little coarser.
    """


class LanguageSpec(LanguageCommon, strict=True):
    """One cell: rules at a distance from the requests, the same prompts under every compression."""

    kind: ClassVar[str] = "language"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 3

    replies: Replies = "scored"
    distance: int = Field(default=512, ge=0, le=2**20)
    """Tokens of chat after the rules."""
    placement: Placement = "start"
    mentions: Mentions = "none"
    control: Control = "none"
    compress: Annotated[tuple[str, ...], AfterValidator(partial(each_once, "compress"))] = (
        NO_COMPRESSION,
    )
    # Families that are asked for in each prompt and not stated: what their options score is held
    # against what they score as rules. Written replies need none.
    unstated: int = Field(default=2, ge=0, le=64)

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
