"""The executors: where runs happen."""

from rulekeep.executors.base import Advanced, Executor, Failure, Finished
from rulekeep.executors.local import LocalExecutor

__all__ = ["Advanced", "Executor", "Failure", "Finished", "LocalExecutor"]
