"""A trained model whose KV cache is compressed once a text is read, scored as it answers.

    model = Evicting(trained, seed=1)
    model.by = Compression("H2O", 32)           # tokens that are left of each layer
    model = Rounding(trained, seed=1)
    model.by = Compression("per token", 4)      # bits of a number
    ModelPredictor(model)                       # takes it for the model

The request and the answer go on from what is left: the cache is compressed before it is known what
is asked. Every mixer must be `attention`. The state of its convolution is not compressed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rulekeep.kernels import evictions, rounding
from rulekeep.mixers.attention import Attention
from rulekeep.running.evaluation import ModelPredictor, evaluate_samples
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.seeds import named_seed
from rulekeep.tasks.sampled import SampledTask


class Compression(NamedTuple):
    """What is done to a cache, and how much is left: tokens, or bits per number."""

    name: str
    amount: int


WHOLE = Compression("none", 0)


class Reading(NamedTuple):
    """Texts that were read: how many came before them, and the result."""

    number: int
    state: ModelState
    seen: Any


class Score(NamedTuple):
    """The scores of a model at one length under one compression."""

    context: int
    name: str
    amount: int
    retention: float
    exact: float


class Compressing(ABC):
    """A model whose caches `by` compresses once the text is read."""

    def __init__(self, model: LanguageModel, seed: int) -> None:
        self.model, self.head, self.seed = model, model.head, seed
        self.by = WHOLE
        # What one text needs is read once for all compressions.
        self._read: dict[bytes, Reading] = {}

    def __call__(self, tokens: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """What the model says next."""
        result: tuple[Tensor, ModelState] = self.model(tokens, state)
        return result

    def modules(self) -> Iterator[nn.Module]:
        """The modules of the model: `ModelPredictor` switches them to eval mode."""
        return self.model.modules()

    def advance(self, text: Tensor) -> tuple[None, ModelState]:
        """The state after the text, its caches compressed."""
        key = text.numpy().tobytes()
        if key not in self._read:
            self._read[key] = Reading(len(self._read), *self._after(text))
        reading = self._read[key]
        if self.by == WHOLE:
            return None, reading.state
        return None, ModelState(reading.state.tokens, tuple(self._compressed(reading)))

    def scores(
        self, compressions: Sequence[Compression], task: SampledTask, examples: Mapping[int, int]
    ) -> Iterator[Score]:
        """Scores on so many test examples of each length, first of the whole cache."""
        for context, n in examples.items():
            # Counted anew, so that no length depends on what was read at another.
            self._read.clear()
            for self.by in (WHOLE, *compressions):
                predictor = ModelPredictor(self)  # type: ignore[arg-type]
                row = evaluate_samples(predictor, task, "test", context, n, self.seed)
                figures = (round(row[name], 6) for name in ("retention", "exact"))
                yield Score(context, *self.by, *figures)

    def _after(self, text: Tensor) -> tuple[ModelState, Any]:
        """The state after the text, and what else `_compressed` needs of it."""
        return self.model.advance(text)[1], None

    @abstractmethod
    def _compressed(self, reading: Reading) -> Iterable[Any]:
        """The cache of each layer, compressed by `self.by`."""


class Rounding(Compressing):
    """A model whose caches are rounded once the text is read."""

    def _compressed(self, reading: Reading) -> Iterable[Any]:
        return (rounding.quantised(cache, *self.by) for cache in reading.state.layers)


class Evicting(Compressing):
    """A model whose caches lose tokens once the text is read."""

    def _after(self, text: Tensor) -> tuple[ModelState, list[dict[str, Tensor]]]:
        with _Watching() as watching:
            _, state = self.model.advance(text)
        return state, watching.found

    def _compressed(self, reading: Reading) -> Iterable[Any]:
        eviction, budget = self.by
        sinks = evictions.SINKS if eviction == evictions.STREAMING else 0
        layers = zip(self.model.blocks, reading.state.layers, reading.seen, strict=True)
        for layer, (block, cache, attention) in enumerate(layers):
            stream = (self.seed, reading.number, layer, reading.state.tokens, budget)
            generator = torch.Generator().manual_seed(named_seed("evictions", *stream))
            places = evictions.kept(eviction, cache.keys, attention, budget, generator)
            yield evictions.cut(cache, places, _rotary_base(block.mixer), sinks)


def _rotary_base(mixer: object) -> float | None:
    assert isinstance(mixer, Attention), mixer
    assert mixer.positions != "alibi", "ALiBi counts distances in the cache"
    assert mixer.scaling is None, "scaled angles count places in the cache"
    return mixer.rotary_base if mixer.positions == "rotary" else None


class _Watching(TorchFunctionMode):
    """Records what every attention inside the `with` block attends to, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Looks at the queries and keys of an attention, and passes every call on."""
        if func is F.scaled_dot_product_attention:
            queries, keys, *_ = args
            self.found.append(evictions.attended(queries, keys))
        return func(*args, **(kwargs or {}))
