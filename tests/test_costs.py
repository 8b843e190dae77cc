import subprocess
import sys
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from rulekeep.running import building, costs
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


@pytest.mark.core
def test_an_lstm_multiplies_its_input_and_its_state() -> None:
    lstm, x = torch.nn.LSTM(3, 5, batch_first=True), torch.zeros(2, 4, 3)
    # Two operations a weight of four gates, for eight tokens.
    assert costs.flops(lambda: lstm(x)) == 2 * (2 * 4) * (4 * 5 * 3 + 4 * 5 * 5)


@pytest.mark.core
def test_a_source_that_was_changed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"ls-files": "running/building.py", "rev-parse": "abc", "status": " M running/costs.py"}
    monkeypatch.setattr(
        building.subprocess, "run", lambda command, **_: SimpleNamespace(stdout=told[command[3]])
    )
    assert building._commit() == {"commit": "abc", "dirty": True}
