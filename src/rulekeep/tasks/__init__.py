"""The tasks: what must be remembered. One file each; `TASKS` is the catalogue."""

from rulekeep.tasks.article import Article
from rulekeep.tasks.base import Examples, Split, Task

TASKS: dict[str, type[Task]] = {Article.name: Article}

__all__ = ["TASKS", "Article", "Examples", "Split", "Task"]
