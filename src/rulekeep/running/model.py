"""One small language model for every mixer: embeddings, (mixer, feed-forward) blocks, a head.

    x = E[token] + P[position]
    x = x + mixer(norm(x))
    x = x + W2 gelu(W1 norm(x) + b1) + b2          each in turn, `layers` times (pre-norm)
    logits = W norm(x)

Every part draws its initial weights from its own stream: with equal seeds, all mixers start from
the same embeddings, feed-forward layers and head. A mixer keeps its own initialisation.

    >>> model = LanguageModel(vocabulary=100, mixer="sparse_delta")
    >>> logits, state = model(tokens)               # doctest: +SKIP
    >>> more, state = model(next_tokens, state)     # doctest: +SKIP
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rulekeep.kernels.feed_forward import feed_forward
from rulekeep.mixers import MIXERS
from rulekeep.mixers.base import Mixer, check_shape
from rulekeep.running.building import mixers_of
from rulekeep.seeds import named_seed
from rulekeep.specs import Option, Positions, RunSpec, UsageError

# Of the signal of how early a token is: bumps in log-time, the last of them for good.
_BUMPS = 16
_EARLY_TOKENS = 64


class ModelState(NamedTuple):
    """The number of tokens read so far, and the state of each layer."""

    tokens: int
    layers: tuple[Any, ...]


_Maker: TypeAlias = str | type[nn.Module] | Callable[[], Mixer]


class Block(nn.Module):
    """x + mixer(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, width: int, hidden: int, mixer: Mixer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = mixer
        self.norm_mixed = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor, state: Any | None) -> tuple[Tensor, Any]:
        """Outputs at every position, and the mixer's state after the last."""
        y, after = self.mixer(self.norm(x), state)
        check_shape(self.mixer, y, x.shape)
        return self._around(x, y), after

    def tail(self, x: Tensor, last: int) -> Tensor:
        """Outputs of a whole sequence at its last positions only."""
        y = self.mixer.tail(self.norm(x), last)
        check_shape(self.mixer, y, x[:, -last:].shape)
        return self._around(x[:, -last:], y)

    def _around(self, x: Tensor, mixed: Tensor) -> Tensor:
        return feed_forward(
            x, mixed, self.norm_mixed, self.expand, self.contract, None, add_normed=False
        )


