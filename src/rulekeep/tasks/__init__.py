"""The tasks: what must be remembered. One file each; `TASKS` names them.

A task is imported when its class is asked for.
"""

from typing import TYPE_CHECKING, Any

from rulekeep.registry import Registry

if TYPE_CHECKING:
    from rulekeep.tasks.apply import Apply as Apply
    from rulekeep.tasks.apply import ApplyOptions as ApplyOptions
    from rulekeep.tasks.article import Article as Article
    from rulekeep.tasks.base import Role as Role
    from rulekeep.tasks.base import Split as Split
    from rulekeep.tasks.base import Task as Task
    from rulekeep.tasks.compression import Compression as Compression
    from rulekeep.tasks.compression import CompressionOptions as CompressionOptions
    from rulekeep.tasks.flip_flop import FlipFlop as FlipFlop
    from rulekeep.tasks.flip_flop import FlipFlopOptions as FlipFlopOptions
    from rulekeep.tasks.fuzzy_recall import FuzzyRecall as FuzzyRecall
    from rulekeep.tasks.fuzzy_recall import FuzzyRecallOptions as FuzzyRecallOptions
    from rulekeep.tasks.labelled import LabelledOptions as LabelledOptions
    from rulekeep.tasks.labelled import LabelledTask as LabelledTask
    from rulekeep.tasks.mixed_recall import MixedRecall as MixedRecall
    from rulekeep.tasks.mixed_recall import MixedRecallOptions as MixedRecallOptions
    from rulekeep.tasks.mqar import Mqar as Mqar
    from rulekeep.tasks.mqar import MqarOptions as MqarOptions
    from rulekeep.tasks.noisy_recall import NoisyRecall as NoisyRecall
    from rulekeep.tasks.noisy_recall import NoisyRecallOptions as NoisyRecallOptions
    from rulekeep.tasks.override import Override as Override
    from rulekeep.tasks.override import OverrideOptions as OverrideOptions
    from rulekeep.tasks.recall import Recall as Recall
    from rulekeep.tasks.recall import RecallOptions as RecallOptions
    from rulekeep.tasks.recite import Recite as Recite
    from rulekeep.tasks.recite import ReciteOptions as ReciteOptions
    from rulekeep.tasks.registers import Registers as Registers
    from rulekeep.tasks.registers import RegistersOptions as RegistersOptions
    from rulekeep.tasks.sampled import RuleWords as RuleWords
    from rulekeep.tasks.sampled import Sample as Sample
    from rulekeep.tasks.sampled import SampledTask as SampledTask
    from rulekeep.tasks.sampled import TaskOptions as TaskOptions
    from rulekeep.tasks.selective_copy import SelectiveCopy as SelectiveCopy
    from rulekeep.tasks.selective_copy import SelectiveCopyOptions as SelectiveCopyOptions

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
    "registers": "Registers",
}
TASKS: "Registry[Task]" = Registry("task", __name__, _CLASSES, base="rulekeep.tasks.SampledTask")
# What is public and no task by name, by its file: the options of each, and these.
_OTHERS = {f"{task}Options": file for file, task in _CLASSES.items() if file != "article"} | {
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


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for."""
    return TASKS.public(name, _OTHERS)
