"""A layer of flash-linear-attention as a mixer: its cache is the state. On a CPU, by naive forms.

What runs triton is replaced by torch: convolution, kernel and gated norm. All else is fla's own.
"""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXAMPLE = Path(__file__).parent.parent / "examples" / "fla_layer.py"


class Convolution(nn.Module):
    """fla's ShortConvolution in torch, with its cache of the last four inputs."""

    def __init__(self, of: nn.Conv1d) -> None:
        super().__init__()
        self.weight, self.hidden_size, self.kernel_size = of.weight, of.in_channels, of.kernel_size
        self.backend, self.activation = "triton", "silu"

    def forward(
        self, x: Tensor, cache: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor | None]:
        width = self.kernel_size[0]
        before = x.new_zeros(len(x), x.shape[2], width) if cache is None else cache
        seen = torch.cat([before, x.mT], dim=2)
        y = F.conv1d(seen[:, :, 1:], self.weight, groups=len(self.weight))
        return F.silu(y.mT), seen[:, :, -width:]


class Norm(nn.Module):
    """fla's FusedRMSNormGated in torch."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.weight, self.eps = of.weight, of.eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps) * F.silu(gate)


@pytest.fixture
def mixer(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("fla", reason="needs pip install flash-linear-attention")
    from fla.layers import gated_deltanet
    from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule

    def rule(
        q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None,
        A_log: Tensor, dt_bias: Tensor, **_: Any,  # noqa: N803 - fla's name
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        decay = -A_log.exp() * F.softplus(g + dt_bias)
        before = None if initial_state is None else initial_state.mT
        y, after = naive_recurrent_gated_delta_rule(
            q, k, v, beta.sigmoid(), decay, initial_state=before, output_final_state=True
        )
        return y, after.mT

    monkeypatch.setattr(gated_deltanet, "chunk_gated_delta_rule", rule)
    monkeypatch.setattr(gated_deltanet, "fused_recurrent_gated_delta_rule", rule)
    torch.manual_seed(1)
    made = runpy.run_path(str(EXAMPLE))["FlaGatedDeltaNet"](16, heads=2, bfloat16=False)
    layer = made.layer
    for name in ("q_conv1d", "k_conv1d", "v_conv1d"):
        setattr(layer, name, Convolution(getattr(layer, name)))
    layer.o_norm = Norm(layer.o_norm)
    return made


@pytest.mark.parametrize("grad", [True, False])
def test_a_text_in_pieces_and_token_by_token_is_the_text(mixer: Any, grad: bool) -> None:
    x = torch.randn(2, 40, 16)
    with torch.set_grad_enabled(grad):
        whole, last = mixer(x)
        # As fla itself runs it, without a cache.
        alone, _, _ = mixer.layer(x, use_cache=True)
        torch.testing.assert_close(whole, alone)
        for sizes in ([17, 23], [39, 1], [1] * 40):
            state, parts = None, []
            for piece in x.split(sizes, dim=1):
                before = None if state is None else [part.clone() for part in state]
                y, after = mixer(piece, state)
                # A state is not written into: another text may go on from it.
                if before is not None:
                    torch.testing.assert_close(list(state), before)
                state = after
                parts.append(y)
            torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(list(state), list(last), rtol=1e-4, atol=1e-5)


def test_the_state_has_the_size_of_the_cache_at_any_length(mixer: Any) -> None:
    shapes = [(3, 2, 8, 8), *[(3, 16, 4)] * 3]
    assert [tuple(part.shape) for part in mixer.init_state(3)] == shapes
    assert [tuple(part.shape) for part in mixer(torch.randn(3, 33, 16))[1]] == shapes


def test_later_tokens_change_nothing_and_gradients_reach_every_weight(mixer: Any) -> None:
    x = torch.randn(1, 20, 16)
    other = torch.cat([x[:, :12], torch.randn(1, 8, 16)], dim=1)
    torch.testing.assert_close(mixer(x)[0][:, :12], mixer(other)[0][:, :12])
    mixer(x)[0].sum().backward()
    assert all(one.grad is not None and one.grad.any() for one in mixer.parameters())
