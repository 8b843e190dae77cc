"""The tasks: what must be remembered. One file each; `TASKS` is the catalogue.

A task is imported when its class is asked for.
"""

from typing import TYPE_CHECKING, Any

from rulekeep.catalogue import Catalogue

if TYPE_CHECKING:
    from rulekeep.tasks.apply import Apply, ApplyOptions
    from rulekeep.tasks.article import Article, Examples
    from rulekeep.tasks.base import Role, Split, Task
    from rulekeep.tasks.compression import Compression, CompressionOptions
    from rulekeep.tasks.flip_flop import FlipFlop, FlipFlopOptions
    from rulekeep.tasks.fuzzy_recall import FuzzyRecall, FuzzyRecallOptions
    from rulekeep.tasks.labelled import LabelledOptions, LabelledTask
    from rulekeep.tasks.mixed_recall import MixedRecall, MixedRecallOptions
    from rulekeep.tasks.mqar import Mqar, MqarOptions
    from rulekeep.tasks.noisy_recall import NoisyRecall, NoisyRecallOptions
    from rulekeep.tasks.override import Override, OverrideOptions
    from rulekeep.tasks.recall import Recall, RecallOptions
    from rulekeep.tasks.recite import Recite, ReciteOptions
    from rulekeep.tasks.sampled import (
        FewCombinationsWarning,
        RuleWords,
        Sample,
        SampledTask,
        TaskOptions,
    )
    from rulekeep.tasks.selective_copy import SelectiveCopy, SelectiveCopyOptions

_CLASSES = {
    "article": "Article",
    "recite": "Recite",
    "apply": "Apply",
    "override": "Override",
    "recall": "Recall",
    "mqar": "Mqar",
    "noisy_recall": "NoisyRecall",
    "fuzzy_recall": "FuzzyRecall",
    "selective_copy": "SelectiveCopy",
    "compression": "Compression",
    "flip_flop": "FlipFlop",
}
TASKS: "Catalogue[Task]" = Catalogue(__name__, _CLASSES)
# What is public and no task of the catalogue, by its file: the options of each, and these.
_OTHERS = {f"{task}Options": module for module, task in _CLASSES.items()} | {
    "Examples": "article",
    "FewCombinationsWarning": "sampled",
    "LabelledOptions": "labelled",
    "LabelledTask": "labelled",
    "MixedRecall": "mixed_recall",
    "MixedRecallOptions": "mixed_recall",
    "Role": "base",
    "RuleWords": "sampled",
    "Sample": "sampled",
    "SampledTask": "sampled",
    "Split": "base",
    "Task": "base",
    "TaskOptions": "sampled",
}

__all__ = [
    "TASKS",
    "Apply",
    "ApplyOptions",
    "Article",
    "Compression",
    "CompressionOptions",
    "Examples",
    "FewCombinationsWarning",
    "FlipFlop",
    "FlipFlopOptions",
    "FuzzyRecall",
    "FuzzyRecallOptions",
    "LabelledOptions",
    "LabelledTask",
    "MixedRecall",
    "MixedRecallOptions",
    "Mqar",
    "MqarOptions",
    "NoisyRecall",
    "NoisyRecallOptions",
    "Override",
    "OverrideOptions",
    "Recall",
    "RecallOptions",
    "Recite",
    "ReciteOptions",
    "Role",
    "RuleWords",
    "Sample",
    "SampledTask",
    "SelectiveCopy",
    "SelectiveCopyOptions",
    "Split",
    "Task",
    "TaskOptions",
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for."""
    return TASKS.public(name, _OTHERS)
