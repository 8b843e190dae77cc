"""What a run costs: time, peak memory, bytes of a state.

Only training steps are timed: warm-up, evaluation, data and logging are not.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

# Rows and columns of a large product: beyond this a processor gains little.
_PRODUCT = 1024


def state_bytes(states: Iterable[Any]) -> int:
    """Bytes of the tensors in these states, counted from the tensors and not by a formula."""
    return sum(
        tensor.numel() * tensor.element_size()
        for state in states
        for tensor in state
        if isinstance(tensor, Tensor)
    )


def peak_memory_bytes(device: str = "cpu") -> int:
    """The peak memory of this process, resident or on a GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its figure is carried over from the process before `exec`.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def flops(forward: Callable[[], object]) -> int:
    """Floating-point operations of a forward pass, matrix products only, as torch counts them.

    Causal attention therefore counts the products of every query with every key.
    """
    counter = _counter()
    with torch.no_grad(), counter:
        forward()
    return int(counter.get_total_flops())


def products_of(operator: Any, arguments: Sequence[Any], options: Any, result: Any) -> int:
    """Floating-point operations of an operator that torch dispatches: 0 if it has no products.

    torch's counter follows modules, and fails in the backward pass of some.
    """
    count = _counter().flop_registry.get(operator._overloadpacket)
    return int(count(*arguments, **options, out_val=result)) if count else 0


@cache
def _counter() -> FlopCounterMode:
    aten = torch.ops.aten
    # torch knows what its attention kernels cost, but for those on a CPU; and no LSTM of oneDNN.
    lstm = {
        aten.mkldnn_rnn_layer: _of_lstm,
        aten.mkldnn_rnn_layer_backward: lambda *shapes, **_: 2 * _of_lstm(*shapes),
    }
    counter = FlopCounterMode(display=False, custom_mapping=lstm)
    counter.flop_registry |= {
        aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
    }
    return counter


# Of shapes, as torch's own.
def _of_lstm(x: Any, of_x: Any, of_h: Any, *_: Any, **__: Any) -> int:
    return int(2 * math.prod(x[:-1]) * (math.prod(of_x) + math.prod(of_h)))


def product_rate(device: str) -> float:
    """Floating-point operations a second of one large matrix product in float32."""
    a = torch.randn(_PRODUCT, _PRODUCT, device=device)
    (a @ a).sum().item()
    start = time.perf_counter()
    (a @ a).sum().item()
    return 2 * _PRODUCT**3 / (time.perf_counter() - start)
