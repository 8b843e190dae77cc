"""The delta rule, DeltaNet (Yang et al. 2024, arXiv 2406.06484): a write replaces.

    q, k = silu(W x) / |silu(W x)|,   β = sigmoid(w · x)      per head
    S ← S + β k (v − Sᵀ k)ᵀ
    o = norm(Sᵀ q)                                            per head, RMS norm

What is held under a key is replaced by β of the way to the new value; nothing else fades.
Deviations: values pass as they are (published: silu), no short convolution.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.chunks import delta_chunks, delta_loop, unit
from rulekeep.mixers.base import MatrixMixer


class Delta(MatrixMixer):
    """Writes the difference between the value and what the key already reads."""

    chunk = 16

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        key_width: int | None = None,
        output_gate: bool = False,
        serial: bool = False,
    ) -> None:
        super().__init__(
            width, heads=heads, key_width=key_width, output_gate=output_gate, serial=serial
        )
        self.write = nn.Linear(width, heads)

    def _read(
        self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        queries, keys = unit(F.silu(queries_keys)).chunk(2, dim=-2)
        write = self.write(x).sigmoid().unsqueeze(-1)
        if self.serial:
            return delta_loop(queries, keys, values, write, state[0])
        return delta_chunks(queries, keys, values, write, state[0], chunk=self.chunk)
