import pytest
import torch
from torch import nn

from rulekeep.kernels.feed_forward import feed_forward


@pytest.mark.parametrize(
    ("add_normed", "last_norm"), [(True, True), (False, True), (False, False), (True, False)]
)
@pytest.mark.parametrize("shape", [(1, 8), (3, 5, 8), (2, 4096, 8), (1, 4097, 8)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_feed_forward_is_the_plain_one(
    shape: tuple, dtype: torch.dtype, atol: float, add_normed: bool, last_norm: bool
) -> None:
    norm, out = nn.LayerNorm(8, dtype=dtype), nn.LayerNorm(8, dtype=dtype)
    expand, contract = nn.Linear(8, 24, dtype=dtype), nn.Linear(24, 8, dtype=dtype)
    x, mixed = torch.randn(2, *shape, dtype=dtype).requires_grad_().unbind()
    direction = torch.randn(shape, dtype=dtype)
    modules = (norm, expand, contract, out if last_norm else None)
    leaves = [x, mixed, *(p for module in modules if module for p in module.parameters())]
    z = x + mixed
    normed = norm(z)
    plain = (normed if add_normed else z) + contract(nn.functional.gelu(expand(normed)))
    plain = out(plain) if last_norm else plain
    results = []
    found = feed_forward(x, mixed, *modules, add_normed=add_normed)
    with torch.no_grad():
        assert torch.equal(feed_forward(x, mixed, *modules, add_normed=add_normed), found)
    for y in (found, plain):
        results.append([y, *torch.autograd.grad((y * direction).sum(), leaves)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-4 if dtype == torch.float32 else 0, atol=atol)
