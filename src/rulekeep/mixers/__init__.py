"""The mixers: how context is carried. One file each; `MIXERS` names them.

The docstring of a file opens with the name of the mixer and, in brackets, its source. Then come its
formula and a sentence "It cannot …". docs/mixers.md is made of these and of measurements.

Importing this package loads no torch: a mixer is imported when its class is asked for. What others
derive from has its type here; the classes of single mixers are `Any` to a type checker.

    MIXERS["delta"]                # the class, which loads torch
    "delta" in MIXERS, [*MIXERS]   # names alone
"""

from typing import TYPE_CHECKING, Any

from rulekeep.registry import Registry

if TYPE_CHECKING:
    from rulekeep.mixers.adapter import Stateless as Stateless
    from rulekeep.mixers.base import Mixer as Mixer
    from rulekeep.mixers.matrix import MatrixMixer as MatrixMixer


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
