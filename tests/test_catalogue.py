"""Every matrix memory: its chunks against its own loop, and the cases that break chunked forms."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from small_pieces import pieces_of
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels import chunks
from rulekeep.kernels.chunks import (
    Read,
    delta_unit,
    linear_chunks,
    token_loop,
    unit,
)
from rulekeep.mixers import MIXERS, MatrixMixer
from rulekeep.mixers.fading import Fading

MATRIX = {name: kind for name, kind in MIXERS.items() if issubclass(kind, MatrixMixer)}
DECAYING = [name for name, kind in MATRIX.items() if issubclass(kind, Fading)]


@pytest.fixture(autouse=True)
def _several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that the longer sequences have several."""
    pieces_of(128, monkeypatch)


def results(
    outputs: tuple[Tensor, ...], leaves: list[Tensor], *, seed: int = 5
) -> Iterator[tuple[str, Tensor]]:
    stream = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(out.shape, generator=stream, dtype=torch.float64).to(out.dtype)
        for out in outputs
    ]
    yield from ((f"output {i}", out) for i, out in enumerate(outputs))
    found = torch.autograd.grad(outputs, leaves, weights, allow_unused=True)
    yield from ((f"gradient {i}", grad) for i, grad in enumerate(found) if grad is not None)


@pytest.mark.parametrize("name", DECAYING)
def test_the_half_life_at_the_start_is_the_one_asked_for(name: str) -> None:
    assert MATRIX[name](16).memory_half_life_tokens == pytest.approx(1024, rel=1e-3)
    short = MATRIX[name](16, half_life_tokens=3.0)
    assert short.memory_half_life_tokens == pytest.approx(3, rel=1e-3)


def test_published_retention_is_within_reach() -> None:
    published = 1 - 2.0 ** -torch.arange(5, 9)
    decays = MATRIX["retnet"](16, half_life_tokens=177.1)._log_decays.exp()
    assert torch.allclose(decays, published, rtol=0, atol=5e-4)


# Each core in float32 against the loop in float64: the largest error, as a share of the largest
# value of the same tensor (of 1e-3, if all are smaller).
TOLERANCE = 2e-4


def delta_of_parts(queries: Tensor, keys: Tensor, *others: Tensor, **options: Any) -> Read:
    return delta_unit(torch.cat([queries, keys], dim=2), *others, **options)


def delta_loop_of_parts(queries: Tensor, keys: Tensor, *others: Tensor, **options: Any) -> Read:
    values, write, memory = others
    queries, keys = unit(F.silu(torch.cat([queries, keys], dim=2))).chunk(2, dim=2)
    return token_loop(queries, keys, values, memory, write=write, **options)


def cores() -> dict[str, tuple[Callable, Callable, int | None]]:
    return {
        "linear": (linear_chunks, token_loop, None),
        "linear, scalar decay": (linear_chunks, token_loop, 1),
        "linear, channel decay": (linear_chunks, token_loop, 8),
        "delta": (delta_of_parts, delta_loop_of_parts, None),
        "delta, scalar decay": (delta_of_parts, delta_loop_of_parts, 1),
        "delta, channel decay": (delta_of_parts, delta_loop_of_parts, 8),
        "delta that reads first, scalar decay": (
            partial(delta_of_parts, read_first=True),
            partial(delta_loop_of_parts, read_first=True),
            1,
        ),
    }


HARD = [
    # Long ones.
    pytest.param(core, case, marks=[pytest.mark.slow] if case.startswith("near") else [])
    for core in cores()
    for case in ("repeated keys", "near zero", "near one", "mixed", "large")
    # Sums without decay or gate have nothing near 0 or 1.
    if core != "linear" or case in ("repeated keys", "large")
]


@pytest.mark.parametrize(("core", "case"), HARD)
def test_hard_cases_in_float32(core: str, case: str) -> None:
    fast, slow, channels = cores()[core]
    time = 1024 if case.startswith("near") else 256
    shape = 1, time, 1, 8
    scale = 1e3 if case == "large" else 1.0
    tokens = [torch.randn(shape, dtype=torch.float64) * scale for _ in range(3)]
    if case == "repeated keys":
        tokens[1] = tokens[1][:, :1].expand(shape).contiguous()
    extreme = {"near zero": -50.0, "near one": 1e-6, "mixed": 0.0}.get(case, 1.0)
    logits = torch.randn(1, time, 1, channels or 1, dtype=torch.float64)
    if case == "mixed":
        # Factors of exactly 0, of nearly 1 and of in between, side by side.
        choices = torch.tensor([-math.inf, -120.0, -1e-7, -0.5], dtype=torch.float64)
        decay = choices[torch.randint(4, logits.shape)]
    else:
        decay = -logits.exp() * abs(extreme) if extreme > 0 else extreme * (1 + logits.sigmoid())
    if "delta" in core:
        logit = {"near zero": -9.0, "near one": 9.0, "repeated keys": 9.0}.get(case)
        write = torch.randn(1, time, 1, 1, dtype=torch.float64) * 8
        tokens.append((write if logit is None else write / 8 + logit).sigmoid())
    memory = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    inputs = [*tokens, memory, *([] if channels is None else [decay])]
    pairs = []
    for function, dtype in ((fast, torch.float32), (slow, torch.float64)):
        leaves = [part.detach().to(dtype).requires_grad_() for part in inputs]
        options = {} if channels is None else {"log_decay": leaves[-1]}
        if function is linear_chunks:
            options["chunk"] = 32
        pairs.append(results(function(*leaves[: len(tokens) + 1], **options), leaves))
    for (what, a), (_, b) in zip(*pairs, strict=True):
        assert a.isfinite().all(), what
        if what == f"gradient {len(inputs) - 1}" and channels is not None and case == "mixed":
            # A log-decay of −inf has no gradient; clamping gives 0 where the loop gives NaN.
            b = torch.where(decay < -60, 0, b)
        error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1e-3)
        assert error < TOLERANCE, (what, error)


@pytest.mark.parametrize("place", [1, 2, 4, 8, 16, 32])
def test_the_inverse_of_a_unit_triangle(place: int) -> None:
    below = torch.randn(3, place, place, dtype=torch.float64).tril(-1)
    inverse = chunks.unit_triangular_inverse(below)
    one = torch.eye(place, dtype=torch.float64)
    assert torch.allclose(inverse @ (one + below), one.expand_as(below), rtol=0, atol=1e-8)
