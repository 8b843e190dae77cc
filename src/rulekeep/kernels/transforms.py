"""Whether `torch.func` transforms the current computation.

A function with a hand-written backward pass can support `torch.func`, but then each call costs some
40 µs more: a quarter of a decode step. So transformed computations take a plain way instead.
"""

import torch


def transformed() -> bool:
    """Whether the call runs inside `torch.func.grad` or another transform."""
    # What `torch.autograd.Function.apply` asks, to refuse our functions.
    found: bool = torch._C._are_functorch_transforms_active()
    return found
