import subprocess
import sys
from typing import NamedTuple

import torch

from rulekeep.mixers import LSTM, Attention, Slots
from rulekeep.running.costs import flops, peak_memory_bytes, state_bytes


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


def test_state_bytes_are_counted_from_the_tensors() -> None:
    state = Pair(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(5, dtype=torch.int8))
    assert state_bytes([state, state]) == 2 * (48 + 5)


def test_a_kv_cache_grows_and_slots_do_not() -> None:
    x = torch.zeros(1, 64, 64)
    assert state_bytes([Attention(64)(x)[1]]) == 2 * 64 * 64 * 4
    assert state_bytes([Slots(64)(x)[1]]) == state_bytes([Slots(64)(x[:, :3])[1]]) == 8 * 64 * 4


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


def test_flops_count_the_products_of_attention_and_of_an_lstm() -> None:
    x, state = torch.randn(1, 100, 64), torch.randn(1, 4, 100, 16)
    attention, lstm = Attention(64), LSTM(64)
    # Projections to and from, queries with keys, weights with values.
    assert flops(lambda: attention(x)) == 100 * 2 * (4 * 64 * 64) + 2 * 2 * (100 * 100 * 64)
    cache = type(attention.init_state(1))(state, state)
    one = 2 * (4 * 64 * 64) + 2 * 2 * (101 * 64)
    assert flops(lambda: attention(x[:, :1], cache)) == one
    # Four gates, of x and of h.
    assert flops(lambda: lstm(x)) == 100 * 2 * (8 * 64 * 64)
