"""The tasks: what must be remembered. One file each; `TASKS` names them.

A task is imported when its class is asked for. What others derive from has its type here; the
classes of single tasks are `Any` to a type checker.
"""

from typing import TYPE_CHECKING, Any

from rulekeep.registry import Registry

if TYPE_CHECKING:
    from rulekeep.tasks.article import Article as Article
    from rulekeep.tasks.base import Role as Role
    from rulekeep.tasks.base import Split as Split
    from rulekeep.tasks.base import Task as Task
    from rulekeep.tasks.labelled import LabelledOptions as LabelledOptions
    from rulekeep.tasks.labelled import LabelledTask as LabelledTask
    from rulekeep.tasks.sampled import RuleWords as RuleWords
    from rulekeep.tasks.sampled import Sample as Sample
    from rulekeep.tasks.sampled import SampledTask as SampledTask
    from rulekeep.tasks.sampled import TaskOptions as TaskOptions

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
