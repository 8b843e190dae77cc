"""Which rules does a KV cache keep when its numbers are made coarse? Quantisation, side by side.

    python benchmarks/quantised.py --run                  # what results/quantised lacks
    python benchmarks/quantised.py                        # the tables, and quantised.png

Of which runs, and when, says caches.py: each layer's keys and values go to half precision, and by
two forms to so many bits,

    x ≈ m + s · round((x − m) / s)      s = (max − m) / (2^bits − 1),  m the least of a group

with m and s in half precision. A group is of one head, and of

    per token   a token's channels, for keys and values
    KIVI        keys: a channel of 32 tokens, the text's last 0 to 31 not rounded;
                values: a token's channels, the last 32 tokens not rounded     arXiv 2402.02750

Departures: KIVI has 2 and 4 bits; its groups of a token have 32 channels, a head here has 16, so
that m and s take twice as much; it goes on rounding while it answers, and here nothing is rounded
after the text; its prompts end with the question, and here it comes after. Keys are rounded as they
are cached, with rotary positions turned, as in its authors' code, of whose example the 32 tokens
are. The two forms differ by those tokens, too; no rule stands among them. The taps' own state, the
last seven tokens of a layer, is not rounded.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

import caches
import evictions
import torch
from caches import EXAMPLES, Compressing, Compression, Reading, Scores
from matplotlib.figure import Figure
from torch import Tensor

from rulekeep.printable import markdown_table
from rulekeep.tasks import Recite

ROOT = caches.RESULTS / "quantised"
BITS = (1, 2, 4, 8)
FORMS = ("per token", "KIVI")
HALF = Compression("half precision", 16)
COMPRESSIONS = [HALF, *(Compression(*one) for one in product(FORMS, BITS))]
# Of evictions, the one that keeps most; it stands in the figure.
BEST_EVICTION = "H2O"
# Tokens of a group of KIVI's keys, and its last values that are not rounded.
WINDOW = 32


def rounded(x: Tensor, bits: int, dim: int) -> Tensor:
    """`x` to so many bits, in groups along one of its dimensions."""
    # In half precision the ends move: a number beyond them is taken for the end.
    least = x.amin(dim, keepdim=True).half().to(x.dtype)
    most = x.amax(dim, keepdim=True)
    step = ((most - least) / (2**bits - 1)).half().to(x.dtype)
    # Equal numbers have no step.
    level = (x - least) / step.where(step > 0, torch.ones_like(step))
    return least + step * level.round().clamp(0, 2**bits - 1)


def not_rounded(form: str, text: int) -> tuple[int, int]:
    """How many keys and how many values at the end of a text stay in half precision."""
    if form == HALF.name:
        return text, text
    return (text % WINDOW, min(WINDOW, text)) if form == "KIVI" else (0, 0)


def quantised(cache: Any, by: Compression) -> Any:
    """A cache of a text, its keys and values rounded."""
    form, bits = by
    keys, values = (part.half().to(part.dtype) for part in (cache.keys, cache.values))
    text = keys.shape[2]
    key_end, value_end = (text - kept for kept in not_rounded(form, text))
    of_keys, of_values = cache.keys[:, :, :key_end], cache.values[:, :, :value_end]
    if form == "KIVI":
        groups = of_keys.unflatten(2, (-1, WINDOW))
        keys[:, :, :key_end] = rounded(groups, bits, dim=3).flatten(2, 3)
    else:
        keys[:, :, :key_end] = rounded(of_keys, bits, dim=3)
    values[:, :, :value_end] = rounded(of_values, bits, dim=3)
    return cache._replace(keys=keys, values=values)


def cache_bytes(by: Compression, text: int, width: int = 64, head_width: int = 16) -> float:
    """Bytes a layer that the keys and values of a text take, with m and s of every group."""
    form, bits = by
    groups = (WINDOW if form == "KIVI" else head_width, head_width)
    total = 0.0
    for group, kept in zip(groups, not_rounded(form, text), strict=True):
        total += kept * HALF.amount + (text - kept) * (bits + 2 * HALF.amount / group)
    return total * width / 8


class Quantising(Compressing):
    """A model whose caches are rounded once the text is read."""

    def compressed(self, reading: Reading) -> Iterable[Any]:
        """The cache of each layer, rounded."""
        return (quantised(cache, self.by) for cache in reading.state.layers)


LINES = [(form, [Compression(form, bits) for bits in BITS]) for form in FORMS]


def page(found: Scores) -> str:
    """KiB of a text, and a table a length, as Markdown: retention."""
    head = ["numbers", "1 bit", *(f"{bits} bits" for bits in BITS[1:])]
    sizes = [
        [f"{context:,} tokens", form, *(f"{kib(by, context):.1f} KiB" for by in compressions)]
        for context in EXAMPLES
        for form, compressions in LINES
    ]
    table = markdown_table(["a layer", *head], sizes)
    return f"{table}\n\n{caches.page(found, head, [(HALF.name, [HALF]), *LINES])}"


def kib(by: Compression, context: int) -> float:
    """KiB a layer of what is cached at a context, before the answer and the token before it."""
    return cache_bytes(by, context - Recite().answer_length - 1) / 1024


def figure(found: Scores) -> Figure:
    """Retention against KiB a layer, by form, beside tokens of half precision that are left."""
    context, cut_down = min(EXAMPLES), caches.scores(evictions.ROOT)
    sizes = {by: kib(by, context) for _, compressions in LINES for by in compressions}
    cuts = dict(evictions.LINES)[BEST_EVICTION]
    sizes |= {by: cache_bytes(HALF, by.amount) / 1024 for by in cuts}
    both = {cell: cut_down.get(cell, {}) | found[cell] for cell in found}
    lines = [*LINES, (f"{BEST_EVICTION}, half precision", cuts)]
    label = f"KiB a layer, of {kib(HALF, context):.1f} in half precision"
    return caches.figure(both, lines, sizes, (2, 4, 8, 16, 32, 64), label)


if __name__ == "__main__":
    caches.main(ROOT, Quantising, COMPRESSIONS, page, figure)
