"""The job of the executors' tests: a fresh process loads no torch for it."""

import os
import signal
import sys
import threading
import time
from pathlib import Path


def job(value, progress):
    progress(1)
    if value == "raise":
        raise ValueError("told to")
    if value == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "hang":
        time.sleep(600)
    if value.startswith("hang in "):
        Path(value.removeprefix("hang in "), f"pid-{os.getpid()}").touch()
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
    if value.startswith("slot "):
        # Long enough that the other slot is taken meanwhile.
        time.sleep(0.5)
        return os.environ["RULEKEEP_SLOT"]
    if value == "unsendable":
        return lambda: None
    if value == "large":
        return "x" * 2**22
    progress(2)
    return value, os.getpid(), os.environ.get("GLIBC_TUNABLES")
