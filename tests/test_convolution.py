"""The short convolution: its sums, its gradients, and a text in parts."""

import pytest
import torch

from rulekeep.kernels import convolution
from rulekeep.kernels.convolution import convolve, convolve_token


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=stream)


@pytest.mark.parametrize("at_once", [1, 2**17])
@pytest.mark.parametrize("time", [1, 2, 3, 9])
def test_the_sums_are_those_of_the_formula_and_have_their_slopes(
    time: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_NUMBERS_AT_ONCE", at_once)
    given = [drawn(2, time, 3), drawn(2, 3, 3, seed=2), drawn(4, 3, seed=3)]
    x, before, filters = (part.requires_grad_() for part in given)
    y, recent = convolve(x, before, filters)
    seen = torch.cat([before, x], dim=1)
    expected = [sum(filters[j] * seen[:, t + j] for j in range(4)) for t in range(time)]
    torch.testing.assert_close(y, torch.stack(expected, dim=1), rtol=1e-12, atol=1e-12)
    assert torch.equal(recent, seen[:, -3:])
    assert torch.autograd.gradcheck(convolve, (x, before, filters))
    if time == 1:
        torch.testing.assert_close(convolve_token(x, before, filters), (y, recent))
