"""What a user asks for, validated and frozen: runs, outside models, the published experiment."""

from typing import TypeAlias

from rulekeep.specs.article import (
    ARTICLE_MODELS,
    PUBLISHED_BATCH_SIZE,
    PUBLISHED_CONTEXTS,
    PUBLISHED_HIDDEN,
    PUBLISHED_LAYERS,
    PUBLISHED_SEED,
    PUBLISHED_STEPS,
    PUBLISHED_WIDTH,
    ArticleCell,
    ArticleDecoys,
    article_cells,
)
from rulekeep.specs.base import DEVICES, Spec, UsageError, choose, validation_line
from rulekeep.specs.compaction import CompactionSpec
from rulekeep.specs.language import LanguageSpec
from rulekeep.specs.mixer import (
    MODEL,
    MixerSpec,
    mixer_specs,
    option_name,
    scalar,
    split_names,
    written,
)
from rulekeep.specs.run import (
    HYBRID,
    LEFT_OUT,
    USUAL,
    Option,
    Positions,
    PredictorSpec,
    RunSpec,
    TrainingSpec,
    usual,
)

# What a record can be of, by the name of its kind.
AnySpec: TypeAlias = RunSpec | ArticleCell | PredictorSpec | LanguageSpec | CompactionSpec
KINDS: dict[str, type[AnySpec]] = {
    kind.kind: kind for kind in (RunSpec, ArticleCell, PredictorSpec, LanguageSpec, CompactionSpec)
}
