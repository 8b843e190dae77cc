"""Layers without a state behind the contract of a mixer."""

import pytest
import torch
from torch import Tensor, nn

from rulekeep.mixers import Stateless
from rulekeep.running.costs import state_bytes


class RunningMean(nn.Module):
    def __init__(self, *, width: int = 8, in_tuple: bool = False) -> None:
        super().__init__()
        self.out = nn.Linear(8, width)
        self.in_tuple = in_tuple

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        y = self.out(x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None])
        return (y, None) if self.in_tuple else y


@pytest.mark.parametrize("in_tuple", [False, True])
def test_pieces_and_tokens_give_what_the_layer_gives_for_the_whole(in_tuple: bool) -> None:
    layer = RunningMean(in_tuple=in_tuple)
    mixer, x = Stateless(layer), torch.randn(2, 20, 8)
    whole = RunningMean.forward(layer, x)
    whole = whole[0] if in_tuple else whole
    for split in ([20], [7, 13], [1] * 20):
        state, pieces = mixer.init_state(2), []
        for piece in x.split(split, dim=1):
            y, state = mixer(piece, state)
            pieces.append(y)
        assert torch.allclose(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-6)
    assert torch.allclose(mixer.tail(x, 3), whole[:, -3:], rtol=0, atol=1e-6)


def test_what_is_kept_is_counted_and_grows() -> None:
    mixer = Stateless(RunningMean())
    assert [state_bytes([mixer(torch.randn(1, t, 8))[1]]) for t in (1, 64)] == [32, 64 * 32]
    assert state_bytes([mixer.init_state(1)]) == 0
    assert mixer.memory_half_life_tokens is None
