"""Which rules does a KV cache keep when its numbers are made coarse? Quantisation, side by side.

    python benchmarks/quantised.py --run                  # what results/quantised lacks
    python benchmarks/quantised.py                        # the tables, and quantised.png

Of which runs, and when, says caches.py: each layer's keys and values are rounded to so many bits,

    x ≈ m + s · round((x − m) / s)      s = (max − m) / (2^bits − 1),  m the least of a group

with m and s in half precision. A group is of one head, and of

    by token    a token's channels, for keys and values
    KIVI        keys: a channel of 32 tokens, the text's last 1 to 31 whole where it is no multiple;
                values: a token's channels, the last 32 tokens whole           arXiv 2402.02750

Departures: KIVI's groups have 32 channels, a head here has 16; its paper leaves up to 128 tokens
whole, its authors' example 32. What is said after the text is not rounded, as KIVI's is not before
32 tokens have come. Keys are rounded as they are cached, with rotary positions turned. The taps'
own state, the last seven tokens of a layer, is not rounded.
"""

import argparse
import sys
from collections.abc import Iterable
from itertools import product
from typing import Any

import caches
import torch
from caches import EXAMPLES, WHOLE, Compressing, Compression, Reading, Scores
from matplotlib.figure import Figure
from torch import Tensor

from rulekeep.article.report import markdown_table
from rulekeep.plots import as_bytes
from rulekeep.store import write_bytes

ROOT = caches.RESULTS / "quantised"
FIGURE = "quantised.png"
BITS = (1, 2, 3, 4, 8)
FORMS = ("by token", "KIVI")
COMPRESSIONS = [Compression(*one) for one in product(FORMS, BITS)]
# Tokens of a group of KIVI's keys, and its last values that stay whole.
RESIDUAL = 32
_HALF_BITS, _WHOLE_BITS = 16, 32


def rounded(x: Tensor, bits: int, dim: int) -> Tensor:
    """`x` to so many bits, in groups along one of its dimensions."""
    # In half precision the ends move: a number beyond them is taken for the end.
    least = x.amin(dim, keepdim=True).half().to(x.dtype)
    most = x.amax(dim, keepdim=True)
    step = ((most - least) / (2**bits - 1)).half().to(x.dtype)
    # A group of one number has no step.
    level = (x - least) / step.where(step > 0, torch.ones_like(step))
    return least + step * level.round().clamp(0, 2**bits - 1)


def whole_tokens(form: str, text: int) -> tuple[int, int]:
    """How many keys and how many values stay whole at the end of a text."""
    return (text % RESIDUAL, min(RESIDUAL, text)) if form == "KIVI" else (0, 0)


def quantised(cache: Any, by: Compression) -> Any:
    """A cache of a text, its keys and values rounded."""
    form, bits = by
    keys, values = cache.keys.clone(), cache.values.clone()
    text = keys.shape[2]
    coarse_keys, coarse_values = (text - whole for whole in whole_tokens(form, text))
    early = keys[:, :, :coarse_keys]
    if form == "KIVI":
        groups = early.unflatten(2, (-1, RESIDUAL))
        keys[:, :, :coarse_keys] = rounded(groups, bits, dim=3).flatten(2, 3)
    else:
        keys[:, :, :coarse_keys] = rounded(early, bits, dim=3)
    values[:, :, :coarse_values] = rounded(values[:, :, :coarse_values], bits, dim=3)
    return cache._replace(keys=keys, values=values)


def cache_bytes(by: Compression, text: int, width: int = 64, head_width: int = 16) -> float:
    """Bytes a layer that the keys and values of a text take, with m and s of every group."""
    form, bits = by
    if by == WHOLE:
        return 2 * text * width * _WHOLE_BITS / 8
    groups = (RESIDUAL if form == "KIVI" else head_width, head_width)
    total = 0.0
    for group, whole in zip(groups, whole_tokens(form, text), strict=True):
        total += whole * _WHOLE_BITS + (text - whole) * (bits + 2 * _HALF_BITS / group)
    return total * width / 8


class Quantising(Compressing):
    """A model whose caches are rounded once the text is read."""

    def compressed(self, reading: Reading) -> Iterable[Any]:
        """The cache of each layer, rounded."""
        return (quantised(cache, self.by) for cache in reading.state.layers)


def page(found: Scores) -> str:
    """KiB that a text takes, and a table a length, as Markdown: retention."""
    head = ["rounded", "1 bit", *(f"{bits} bits" for bits in BITS[1:])]
    lines = [(form, [Compression(form, bits) for bits in BITS]) for form in FORMS]
    text = min(EXAMPLES)
    sizes = [
        [form, *(f"{cache_bytes(by, text) / 1024:.1f}" for by in compressions)]
        for form, compressions in lines
    ]
    kib = markdown_table([f"KiB a layer of {text} tokens", *head[1:]], sizes)
    return f"{kib}\n\n{caches.page(found, head, lines)}"


def figure(found: Scores) -> Figure:
    """Retention against bits, by form."""
    return caches.figure(found, FORMS, BITS, f"bits a number, of {min(EXAMPLES)} tokens")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", action="store_true")
    if parser.parse_args().run:
        caches.run(ROOT, Quantising, COMPRESSIONS)
    else:
        every = caches.scores(ROOT)
        write_bytes(ROOT / FIGURE, as_bytes(figure(every), "png"))
        sys.stdout.write(page(every) + "\n")
