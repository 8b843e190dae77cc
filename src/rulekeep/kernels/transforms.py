"""Whether `torch.func` transforms what is being computed.

A function with a backward pass by hand can be one that `torch.func` takes, but each call of it then
costs some 40 µs more: a quarter of a decode step. So what is transformed goes a plain way instead.
"""

import torch


def transformed() -> bool:
    """Whether the call stands inside `torch.func.grad` or another transform."""
    # What `torch.autograd.Function.apply` asks, to refuse our functions.
    found: bool = torch._C._are_functorch_transforms_active()
    return found
