"""The executors: where runs happen."""

from rulekeep.executors.base import Advanced, Executor, Failure, Finished, Started
from rulekeep.executors.cluster import ClusterWarning, DaskExecutor
from rulekeep.executors.local import LocalExecutor
