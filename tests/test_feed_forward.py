import pytest
import torch
from torch import nn

from rulekeep.feed_forward import feed_forward


@pytest.mark.parametrize("shape", [(1, 8), (3, 5, 8), (2, 1024, 8), (1, 2049, 8)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_feed_forward_is_the_plain_one(shape: tuple, dtype: torch.dtype, atol: float) -> None:
    expand, contract = nn.Linear(8, 24, dtype=dtype), nn.Linear(24, 8, dtype=dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    direction = torch.randn(shape, dtype=dtype)
    leaves = [x, *expand.parameters(), *contract.parameters()]
    results = []
    for y in (
        feed_forward(x, expand, contract),
        contract(nn.functional.gelu(expand(x))),
    ):
        results.append([y, *torch.autograd.grad((y * direction).sum(), leaves)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-4 if dtype == torch.float32 else 0, atol=atol)
