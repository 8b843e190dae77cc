"""Rules in a history that a compactor shortens, round after round."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from rulekeep.specs.base import Device, Spec, SplitTexts
from rulekeep.specs.language import Format

Style: TypeAlias = Literal["chat", "agent", "code"]
Guard: TypeAlias = Literal["none", "system", "reread", "ends", "restate", "rules"]
STYLES: tuple[Style, ...] = ("chat", "agent", "code")
# The cheapest first; the last two are told which messages state rules.
GUARDS: tuple[Guard, ...] = ("none", "system", "reread", "ends", "restate", "rules")
# A stand-in for a model: it writes nothing of what it reads, or every rule and fact.
STAND_INS = ("deaf", "copying")
# In a folder of histories, what a product has left of them.
COMPACTED = "compacted"


class CompactionCommon(Spec, strict=False, use_attribute_docstrings=True):
    """What all cells of a command have in common."""

    rounds: int = Field(default=5, ge=1, le=50)
    """Compactions of each history, with new chat between them."""
    summary_prompt: str = ""
    """A file of words that ask the model for its summary, for the compactor summary."""
    histories: int = Field(default=20, ge=1, le=10**5)
    """How many."""
    tokens: int = Field(default=8000, ge=1000, le=2**20)
    """Of each history before the first compaction, in words and marks."""
    rules: str = ""
    """A TOML file of families of rules; the shipped ones if left out."""
    chat: str = ""
    """A file of your own histories, one a line, with tool calls as OpenAI has them."""
    count: str = ""
    """Your tokenizer: file.py:function from a text to its number of tokens."""
    reader: str = ""
    """A model that is asked about the rules of what is left, after the first round and the last: a
    folder that transformers can load, or a name behind the endpoint. Say no more --tokens than it
    has positions for.
    """
    endpoint: str = ""
    """Address of an OpenAI-compatible API that has the reader, which then writes its replies."""
    families: SplitTexts = ()
    """Names of families of rules to draw from, between commas; all if left out. The fewer, the
    quicker the reader.
    """
    device: Device = "cpu"
    dtype: Format = "float32"
    """Number format of the reader."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the histories."""


class CompactionSpec(CompactionCommon, strict=True):
    """One cell: the same histories through one compactor, with one budget and one guard."""

    kind: ClassVar[str] = "compaction"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 2

    compactor: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """A name, file.py:function, a command, or saved:FOLDER."""
    budget: float = Field(default=0.25, gt=0, le=1)
    """Share of the tokens to be left."""
    guard: Guard = "none"
    # What writes for compactors that ask for a model.
    model: str = ""
    style: Style = "agent"
    control: Literal["none", "no_rules"] = "none"
    compress: tuple[str, ...] = ()
    """Of the reader's cache of a whole history, as in snapkv@0.25."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.summary_prompt and self.compactor != "summary":
            raise ValueError("summary_prompt: is for the compactor summary; leave it out")
        if self.saved and (self.guard != "none" or self.model):
            raise ValueError("guard, model: a product has its own; leave both out")
        if self.compress and (self.compactor != "everything" or not self.reader or self.endpoint):
            raise ValueError(
                "compress: is of a loaded reader's cache of whole histories; give the compactor "
                "everything and --reader, a folder, or leave it out"
            )
        return self

    @property
    def saved(self) -> Path | None:
        """The folder of a product's output; None where a compactor is called."""
        place = self.compactor.removeprefix("saved:")
        return Path(place) if place != self.compactor else None

    @property
    def as_recorded(self) -> dict[str, Any]:
        """The cell as records keep it, named as in `RunSpec`; its tokens are the context."""
        place, _, function = self.compactor.rpartition("/")
        named = {"task": self.kind, "mixer": function if place else self.compactor}
        return {**self.model_dump(mode="json"), **named, "context": self.tokens}

    @property
    def label(self) -> str:
        said = (self.guard, self.control, self.model or "none")
        extra = "".join(f", {text}" for text in said if text != "none")
        name = Path(self.compactor.removeprefix("saved:")).name
        return f"{name}@{self.budget:g}, {self.style}, {self.tokens:,} tokens{extra}"

    @property
    def steps(self) -> int:
        """Histories: what its progress counts."""
        return self.histories

    @property
    def effort(self) -> float:
        """What a history takes beside those of other cells: the tokens that the reader reads."""
        read = self.tokens * (1.0 if self.compactor == "everything" else 2 * self.budget)
        return read if self.reader else 0.0
