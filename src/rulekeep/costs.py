"""What a run costs: time under a clock, peak memory, bytes of a state; and on what machine.

Only training steps are under the clock: warm-up, evaluation, data and logging are not.
"""

import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def prepare_process(threads: int = 1) -> None:
    """The settings that every measured process has, whichever mechanism it runs.

    Gradients that come back through hundreds of gates decay into denormal numbers, which a
    CPU multiplies many times slower: they are flushed to zero.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


class Clock:
    """Adds up the seconds spent inside `with clock.running()`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def state_bytes(states: Iterable[Any]) -> int:
    """Bytes of the tensors in these states: counted from the tensors, never from a formula."""
    return sum(
        tensor.numel() * tensor.element_size()
        for state in states
        for tensor in state
        if isinstance(tensor, Tensor)
    )


def peak_memory_bytes() -> int:
    """The most resident memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its figure is carried over from the process before `exec`.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def environment() -> dict[str, Any]:
    """What a figure depends on besides its spec: versions, processor, threads."""
    return {
        "rulekeep": version("rulekeep"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
