"""Properties of a mixer's numbers: gradients, precision, the bytes of its state, its memory.

What is measured at initialisation feeds standard normal vectors, as the norm of a block makes them.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from rulekeep.checks.subject import (
    Differences,
    Size,
    Subject,
    Verdict,
    as_function,
    dtype_of,
    is_number,
    named,
    of_state,
    other_defaults,
    run,
)
from rulekeep.mixers import Mixer
from rulekeep.mixers.base import part_of, real
from rulekeep.registry import failure_line
from rulekeep.running.costs import state_bytes

ALLOWED_IN_FLOAT32 = 1e-3
ALLOWED_OF_SLOPES = 1e-4
_STEP, _LEAST = 1e-6, 1e-9
# Tokens of a hard input; eight times as many of the same.
HARD = 512


def slopes(subject: Subject) -> Verdict:
    """Gradients against central differences along a random direction, as torch compares them."""
    mixer = subject.made()
    if getattr(part_of(mixer), "surrogate_gradient", False):
        return None, "skipped: it says that its gradient is a surrogate, and no slope"
    for size in (Size(2, 1), Size(2, 17), Size(2, 65)):
        x = subject.drawn(size.batch, size.length)
        # Without a state too: what it starts from may be learned.
        for past, state in ((size.past, subject.state(mixer, size)), (0, None)):
            try:
                torch.autograd.gradcheck(
                    *as_function(mixer, x, state), fast_mode=True, eps=_STEP,
                    atol=_LEAST, rtol=ALLOWED_OF_SLOPES, check_undefined_grad=False,
                )  # fmt: skip
            except RuntimeError as error:
                said = " ".join(str(error).split())[:300]
                return False, f"{size.length} tokens after {past}, batch 2: {said}"
    return True, f"as central differences at 1, 17 and 65 tokens; allowed: {ALLOWED_OF_SLOPES:.0e}"


def reach(subject: Subject) -> Verdict:
    """The last output has a gradient at the first token."""
    mixer, lengths = subject.made(), list[int]()
    for size in subject.longer(than=1):
        x = subject.drawn(size.batch, size.length).requires_grad_()
        last = mixer(x)[0][:, -1].square().sum()
        (gradient,) = torch.autograd.grad(last, x, allow_unused=True, materialize_grads=True)
        if gradient[:, 0].any():
            lengths.append(size.length)
    if not lengths:
        return False, "never reaches it"
    return True, f"reaches it from {max(lengths)} tokens on"


def precision(subject: Subject) -> Verdict:
    """float32 on what is hard: finite, and near float64 where nothing is large."""
    differences = Differences(ALLOWED_IN_FLOAT32)
    rough, exact = subject._replace(dtype=torch.float32).as_it_starts(), subject.as_it_starts()
    text = subject.drawn(1, HARD)
    same = text[:, :1].expand(1, 8 * HARD, -1)
    cases = {"random tokens": text, "the same token": same, "values of 1e3": 1e3 * text}
    for name, x in cases.items():
        where = f"{name}, {x.shape[1]:,} tokens, float32"
        found = run(rough, x.float(), rough.init_state(1), [x.shape[1]])
        for what, part in found.items():
            if not part.isfinite().all():
                return False, f"{int((~part.isfinite()).sum())} not finite ({what}, {where})"
        if name != "values of 1e3":
            with torch.no_grad():
                differences.add(
                    {"output": found["output"].double()}, {"output": exact(x)[0]}, where
                )
    passed, said = differences.verdict
    return passed, f"{said}; finite with values of 1e3"


def follows(subject: Subject) -> Verdict:
    """Precision and device are those of the input and the weights, not torch's defaults."""
    for dtype, other in ((torch.float64, torch.float32), (torch.float32, torch.float64)):
        typed = subject._replace(dtype=dtype)
        mixer, x = typed.made(), typed.drawn(2, 33)
        for device in ("cpu", "meta"):
            with other_defaults(device, other):
                try:
                    initial = of_state(mixer.init_state(2))
                    first = {f"initial {name}": part for name, part in initial.items()}
                    found = {**named(*mixer(x, mixer.init_state(2))), **first}
                except Exception as error:
                    # Nothing is computed on the device meta: what is made there is seen at once.
                    if device == "cpu":
                        return False, failure_line(error)
                    made = "made on torch's default device, not with device=x.device"
                    return False, f"{made}: {failure_line(error)}"
            for name, part in found.items():
                if is_number(part) and part.dtype != dtype_of(part, dtype):
                    return False, f"{name} is {part.dtype} for a mixer and input of {dtype}"
                if part.device != x.device:
                    return False, f"{name} is on torch's default device, not on that of the input"
    return True, "float32 and float64, each while the other is torch's default; another device too"


def state_size(subject: Subject) -> Verdict:
    """How the state grows, counted from its tensors; growing is no fault."""
    subject = subject._replace(dtype=torch.float32)
    sizes = state_sizes(subject.as_it_starts(), subject.width)
    first, *_, last = sizes
    if len({*sizes.values()}) == 1:
        return True, f"constant: {sizes[last]:,} bytes at {first} to {last:,} tokens"
    listed = ", ".join(f"{size:,} at {tokens:,}" for tokens, size in sizes.items())
    a_token = (sizes[last] - sizes[first]) / (last - first)
    return True, f"growing, {a_token:,.0f} bytes a token: {listed} tokens"


def half_life(subject: Subject) -> Verdict:
    """How long it remembers at the start; a short memory is no fault."""
    mixer = subject._replace(dtype=torch.float32).as_it_starts()
    stated, left = mixer.memory_half_life_tokens, trace_half_life(mixer, subject.width)
    if left is None:
        return None, "skipped: a token leaves no trace in the state"
    traced = f"more than {HORIZON:,}" if left > HORIZON else f"{left:,.0f}"
    own = ""
    if stated is not None:
        kept = "nothing fades" if stated == math.inf else f"half is left after {stated:,.1f}"
        own = f"; by itself, without new input, {kept}"
    return True, f"half of a token's trace in the state is left after {traced} random tokens{own}"


SIZED_AT = (64, 256, 1028, 4096, 16384)
# Pieces of a long text: a growing cache meets one piece of queries at a time.
_PIECE = 1024
# Tokens before the one that differs, and after it.
_BEFORE = 16
HORIZON = 4095


@torch.no_grad()
def state_sizes(mixer: Mixer, width: int, tokens: Sequence[int] = SIZED_AT) -> dict[int, int]:
    """Bytes of the state of one sequence after each of these lengths, in rising order."""
    stream, state, length = torch.Generator().manual_seed(0), None, 0
    sizes = dict[int, int]()
    device = next(mixer.parameters(), torch.empty(0)).device
    for goal in tokens:
        while length < goal:
            time = min(_PIECE, goal - length)
            _, state = mixer(torch.randn(1, time, width, generator=stream).to(device), state)
            length += time
        sizes[goal] = state_bytes([state])
    return sizes


@torch.no_grad()
def trace_half_life(mixer: Mixer, width: int) -> float | None:
    """Tokens of random text after which half of one token's trace in the state is left.

    Two texts differ in one token. The trace is the norm of the difference of their states, whole
    right after that token. Infinite if more than half is left after 4,095 tokens; None without a
    trace.
    """
    stream = torch.Generator().manual_seed(0)
    device = next(mixer.parameters(), torch.empty(0)).device
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
