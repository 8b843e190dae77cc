"""What is measured of a mixer at initialisation: bytes of its state, and how long a trace lasts.

    for size in state_sizes(mixer, 64, (64, 1028)):
    trace_half_life(mixer, 64)

Both feed standard normal vectors, as the norm of a block makes them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from rulekeep.mixers.base import Mixer, real
from rulekeep.running.costs import state_bytes

SIZED_AT = (64, 256, 1028, 4096, 16384)
# Pieces of a long text: a growing cache meets one piece of queries at a time.
_PIECE = 1024
# Tokens before the one that differs, and after it.
_BEFORE = 16
HORIZON = 4095


def device_of(mixer: Mixer) -> torch.device:
    """The device of its weights."""
    return next(mixer.parameters(), torch.empty(0)).device


class StateSize(NamedTuple):
    """Bytes of the state of one sequence after this many tokens, counted from its tensors."""

    tokens: int
    bytes: int


@torch.no_grad()
def state_sizes(mixer: Mixer, width: int, tokens: Sequence[int] = SIZED_AT) -> Iterator[StateSize]:
    """The size of a state after each of these lengths, in rising order."""
    stream, state, length = torch.Generator().manual_seed(0), None, 0
    device = device_of(mixer)
    for goal in tokens:
        while length < goal:
            time = min(_PIECE, goal - length)
            _, state = mixer(torch.randn(1, time, width, generator=stream).to(device), state)
            length += time
        yield StateSize(goal, state_bytes([state]))


@torch.no_grad()
def trace_half_life(mixer: Mixer, width: int) -> float | None:
    """Tokens of random text after which half of one token's trace in the state is left.

    Two texts differ in one token. The trace is the norm of the difference of their states, whole
    right after that token. Infinite if more than half is left after 4,095 tokens; None without a
    trace.
    """
    stream = torch.Generator().manual_seed(0)
    device = device_of(mixer)
    x = torch.randn(8, _BEFORE + 1 + HORIZON, width, generator=stream).to(device)
    other = x.clone()
    other[:, _BEFORE] = torch.randn(8, width, generator=stream).to(device)

    def go_on(pair: Sequence[Any], start: int, stop: int) -> list[Any]:
        both = zip((x, other), pair, strict=True)
        return [mixer(text[:, start:stop], state)[1] for text, state in both]

    start, step, lengthening = _BEFORE + 1, 1, True
    pair = go_on((None, None), 0, start)
    whole = _trace(pair)
    if not whole > 0:
        return None
    # Ever longer steps while more than half is left, then ever shorter ones.
    while step and start + step <= x.shape[1]:
        later = go_on(pair, start, start + step)
        if _trace(later) > whole / 2:
            pair, start = later, start + step
            step = 2 * step if lengthening else step // 2
        else:
            step, lengthening = step // 2, False
    return math.inf if step else start - _BEFORE


def _trace(pair: Sequence[Any]) -> float:
    # As two real ones: a part may be complex, flags have no difference, and bytes none that fits.
    parts = ([real(part).double() for part in state] for state in pair)
    return math.sqrt(sum((a - b).square().sum().item() for a, b in zip(*parts, strict=True)))
