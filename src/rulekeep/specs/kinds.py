"""The kinds of spec that a record can have, by name."""

from typing import TypeAlias

from rulekeep.specs.article import ArticleCell
from rulekeep.specs.language import LanguageSpec
from rulekeep.specs.predictor import PredictorSpec
from rulekeep.specs.run import RunSpec

AnySpec: TypeAlias = RunSpec | ArticleCell | PredictorSpec | LanguageSpec
KINDS: dict[str, type[AnySpec]] = {
    RunSpec.kind: RunSpec,
    ArticleCell.kind: ArticleCell,
    PredictorSpec.kind: PredictorSpec,
    LanguageSpec.kind: LanguageSpec,
}
