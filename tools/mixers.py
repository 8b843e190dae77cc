"""docs/mixers.md, out of the code: what each mixer does, and what it measures at.

    python tools/mixers.py > docs/mixers.md

A mixer's docstring opens with its name and, in brackets, its source; then stand its formula and a
sentence "It cannot …". All else is measured, on the CPU, at a width of 64.
"""

import inspect
import math
import re
import sys
from typing import get_args

import torch

from rulekeep.checks.numerics import HORIZON, state_sizes, trace_half_life
from rulekeep.mixers import MIXERS, Mixer
from rulekeep.printable import markdown_table
from rulekeep.running.costs import flops

WIDTH = 64
SIZES = (64, 1028, 16384)

HEAD = """# The mixers

Made by `python tools/mixers.py > docs/mixers.md` out of the code, and held to it by a test.
`rulekeep check MIXER` measures one of yours the same way.

## What each does

`S` is a matrix memory, and `k`, `v`, `q` are a token's key, value and query. `←` is done once a
token. The other letters, and what differs from the paper, stand in each mixer's own file.

"""
BETWEEN = f"""
## What each keeps and costs

One layer, {WIDTH} channels, its default options, as it is made before any training.

- **State**: bytes that one sequence carries to the next token, after so many tokens (float32).
- **Cost**: thousands of floating-point operations a token, of matrix products alone. In a text
  of 64 and of 1,028 tokens read at once, and for one token after 1,028. Causal attention counts
  as if it were full.
- **Half-life by itself**: tokens after which half is left without new input, of what lives
  longest. `∞`: nothing fades.
- **Half-life in text**: tokens of random text after which half of one token's trace is left in
  the state. `∞`: more than {HORIZON:,}.
- **Positions**: whether the last output depends on the order of 64 tokens before, and what an
  option adds. Any model can have learned positions, or how early a token is (`--added-positions
  learned`, `earliness`).

"""


def described(name: str, kind: type[Mixer]) -> list[str]:
    """What a mixer's docstring says of it."""
    text = inspect.getdoc(sys.modules[kind.__module__]) or ""
    source = re.search(r"\(([^()]*(?:19|20)\d\d[^()]*)\)", text)
    limit = re.search(r"It cannot (.+?)\.(?:\s|$)", text, re.DOTALL)
    block = re.search(r"(?:^ {4}.*\n)+", text, re.MULTILINE)
    lacking = f"{kind.__module__}: its docstring lacks its source, its formula or what it cannot do"
    assert source is not None, lacking
    assert limit is not None, lacking
    assert block is not None, lacking
    # Remarks stand further to the right, and are no formula.
    parts = [part for line in block[0].splitlines() for part in re.split(r" {2,}", line.strip())]
    formula = "; ".join(part.rstrip(",") for part in parts if re.search("[←=:]", part))
    paper = re.sub(
        r"arXiv (\d+\.\d+)", r"[arXiv \1](https://arxiv.org/abs/\1)", " ".join(source[1].split())
    )
    return [f"`{name}`", f"`{formula}`", paper, " ".join(limit[1].split())]


def measured(name: str, kind: type[Mixer]) -> list[str]:
    """What a mixer measures at, as it starts."""
    torch.manual_seed(0)
    mixer = kind(WIDTH)
    stated, traced = mixer.memory_half_life_tokens, trace_half_life(mixer, WIDTH)
    sizes = [*state_sizes(mixer, WIDTH, SIZES).values()]
    x = torch.randn(1, SIZES[1], WIDTH)
    with torch.no_grad():
        _, state = mixer(x)
    costs = [flops(lambda n=n: mixer(x[:, :n])) / n for n in SIZES[:2]]
    costs.append(flops(lambda: mixer(x[:, :1], state)))
    return [
        f"`{name}`",
        *(f"{size:,}" for size in sizes),
        *(f"{cost / 1000:.0f}" for cost in costs),
        tokens(stated),
        tokens(traced),
        positions(kind, mixer),
    ]


def tokens(value: float | None) -> str:
    """A half-life in a cell."""
    if value is None:
        return "–"
    if value == math.inf:
        return "∞"
    return f"{value:.1f}" if value < 10 and value % 1 else f"{value:,.0f}"


def positions(kind: type[Mixer], mixer: Mixer) -> str:
    """Whether it tells order, and what the option `positions` adds."""
    x = torch.randn(1, 64, WIDTH, dtype=torch.float64)
    swapped = x.clone()
    swapped[:, [10, 40]] = x[:, [40, 10]]
    with torch.no_grad():
        exact = mixer.double()
        off = (exact(x)[0][:, -1] - exact(swapped)[0][:, -1]).abs().max().item()
    said = "sees order" if off > 1e-9 else "blind to order"
    option = inspect.signature(kind).parameters.get("positions")
    added = [] if option is None else [one for one in get_args(option.annotation) if one != "none"]
    return said + (f"; {' or '.join(added)} by option" if added else "")


def page() -> str:
    """The whole of docs/mixers.md."""
    does = markdown_table(
        ["mixer", "formula", "source", "it cannot"],
        [described(name, kind) for name, kind in MIXERS.items()],
    )
    keeps = markdown_table(
        [
            "mixer", "state at 64", "at 1,028", "at 16,384", "cost in 64", "in 1,028", "decoding",
            "half-life by itself", "in text", "positions",
        ],
        [measured(name, kind) for name, kind in MIXERS.items()],
    )  # fmt: skip
    return f"{HEAD}{does}\n{BETWEEN}{keeps}\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(page())
