"""The article's two models: the same embeddings and head around two kinds of block.

    x = token embedding + learned position embedding (one a position of the context)
    x = block(x), twice;  logits = head(norm(x))

`attention` is what `torch.nn.TransformerEncoder` computes (post-norm, GELU, both layers
starting as copies of one); `compressed` is a block around the slot memory. Modules are
created in the published order, so that the same seed draws the same weights. Any other mixer
joins in the block of the slot memory.
"""

import copy
from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from rulekeep.kernels.feed_forward import feed_forward
from rulekeep.mixers.attention import Attention
from rulekeep.mixers.base import Mixer
from rulekeep.mixers.slots import Slots
from rulekeep.specs import PUBLISHED_HIDDEN as HIDDEN
from rulekeep.specs import PUBLISHED_LAYERS as LAYERS
from rulekeep.specs import PUBLISHED_WIDTH as WIDTH
from rulekeep.tasks.article import Article

HEADS = 4


class Block(nn.Module):
    """A mixer, and the layers that the article puts around it.

    Around attention, with `add_normed`, they are those of
    `torch.nn.TransformerEncoderLayer(64, 4, 256, dropout=0, activation="gelu")`; around the y of a
    memory LayerNorm(x + y + F(x + y)).
    """

    def __init__(self, mixer: Mixer, *, add_normed: bool) -> None:
        super().__init__()
        self.mixer, self.add_normed = mixer, add_normed
        self.expand, self.contract = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm_mixed, self.norm_out = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def _around(self, x: Tensor, mixed: Tensor) -> Tensor:
        return feed_forward(
            x, mixed, self.norm_mixed, self.expand, self.contract, self.norm_out,
            add_normed=self.add_normed,
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "batch time width"]) -> tuple[Tensor, Any]:
        """Outputs at every position, and the mixer's state after the last."""
        mixed, state = self.mixer(x)
        return self._around(x, mixed), state

    def tail(self, x: Float[Tensor, "batch time width"], last: int) -> Tensor:
        """Outputs at the last positions only."""
        return self._around(x[:, -last:], self.mixer.tail(x, last))


class ArticleModel(nn.Module):
    """A model around some blocks, built at one context."""

    def __init__(self, make_blocks: Callable[[], list[Block]], context: int) -> None:
        super().__init__()
        vocabulary = len(Article.vocabulary)
        self.token_embedding = nn.Embedding(vocabulary, WIDTH)
        self.position_embedding = nn.Embedding(context, WIDTH)
        self.blocks = nn.ModuleList(make_blocks())
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(
        self, tokens: Int[Tensor, "batch time"], last: int | None = None
    ) -> Float[Tensor, "batch out vocabulary"]:
        """Logits of the next token at every position, or at the `last` ones only.

        With `last`, the last block is computed at those positions alone: the same values.
        """
        x = self._embed(tokens)
        *early, final_block = self.blocks
        assert isinstance(final_block, Block)
        for block in early:
            x, _ = block(x)
        x = final_block(x)[0] if last is None else final_block.tail(x, last)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def states(self, tokens: Int[Tensor, "batch time"]) -> list[Any]:
        """The state of each block after these tokens: a KV cache, or slots."""
        x, states = self._embed(tokens), []
        for block in self.blocks:
            x, state = block(x)
            states.append(state)
        return states

    def _embed(self, tokens: Tensor) -> Tensor:
        out: Tensor = (
            self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        )
        return out


def memory_blocks(make: Callable[[], Mixer]) -> list[Block]:
    """A memory of its own in each layer."""
    return [Block(make(), add_normed=False) for _ in range(LAYERS)]


def published_model(name: str, context: int, *, serial: bool = False) -> ArticleModel:
    """One of the article's two; `serial` runs the slot memory as a loop over tokens."""

    def attention_blocks() -> list[Block]:
        first = Block(Attention(WIDTH, heads=HEADS), add_normed=True)
        return [first, *(copy.deepcopy(first) for _ in range(LAYERS - 1))]

    if name == "attention":
        return ArticleModel(attention_blocks, context)
    return ArticleModel(lambda: memory_blocks(lambda: Slots(WIDTH, serial=serial)), context)
