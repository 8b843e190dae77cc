"""What surrounds a memory: the parts of this package's layers, and of the layers as published.

    mixer[published=true]      # the parts and the start of `PUBLISHED`, with options on top

Parts are in proportion to the width; heads stay as asked for. Sources: Mamba-2 of
github.com/state-spaces/mamba, RetNet of github.com/microsoft/torchscale, Raven of
github.com/goombalab/raven, Gated DeltaNet-2 of github.com/NVlabs/GatedDeltaNet-2, the others of
github.com/fla-org/flash-linear-attention.

Deviations of all eight: projections start as elsewhere here, and a head has norm weights of its
own. The product W' Diag(norm weight) can be the same.
"""

import math
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

# How decays start: at the half-life asked for, as published, or as `published` says.
DecayStart: TypeAlias = Literal["half_life", "published"] | None
HalfLife: TypeAlias = Annotated[float, Field(gt=0)]


class Parts(NamedTuple):
    """What surrounds a memory. The defaults are this package's."""

    # Channels over the width: of a key times heads, and of the values of all heads.
    keys: float = 1.0
    values: float = 1.0
    # All heads have the same keys and queries.
    shared_keys: bool = False
    # Scores are divided by the root of the key width; without a norm of the mean, of slots alone.
    scaled: bool = False
    output_gate: bool = False
    # The gate goes through as many channels as a head has values, and this function of torch.
    low_rank_gate: str = ""
    gate_before_norm: bool = False
    short_convolution: bool = False
    convolution_bias: bool = False
    # silu of values that no convolution has sent through it, and of what is read.
    silu_values: bool = False
    silu_read: bool = False
    # RMS norm of queries and keys, after their silu.
    key_norm: bool = False
    # The norm of what is read is over all channels, not over those of a head.
    norm_all: bool = False
    # Its ε is added to the mean of the squares, not to their sum.
    norm_of_mean: bool = False
    # A bias on the output, and on the write strength of a delta rule.
    biases: bool = True


OURS = Parts()
OUR_SLOTS = Parts(scaled=True)
_PUBLISHED = Parts(norm_of_mean=True, biases=False)

PUBLISHED: dict[str, Parts] = {
    # Keys, which all heads share, are twice as wide as a head's values: 128 to 64.
    "ssd": _PUBLISHED._replace(
        keys=4.0, values=2.0, shared_keys=True, output_gate=True, gate_before_norm=True,
        short_convolution=True, convolution_bias=True, norm_all=True,
    ),
    "retnet": _PUBLISHED._replace(keys=1.0, values=2.0, scaled=True, output_gate=True),
    "gated_linear": _PUBLISHED._replace(keys=0.5, scaled=True, output_gate=True),
    "gated_delta": _PUBLISHED._replace(
        keys=0.75, values=1.5, scaled=True, output_gate=True, short_convolution=True
    ),
    "kda": _PUBLISHED._replace(
        keys=1.0, scaled=True, output_gate=True, low_rank_gate="sigmoid", short_convolution=True
    ),
    "gated_delta_2": _PUBLISHED._replace(
        scaled=True, output_gate=True, low_rank_gate="silu", short_convolution=True
    ),
    "gated_slots": _PUBLISHED._replace(silu_values=True, silu_read=True, norm_all=True),
    "routed_slots": _PUBLISHED._replace(
        silu_values=True, silu_read=True, key_norm=True, output_gate=True
    ),
}  # fmt: skip


def rate_of_half_life(half_life_tokens: float | None) -> float:
    """The decay rate, −ln of the decay per token, that leaves half after this many tokens."""
    if half_life_tokens is None:
        raise ValueError("half_life_tokens None: this mixer cannot keep everything; give a number")
    return math.log(2) / half_life_tokens


def bias_of_half_life(half_life_tokens: float | None, root: int = 1) -> float:
    """The b for which sigmoid(b)^(1/root) is the decay of this half-life."""
    rate = root * rate_of_half_life(half_life_tokens)
    return -rate - math.log(-math.expm1(-rate))


def start_steps(bias: Tensor) -> Tensor:
    """Steps of Mamba-2 at the start, which are softplus of the bias: log-uniform, 0.001 to 0.1."""
    with torch.no_grad():
        steps = torch.exp(torch.empty_like(bias).uniform_(math.log(1e-3), math.log(0.1)))
        # The inverse of softplus.
        bias.copy_(steps.expm1().log())
    return steps


def start_decays(bias: Tensor, log_rate: Tensor, slowest: float) -> None:
    """The start of Mamba-2's decays: steps as above, e^A uniform from `slowest` to 16."""
    start_steps(bias)
    with torch.no_grad():
        log_rate.copy_(torch.empty_like(log_rate).uniform_(slowest, 16.0).log())


def low_rank_gate(width: int, rank: int, channels: int) -> nn.Sequential:
    """The gate of the output from x, before its function."""
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, channels))
