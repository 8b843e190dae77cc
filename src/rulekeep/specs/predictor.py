"""An outside model scored on a task."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from rulekeep.specs.base import Spec
from rulekeep.specs.run import Option, in_order


class PredictorSpec(Spec):
    """An outside model scored on a task; nothing is trained."""

    kind: ClassVar[str] = "predictor"
    # Of the protocol: it goes up where runs of this kind give other figures, or a default changes.
    version: ClassVar[int] = 1

    predictor: str = Field(description="file.py:Class or module:Class.")
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
        """The name shown while it runs."""
        return f"{self.task} {self.predictor} seed {self.seed}"

    @property
    def steps(self) -> int:
        """The number of contexts to read, by which progress is counted."""
        return len(self.test_contexts)
