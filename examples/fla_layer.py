"""A layer of flash-linear-attention as a mixer, its cache as the state: needs a GPU and
`pip install flash-linear-attention`.

    rulekeep check examples/fla_layer.py:FlaGatedDeltaNet --device cuda
    rulekeep run --mixer examples/fla_layer.py:FlaGatedDeltaNet --task recite --device cuda

Such a layer takes what it remembers from a cache, and leaves it there:

    y, _, cache = layer(x, past_key_values=cache, use_cache=True)
"""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rulekeep.mixers import Mixer


class FlaState(NamedTuple):
    """The memory of each head, values first, and the last inputs of the three convolutions."""

    memory: Float[Tensor, "batch heads value_width key_width"]
    queries: Float[Tensor, "batch width kernel"]
    keys: Float[Tensor, "batch width kernel"]
    values: Float[Tensor, "batch width kernel"]


class OneLayer(list[dict[str, Any]]):
    """A cache of fla for one layer: it is read by its number, and written by `update`."""

    def update(self, layer_idx: int, **parts: Any) -> dict[str, Any]:
        """Keeps what the layer leaves."""
        self[layer_idx:] = [parts]
        return parts


class FlaGatedDeltaNet(Mixer):
    """`fla.layers.GatedDeltaNet`, as published: short convolutions and an output gate.

    The kernels take bfloat16; what is around them stays in the model's precision.
    """

    def __init__(self, width: int, *, heads: int = 4, bfloat16: bool = True) -> None:
        super().__init__()
        # Imported here: without a GPU the file can still be read and compiled.
        try:
            from fla.layers import GatedDeltaNet
        except ImportError as error:
            raise ImportError(f"{error}; pip install flash-linear-attention") from None

        self.layer = GatedDeltaNet(
            hidden_size=width, num_heads=heads, head_dim=width // heads, expand_v=1.0, layer_idx=0
        )
        self.bfloat16 = bfloat16

    def init_state(self, batch_size: int) -> FlaState:
        """Zeros; the memory is in float32, as the layer's kernels give it."""
        layer, weight = self.layer, self.layer.q_proj.weight
        heads = batch_size, layer.num_v_heads, layer.head_v_dim, layer.head_k_dim
        inputs = [
            weight.new_zeros(
                batch_size, one.hidden_size, one.kernel_size[0],
                dtype=torch.bfloat16 if self.bfloat16 else None,
            )
            for one in (layer.q_conv1d, layer.k_conv1d, layer.v_conv1d)
        ]  # fmt: skip
        return FlaState(weight.new_zeros(heads, dtype=torch.float32), *inputs)

    def forward(
        self, x: Float[Tensor, "batch time width"], state: FlaState | None = None
    ) -> tuple[Float[Tensor, "batch time width"], FlaState]:
        """Outputs at every position, and what the layer's cache holds after the last token."""
        state = self.init_state(len(x)) if state is None else state
        if not x.shape[1]:
            return x, state
        # A step of one token writes into what it is given.
        memory, *inputs = (part.clone() for part in state)
        cache = OneLayer([{"recurrent_state": memory, "conv_state": tuple(inputs)}])
        half = torch.autocast(x.device.type, dtype=torch.bfloat16)
        with half if self.bfloat16 else nullcontext():
            y, *_ = self.layer(x, past_key_values=cache, use_cache=True)
        left = cache[0]
        return y.to(x.dtype), FlaState(left["recurrent_state"], *left["conv_state"])


if __name__ == "__main__":
    mixer = FlaGatedDeltaNet(64).cuda()
    x = torch.randn(2, 256, 64, device="cuda")
    whole, _ = mixer(x)
    first, state = mixer(x[:, :100])
    rest, _ = mixer(x[:, 100:], state)
    apart = (whole - torch.cat([first, rest], dim=1)).abs().max()
    print(f"{tuple(whole.shape)}; in two pieces it differs by {apart:.2g}")
