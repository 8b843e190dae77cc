"""Each mechanism against its formula, written a token at a time from its parameters alone.

A mixer's loop and its fast form share projections, feature maps and gates: what is wrong there is
the same in both. Nothing here is shared with either.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from small_pieces import pieces_of
from torch import Tensor

from rulekeep.mixers import MIXERS

WIDTH, HEADS = 16, 2
LENGTHS = (1, 2, 17, 40)


class Parts(NamedTuple):
    """Of one sequence: `[time, heads, key or value width]`, a shared key once for all heads."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    gate: Tensor | None
    recent: Tensor | None


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def silu(x: Tensor) -> Tensor:
    return x * sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(x))


def affine(layer: Any, x: Tensor) -> Tensor:
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def attended(m: Any, x: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Softmax attention over the whole text, or over a window and its sinks."""
    parts, size = affine(m.in_projection, x), options.get("conv_size")
    if size is not None:
        inputs = torch.cat([parts.new_zeros(size - 1, parts.shape[1]), parts])
        parts = torch.stack([(m.filters * inputs[t : t + size]).sum(0) for t in range(len(x))])
    queries, keys, values = (part.view(len(x), HEADS, -1) for part in parts.split(WIDTH, -1))
    width, position = WIDTH // HEADS, options.get("positions", "none")

    def turned(part: Tensor, place: int, last: int) -> Tensor:
        if position != "rotary":
            return part
        half = width // 2
        angles = [place * frequency(2 * i, last) for i in range(half)]
        cos, sin = (x.new_tensor([f(a) for a in angles]) for f in (math.cos, math.sin))
        first, second = part[:half], part[half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin])

    def stretch(last: int) -> float:
        own = last // options["trained_length"] + 1 if "trained_length" in options else 1
        return options.get("scaling_factor", own) if own > 1 else 1

    def frequency(channel: int, last: int) -> float:
        base, s, by = options["rotary_base"], stretch(last), options.get("scaling")
        if by == "ntk":
            base *= s ** (width / (width - 2))
        plain: float = base ** (-channel / width)
        if by == "interpolation":
            return plain / s
        if by != "yarn":
            return plain
        # The channels, counted in pairs, that turn 32 times and once.
        fast, slow = (
            width * math.log(options["trained_length"] / turns / 2 / math.pi) / 2 / math.log(base)
            for turns in (32, 1)
        )
        low, high = max(math.floor(fast), 0), min(math.ceil(slow), width - 1)
        share = min(max((channel / 2 - low) / (high - low), 0), 1)
        return plain * (1 - share) + plain / s * share

    out = torch.empty(len(x), HEADS, width, dtype=torch.float64)
    for t in range(len(x)):
        seen = list(range(t + 1))
        if "window" in options:
            seen = [i for i in seen if i < options["sinks"] or i > t - options["window"]]
        # In a window a place is that in the cache.
        places = {i: place if "window" in options else i for place, i in enumerate(seen)}
        for h in range(HEADS):
            query = turned(queries[t, h], places[t], t)
            scores = torch.stack([query @ turned(keys[i, h], places[i], t) for i in seen])
            scores = scores / math.sqrt(width)
            if by := options.get("length_scaling"):
                factor = math.log(t + 1) / math.log(options["trained_length"])
                scores = scores * (max(1, factor) if by == "beyond" else factor)
            if options.get("scaling") == "yarn":
                scores = scores * (0.1 * math.log(stretch(t)) + 1) ** 2
            if hasattr(m, "forget"):
                faded = sigmoid(affine(m.forget, x))[:, h].log()
                scores += torch.stack([faded[i + 1 : t + 1].sum() for i in seen])
            if position == "alibi":
                scores -= 2 ** (-8 * (h + 1) / HEADS) * (t - torch.tensor(seen))
            weights = scores.exp() / scores.exp().sum()
            out[t, h] = weights @ values[seen, h]
    return affine(m.out_projection, out.view(len(x), WIDTH))


def projected(
    name: str, m: Any, x: Tensor, state: list[Tensor], options: Mapping[str, Any]
) -> Parts:
    """Queries, keys and values, through the short convolution or a silu, as the mixer has them."""
    heads = 1 if name == "ssd" else HEADS
    mixed = 2 * heads * m.key_width + WIDTH
    both = x @ m.in_projection.weight.T
    gate = both[:, mixed:] if options.get("output_gate") else None
    both, recent = both[:, :mixed], None
    if options.get("short_convolution"):
        inputs = torch.cat([state.pop(), both])
        recent = inputs[-3:]
        both = torch.stack(
            [silu((m.convolution * inputs[t : t + 4]).sum(0)) for t in range(len(x))]
        )
    queries, keys, values = both.split([heads * m.key_width, heads * m.key_width, WIDTH], -1)
    queries, keys = (part.view(len(x), heads, -1).expand(-1, HEADS, -1) for part in (queries, keys))
    if recent is None and name in (*DELTA, "gated_slots", "routed_slots"):
        queries, keys = silu(queries), silu(keys)
    return Parts(queries, keys, values.view(len(x), HEADS, -1), gate, recent)


def decays(name: str, m: Any, x: Tensor, options: Mapping[str, Any]) -> Tensor:
    """What each token leaves of the memory, `[time, heads, key width or slots]`."""
    one = torch.ones(len(x), HEADS, m.key_width, dtype=torch.float64)
    if name == "retnet":
        half_lives = [options["half_life_tokens"] / 2 ** (HEADS - 1 - h) for h in range(HEADS)]
        return one * x.new_tensor([[2 ** (-1 / tokens)] for tokens in half_lives])
    if name in ("ssd", "gated_delta"):
        return one * torch.exp(-m.log_rate.exp() * softplus(affine(m.step, x)))[..., None]
    if name == "gated_linear":
        return sigmoid(affine(m.decay[1], affine(m.decay[0], x))).pow(1 / 16).view_as(one)
    if name in ("kda", "gated_delta_2"):
        step = softplus(affine(m.step[1], affine(m.step[0], x)))
        return torch.exp(-m.log_rate.exp() * step.view_as(one))
    if name == "gated_slots":
        return sigmoid(affine(m.gate, x)).pow(1 / 8).view(len(x), HEADS, -1)
    if name == "routed_slots":
        chances = sigmoid(affine(m.router, x)).view(len(x), HEADS, -1)
        least = chances.sort(-1, descending=True).values[..., m.top_k - 1 : m.top_k]
        routed = torch.where(chances >= least, chances, 0)
        routed = routed / routed.sum(-1, keepdim=True)
        return torch.exp(-(m.log_rate.exp() * softplus(affine(m.step, x)))[..., None] * routed)
    return one


def strengths(m: Any, x: Tensor, pending: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """β of each token and head, from it and the tokens before; what it adds to later tokens."""
    after = m.gate_kernel - 1
    z = x.new_zeros(len(x) + after, HEADS)
    z[: len(x)] += affine(m.write, x)
    if pending is not None:
        z[:after] += pending
    for t in range(len(x)):
        for later in range(after):
            z[t + 1 + later] += m.write_before.weight[HEADS * later :][:HEADS] @ x[t]
    return sigmoid(z[: len(x)]), z[len(x) :]


def remembered(
    name: str, m: Any, x: Tensor, state: list[Tensor], options: Mapping[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """A memory that each token changes, and the output read from it."""
    queries, keys, values, gate, recent = projected(name, m, x, state, options)
    kept = decays(name, m, x, options)
    if name in DELTA:
        queries, keys = unit(queries), unit(keys)
    if name == "gated_delta_2":
        erasers = keys * sigmoid(affine(m.erase, x)).view_as(keys)
        values = values * sigmoid(affine(m.write, x)).view_as(values)
    elif name in DELTA:
        strength, later = strengths(m, x, *state[1:])
        state[1:] = [later] * len(state[1:])
    if name == "linear_attention":
        queries, keys = (torch.where(z > 0, z + 1, z.exp()) for z in (queries, keys))
    reads = torch.empty(len(x), HEADS, WIDTH // HEADS, dtype=torch.float64)
    for t in range(len(x)):
        for h in range(HEADS):
            q, k, v, a = queries[t, h], keys[t, h], values[t, h], kept[t, h]
            memory = state[0][h]
            if name in ("gated_slots", "routed_slots"):
                memory.copy_(a[:, None] * memory + (1 - a)[:, None] * k)
                state[1][h].copy_(a[:, None] * state[1][h] + (1 - a)[:, None] * v)
                scores = (memory @ q / math.sqrt(m.key_width)).exp()
                reads[t, h] = scores @ state[1][h] / scores.sum()
                continue
            memory.copy_(torch.diag(a) @ memory)
            if name == "gated_delta_2":
                memory += torch.outer(k, v - memory.T @ erasers[t, h])
            elif name in DELTA:
                memory += strength[t, h] * torch.outer(k, v - memory.T @ k)
            elif name == "ssd":
                memory += softplus(affine(m.step, x))[t, h] * torch.outer(k, v)
            else:
                memory += torch.outer(k, v)
            reads[t, h] = memory.T @ q
            if name == "ssd":
                reads[t, h] += m.skip[h] * v
            if name == "linear_attention":
                state[1][h] += k
                reads[t, h] /= state[1][h] @ q + 1e-6
    if name != "linear_attention":
        reads = reads / torch.sqrt((reads * reads).sum(-1, keepdim=True) + 1e-5) * m.norm_weight
    reads = reads.view(len(x), WIDTH)
    if gate is not None:
        reads = reads * silu(gate)
    return affine(m.out_projection, reads), state if recent is None else [*state, recent]


def recurrent(
    name: str, m: Any, x: Tensor, state: list[Tensor], options: Mapping[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """torch's layers, in the order in which torch stacks the rows of their gates."""
    of_x, of_hidden, bias_x, bias_hidden = m.layer.parameters()
    hidden, *cell = state
    outputs = []
    for new in x:
        from_x = (of_x @ new + bias_x).split(WIDTH)
        from_hidden = (of_hidden @ hidden + bias_hidden).split(WIDTH)
        if name == "gru":
            reset, keep = (sigmoid(a + b) for a, b in zip(from_x[:2], from_hidden[:2], strict=True))
            candidate = torch.tanh(from_x[2] + reset * from_hidden[2])
            hidden = (1 - keep) * candidate + keep * hidden
        else:
            write, forget, candidate, read = (
                a + b for a, b in zip(from_x, from_hidden, strict=True)
            )
            cell = [sigmoid(forget) * cell[0] + sigmoid(write) * torch.tanh(candidate)]
            hidden = sigmoid(read) * torch.tanh(cell[0])
        outputs.append(hidden)
    return torch.stack(outputs), [hidden, *cell]


DELTA = ("delta", "gated_delta", "kda", "gated_delta_2")
WINDOW = {"window": 7, "sinks": 3}
ROTARY = {"positions": "rotary", "rotary_base": 100.0}
# The half-lives are short, so that a decay is seen.
MATRICES: dict[str, dict[str, Any]] = {
    "linear_attention": {},
    "retnet": {"half_life_tokens": 20.0},
    "ssd": {"half_life_tokens": 5.0},
    "gated_linear": {"half_life_tokens": 5.0},
    "delta": {},
    "gated_delta": {"half_life_tokens": 5.0},
    "kda": {"half_life_tokens": 5.0},
    "gated_delta_2": {"half_life_tokens": 5.0},
    "gated_slots": {"slots": 6, "half_life_tokens": 5.0},
    "routed_slots": {"slots": 6, "top_k": 2, "half_life_tokens": 5.0},
}
RECURRENT: dict[str, dict[str, Any]] = {"lstm": {}, "gru": {}}
PUBLISHED = {"output_gate": True, "short_convolution": True, "key_width": 5}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {}),
    "attention rotary": ("attention", ROTARY),
    "attention alibi": ("attention", {"positions": "alibi"}),
    "attention alibi convolved": ("attention", {"positions": "alibi", "conv_size": 3}),
    **{
        f"attention {by}": ("attention", {**ROTARY, "scaling": by, "trained_length": 20})
        for by in ("interpolation", "ntk", "yarn")
    },
    "attention yarn by a factor": (
        "attention",
        {**ROTARY, "scaling": "yarn", "trained_length": 9, "scaling_factor": 8.0, "conv_size": 3},
    ),
    **{
        f"attention by the logarithm of the length, {by}": (
            "attention",
            {"length_scaling": by, "trained_length": 9, **more},
        )
        for by, more in (("beyond", ROTARY), ("always", {"conv_size": 3}))
    },
    "attention convolved": ("attention", {"conv_size": 3}),
    "attention rotary convolved": ("attention", {"conv_size": 4, **ROTARY}),
    "forgetting_attention": ("forgetting_attention", {"half_life_tokens": 5.0}),
    "forgetting_attention convolved": (
        "forgetting_attention",
        {"half_life_tokens": None, "conv_size": 3},
    ),
    "window": ("sliding_window", WINDOW),
    "window of one token": ("sliding_window", {"window": 1, "sinks": 0}),
    "window rotary": ("sliding_window", {**WINDOW, **ROTARY}),
    "window rotary, longer than a block": ("sliding_window", {"window": 33, "sinks": 2, **ROTARY}),
    **{name: (name, options) for name, options in (MATRICES | RECURRENT).items()},
    **{f"{name} published": (name, {**of, **PUBLISHED}) for name, of in MATRICES.items()},
    **{
        f"{name} with a gate of four tokens": (name, {**MATRICES[name], "gate_kernel": 4, **more})
        for name, more in (("delta", {}), ("gated_delta", PUBLISHED), ("kda", PUBLISHED))
    },
}
# Mixers whose formula is held elsewhere, as it has parts of its own.
ELSEWHERE = {
    "slots": "test_article_models.py compares it with the published code",
    "sparse_delta": "test_sparse_delta.py",
}


