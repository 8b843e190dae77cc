"""A layer of flash-linear-attention as a mixer: needs a GPU and
`pip install flash-linear-attention`.

    rulekeep looks for a class that is built from a width and keyword options:
    examples/fla_layer.py:FlaGatedDeltaNet

The layer's own kernels run; through the adapter its state is the whole input so far, so the
benchmark's figures for state bytes and decoding are not the layer's.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rulekeep.mixers import Stateless


class _InBfloat16(nn.Module):
    """The kernels take bfloat16; what is around them stays in the model's precision."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            y, *_ = self.layer(x)
        return y.to(x.dtype)


class FlaGatedDeltaNet(Stateless):
    """`fla.layers.GatedDeltaNet`, as published: short convolutions and an output gate."""

    def __init__(self, width: int, *, heads: int = 4) -> None:
        # Imported here: without a GPU the file can still be read and compiled.
        try:
            from fla.layers import GatedDeltaNet
        except ImportError as error:
            raise ImportError(f"{error}; pip install flash-linear-attention") from None

        layer = GatedDeltaNet(
            hidden_size=width, num_heads=heads, head_dim=width // heads, expand_v=1.0
        )
        super().__init__(_InBfloat16(layer))


if __name__ == "__main__":
    mixer = FlaGatedDeltaNet(64).cuda()
    y, _ = mixer(torch.randn(2, 256, 64, device="cuda"))
    print(tuple(y.shape))
