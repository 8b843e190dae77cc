"""The mixers: how context is carried. One file each; `MIXERS` is the catalogue.

The docstring of a file opens with the name of the mixer and, in brackets, its source. Then come its
formula and a sentence "It cannot …". docs/mixers.md is made of these and of measurements.

Importing this package loads no torch: a mixer is imported when its class is asked for.

    MIXERS["delta"]                # the class, which loads torch
    "delta" in MIXERS, [*MIXERS]   # names alone
"""

from typing import TYPE_CHECKING, Any

from rulekeep.catalogue import Catalogue

if TYPE_CHECKING:
    from rulekeep.mixers.adapter import Stateless
    from rulekeep.mixers.attention import Attention
    from rulekeep.mixers.base import Mixer
    from rulekeep.mixers.delta import Delta
    from rulekeep.mixers.gated_delta import GatedDelta
    from rulekeep.mixers.gated_linear import GatedLinear
    from rulekeep.mixers.gated_slots import GatedSlots
    from rulekeep.mixers.gru import GRU
    from rulekeep.mixers.kda import KDA
    from rulekeep.mixers.linear_attention import LinearAttention
    from rulekeep.mixers.lstm import LSTM
    from rulekeep.mixers.matrix import MatrixMixer
    from rulekeep.mixers.retnet import RetNet
    from rulekeep.mixers.routed_slots import RoutedSlots
    from rulekeep.mixers.sliding_window import SlidingWindow
    from rulekeep.mixers.slots import Slots
    from rulekeep.mixers.sparse_delta import SparseDelta
    from rulekeep.mixers.ssd import SSD


MIXERS: "Catalogue[Mixer]" = Catalogue(
    __name__,
    {
        "attention": "Attention",
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
        "gated_slots": "GatedSlots",
        "routed_slots": "RoutedSlots",
        "sparse_delta": "SparseDelta",
    },
)
# What is public and no mixer of the catalogue.
_OTHERS = {"Mixer": "base", "MatrixMixer": "matrix", "Stateless": "adapter"}

__all__ = [
    "GRU",
    "KDA",
    "LSTM",
    "MIXERS",
    "SSD",
    "Attention",
    "Delta",
    "GatedDelta",
    "GatedLinear",
    "GatedSlots",
    "LinearAttention",
    "MatrixMixer",
    "Mixer",
    "RetNet",
    "RoutedSlots",
    "SlidingWindow",
    "Slots",
    "SparseDelta",
    "Stateless",
]


def __getattr__(name: str) -> Any:
    """A public class, imported when it is asked for."""
    return MIXERS.public(name, _OTHERS)