def test_every_mixer_of_the_catalogue_has_a_formula() -> None:
    held = {name for name, _ in CASES.values()} | ELSEWHERE.keys()
    assert held == set(MIXERS), "write its formula here, or say in ELSEWHERE where it is held"


@pytest.mark.parametrize("case", CASES)
def test_output_and_state_are_those_of_the_formula(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the form that runs, and of its loop if it has one."""
    pieces_of(64, monkeypatch)
    name, options = CASES[case]
    torch.manual_seed(1)
    own = options if name in RECURRENT else {"heads": HEADS, **options}
    m: Any = MIXERS[name](WIDTH, **own).double()
    with torch.no_grad():
        for parameter in m.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    forms = [m]
    if name in MATRICES:
        forms.append(MIXERS[name](WIDTH, **own, serial=True).double())
        forms[1].load_state_dict(m.state_dict())
    with torch.no_grad():
        for length in LENGTHS:
            x = torch.randn(2, length, WIDTH, dtype=torch.float64)
            state = m.init_state(2)
            if name in MATRICES | RECURRENT:
                state = type(state)(*(torch.rand_like(part) + 0.1 for part in state))
            made = [form(x, state) for form in forms]
            for row in range(2):
                if name not in MATRICES | RECURRENT:
                    expected = attended(m, x[row], options)
                    for y, _ in made:
                        torch.testing.assert_close(y[row], expected)
                    continue
                before = [part[row].clone() for part in state]
                formula = recurrent if name in RECURRENT else remembered
                expected, left = formula(name, m, x[row], before, options)
                # The decays of retnet are kept in float32.
                near = {"rtol": 1e-5, "atol": 1e-5} if name == "retnet" else {}
                for y, after in made:
                    torch.testing.assert_close(y[row], expected, **near)
                    for found, wanted in zip(after, left, strict=True):
                        torch.testing.assert_close(found[row], wanted, **near)
