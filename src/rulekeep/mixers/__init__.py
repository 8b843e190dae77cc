"""The mixers: how context is carried. One file each; `MIXERS` names them.

The docstring of a file opens with the name of the mixer and, in brackets, its source. Then come its
formula and a sentence "It cannot …". docs/mixers.md is made of these and of measurements.

Importing this package loads no torch: a mixer is imported when its class is asked for.

    MIXERS["delta"]                # the class, which loads torch
    "delta" in MIXERS, [*MIXERS]   # names alone
"""

from typing import TYPE_CHECKING, Any

from rulekeep.registry import Registry

if TYPE_CHECKING:
    from rulekeep.mixers.adapter import Stateless as Stateless
    from rulekeep.mixers.attention import Attention as Attention
    from rulekeep.mixers.base import Mixer as Mixer
    from rulekeep.mixers.delta import Delta as Delta
    from rulekeep.mixers.forgetting_attention import ForgettingAttention as ForgettingAttention
    from rulekeep.mixers.gated_delta import GatedDelta as GatedDelta
    from rulekeep.mixers.gated_delta_2 import GatedDelta2 as GatedDelta2
    from rulekeep.mixers.gated_linear import GatedLinear as GatedLinear
    from rulekeep.mixers.gated_slots import GatedSlots as GatedSlots
    from rulekeep.mixers.gru import GRU as GRU
    from rulekeep.mixers.kda import KDA as KDA
    from rulekeep.mixers.linear_attention import LinearAttention as LinearAttention
    from rulekeep.mixers.lstm import LSTM as LSTM
    from rulekeep.mixers.matrix import MatrixMixer as MatrixMixer
    from rulekeep.mixers.retnet import RetNet as RetNet
    from rulekeep.mixers.routed_slots import RoutedSlots as RoutedSlots
    from rulekeep.mixers.sliding_window import SlidingWindow as SlidingWindow
    from rulekeep.mixers.slots import Slots as Slots
    from rulekeep.mixers.sparse_delta import SparseDelta as SparseDelta
    from rulekeep.mixers.ssd import SSD as SSD


MIXERS: "Registry[Mixer]" = Registry(
    "mixer",
    __name__,
    {
        "attention": "Attention",
        "forgetting_attention": "ForgettingAttention",
        "sliding_window": "SlidingWindow",
        "lstm": "LSTM",
        "gru": "GRU",
        "slots": "Slots",
        "linear_attention": "LinearAttention",
        "retnet": "RetNet",
        "ssd": "SSD",
        "gated_linear": "GatedLinear",
        "delta": "Delta",
        "gated_delta": "GatedDelta",
        "kda": "KDA",
        "gated_delta_2": "GatedDelta2",
        "gated_slots": "GatedSlots",
        "routed_slots": "RoutedSlots",
        "sparse_delta": "SparseDelta",
    },
    base="torch.nn.Module",
    needs={"init_state": "a layer without a state goes behind rulekeep.Stateless"},
)
# What is public and no mixer by name.
_OTHERS = {"Mixer": "base", "MatrixMixer": "matrix", "Stateless": "adapter"}


def __getattr__(name: str) -> Any:
    """A public class, imported when it is asked for."""
    return MIXERS.public(name, _OTHERS)
