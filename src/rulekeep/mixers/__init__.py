"""The mixers: how context is carried. One file each; `MIXERS` is the catalogue."""

from rulekeep.mixers.attention import Attention
from rulekeep.mixers.base import Mixer
from rulekeep.mixers.slots import Slots

MIXERS: dict[str, type[Mixer]] = {"attention": Attention, "slots": Slots}

__all__ = ["MIXERS", "Attention", "Mixer", "Slots"]
