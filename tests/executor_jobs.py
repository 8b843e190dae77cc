"""The job of the executors' tests: a fresh process loads no torch for it."""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path

from tiny import until


def job(value, progress):
    progress(1)
    if value == "raise":
        raise ValueError("told to")
    if value == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "hang":
        time.sleep(600)
    if value == "greedy":
        import torch

        torch.empty(2**60, dtype=torch.uint8)
    if value == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    if value == "lingers":
        threading.Thread(target=time.sleep, args=(600,)).start()
    if value == "exits":
        sys.exit("told to")
    if value == "cannot say why":
        raise UnspeakableError
    if value == "unsendable":
        return lambda: None
    if value == "large":
        return "x" * 2**22
    if value == "threads":
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if value == "collects":
        return gc.isenabled()
    if value.startswith("lose the fork server"):
        if " and outlive it in " in value:
            folder = Path(value.partition(" in ")[2])
            until((folder / "started").exists)
            outlive_the_fork_server(folder)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    if value.startswith("hang once in "):
        started = Path(value.removeprefix("hang once in "), "started")
        if not started.exists():
            started.touch()
            time.sleep(600)
    if value.startswith("eats in "):
        Path(value.removeprefix("eats in "), "cgroup.procs").write_text(str(os.getpid()))
        return [b"x" * 2**22 for _ in range(2**12)]
    if value == "talkative":
        for steps in range(2, 100_000):
            progress(steps)
        return value
    progress(2)
    return value, os.getpid(), os.environ.get("GLIBC_TUNABLES")


def outlive_the_fork_server(folder: Path) -> None:
    """Takes back what the kernel was asked for: to be ended with the fork server."""
    ctypes.CDLL(None).prctl(1, 0)
    (folder / f"pid-{os.getpid()}").touch()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError
