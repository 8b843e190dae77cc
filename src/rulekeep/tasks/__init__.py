"""The tasks: what must be remembered. One file each; `TASKS` is the catalogue."""

from rulekeep.tasks.apply import Apply, ApplyOptions
from rulekeep.tasks.article import Article
from rulekeep.tasks.base import Examples, Role, Split, Task
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

TASKS: dict[str, type[Task]] = {
    Article.name: Article,
    Recite.name: Recite,
    Apply.name: Apply,
    Override.name: Override,
    Recall.name: Recall,
}

__all__ = [
    "TASKS",
    "Apply",
    "ApplyOptions",
    "Article",
    "Examples",
    "FewCombinationsWarning",
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
    "Split",
    "Task",
    "TaskOptions",
]
