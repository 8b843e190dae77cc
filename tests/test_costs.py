import subprocess
import sys
from typing import NamedTuple

import torch

from rulekeep.running.costs import peak_memory_bytes, state_bytes


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


def test_state_bytes_are_counted_from_the_tensors() -> None:
    state = Pair(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(5, dtype=torch.int8))
    assert state_bytes([state, state]) == 2 * (48 + 5)


def test_peak_memory_is_this_process_own() -> None:
    code = (
        "from rulekeep.running.costs import peak_memory_bytes as p; "
        "a = p(); x = bytearray(200 << 20); "
        "b = p(); del x; print(a, b, p())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, during, after = map(int, done.stdout.split())
    assert during - before > 190 << 20
    # The kernel counts resident pages in batches.
    assert after >= during - (4 << 20)
    assert peak_memory_bytes() > 0
