"""A mixer from outside the package, in one file:

rulekeep run --mixer examples/outside_mixer.py:Fading --mixer-options.half-life 64

s ← a s + (1 − a) W x,   y = W' s          a = 2^(−1 / half_life)
"""

import torch
from torch import Tensor, nn


class Fading(nn.Module):
    """One running mean of what was read."""

    def __init__(self, width: int, *, half_life: float = 256.0) -> None:
        super().__init__()
        if not half_life > 0:
            raise ValueError(f"half_life {half_life}: must be above 0")
        self.keep = 0.5 ** (1 / half_life)
        self.write, self.read = nn.Linear(width, width), nn.Linear(width, width)

    def init_state(self, batch_size: int) -> tuple[Tensor]:
        """Nothing read yet."""
        return (self.write.weight.new_zeros(batch_size, self.write.out_features),)

    def forward(
        self, x: Tensor, state: tuple[Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor]]:
        """A token at a time."""
        (mean,) = state or self.init_state(len(x))
        means = []
        for new in self.write(x).unbind(dim=1):
            mean = self.keep * mean + (1 - self.keep) * new
            means.append(mean)
        return self.read(torch.stack(means, dim=1)), (mean,)