class LanguageModel(nn.Module):
    """Next-token logits from tokens, through one mixer a layer.

    `mixer` is a name of the catalogue (`rulekeep.mixers`), `file.py:Class`, or a class that takes
    its width. `a+b` lets two mixers take turns over the layers. A list has one for each layer, or
    what makes it without an argument. `mixer_options` are those of a mixer that is no list.

    `width` is the number of channels between layers. `hidden` is that inside a feed-forward layer,
    by default 4 x width. `added_positions` are added to the embeddings: none, learned (for the
    first `context` tokens only), or how early each token is (earliness). All weights are drawn from
    `seed`, whatever torch's global stream is.

    Examples:
        >>> model = LanguageModel(100, "delta", mixer_options={"heads": 2}, layers=4, width=128)
        >>> loss = functional.cross_entropy(model(x)[0].mT, y)           # doctest: +SKIP
        >>> penalty = auxiliary_loss(model, step)                        # doctest: +SKIP

    Raises:
        UsageError: there is no such mixer, or an option is impossible.
        MixerError: a mixer changes the shape of its input.
    """

    def __init__(
        self,
        vocabulary: int,
        mixer: str | type[nn.Module] | Sequence[_Maker] = "attention",
        *,
        mixer_options: Mapping[str, Option] | None = None,
        layers: int = 2,
        width: int = 64,
        hidden: int | None = None,
        added_positions: Positions = "none",
        context: int | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.added_positions = added_positions
        if added_positions == "learned" and context is None:
            raise UsageError(
                "context None: learned positions need it; give the longest text in tokens"
            )
        self.context = context
        if isinstance(mixer, str | type):
            makers = _makers(mixer, mixer_options or {}, layers, width)
        else:
            makers = [
                _makers(each, {}, 1, width)[0] if isinstance(each, str | type) else each
                for each in mixer
            ]
        with _stream("embedding", seed):
            self.embedding = nn.Embedding(vocabulary, width)
        with _stream("positions", seed):
            if added_positions == "learned":
                assert context is not None, "checked above"
                self.position_embedding = nn.Embedding(context, width)
            elif added_positions == "earliness":
                self.earliness = nn.Linear(_BUMPS, width, bias=False)
        blocks = []
        for layer, make in enumerate(makers):
            with _stream("mixer", layer, seed):
                own = make()
            with _stream("block", layer, seed):
                blocks.append(Block(width, 4 * width if hidden is None else hidden, own))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        with _stream("head", seed):
            self.head = nn.Linear(width, vocabulary)

    def forward(
        self, tokens: Int[Tensor, "batch time"], state: ModelState | None = None
    ) -> tuple[Float[Tensor, "batch time vocabulary"], ModelState]:
        """Logits of the next token at every position, and the state after the last."""
        x, after = self.advance(tokens, state)
        return self.head(self.norm(x)), after

    def advance(
        self, tokens: Int[Tensor, "batch time"], state: ModelState | None = None
    ) -> tuple[Float[Tensor, "batch time width"], ModelState]:
        """As `forward`, without the head: enough for a long prefix."""
        before = state or ModelState(0, (None,) * len(self.blocks))
        x, after = self._embed(tokens, before.tokens), []
        for block, own in zip(self.blocks, before.layers, strict=True):
            x, own = block(x, own)
            after.append(own)
        return x, ModelState(before.tokens + tokens.shape[1], tuple(after))

    def last_logits(
        self, tokens: Int[Tensor, "batch time"], last: int, state: ModelState | None = None
    ) -> Float[Tensor, "batch last vocabulary"]:
        """Logits at the last positions of whole sequences; the last layer computes only these.

        From a state it computes all of them.
        """
        if state is not None:
            ends: Tensor = self.head(self.norm(self.advance(tokens, state)[0][:, -last:]))
            return ends
        x = self._embed(tokens, 0)
        *early, final = self.blocks
        for block in early:
            x, _ = block(x, None)
        assert isinstance(final, Block)
        logits: Tensor = self.head(self.norm(final.tail(x, last)))
        return logits

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        x: Tensor = self.embedding(tokens)
        end = start + tokens.shape[1]
        if self.added_positions == "learned":
            if self.context is not None and end > self.context:
                raise ValueError(
                    f"{end} tokens: learned positions end at {self.context}; give a shorter text"
                )
            x = x + self.position_embedding.weight[start:end]
        elif self.added_positions == "earliness":
            x = x + self.earliness(earliness(start, end, x))
        return x


def earliness(start: int, end: int, like: Tensor) -> Float[Tensor, "time bumps"]:
    """How early each position is: Gaussian bumps evenly spaced in log-time.

    Position t stands at u = log(1 + t) / log(1 + 64), at most 1: all positions after 64 tokens look
    alike, whatever the length. Bump i of 16 is exp(−((u − i/15) · 15)² / 2).
    """
    t = torch.arange(start, end, dtype=like.dtype, device=like.device)
    u = (torch.log1p(t) / math.log1p(_EARLY_TOKENS)).clamp(max=1)
    centres = torch.linspace(0, 1, _BUMPS, dtype=like.dtype, device=like.device)
    return torch.exp(-(((u[:, None] - centres) * (_BUMPS - 1)) ** 2) / 2)


def _makers(
    mixer: str | type[nn.Module], options: Mapping[str, Option], layers: int, width: int
) -> Sequence[Callable[[], Mixer]]:
    name = mixer if isinstance(mixer, str) else MIXERS.name_of(mixer)
    given = {"mixer": name, "mixer_options": {**options}, "layers": layers, "width": width}
    return mixers_of(RunSpec.parse(**given)).makers


@contextmanager
def _stream(*names: object) -> Iterator[None]:
    """Draws inside the block come from the stream of this name; the global one stays as it was.

    Those of a GPU are left alone: weights are drawn on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(named_seed("initialisation", *names))
        yield
