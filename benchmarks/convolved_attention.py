"""`attention[conv_size=8]` under the name that its records have."""

from rulekeep.mixers.attention import Attention


class ConvolvedAttention(Attention):
    """`attention` without positions whose queries, keys and values see the tokens before."""

    version = 1

    def __init__(self, width: int, *, heads: int = 4, taps: int = 8) -> None:
        super().__init__(width, heads=heads, conv_size=taps)
