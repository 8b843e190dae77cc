"""The published random streams, replayed: any cell can be run alone, or beside the others.

The published script seeds Python's and torch's global streams once. Then, for each context in
order, it shuffles the training and validation examples, constructs both models, and trains
attention, then compressed, on 80 batches each. Shuffles and batches use only Python's stream,
construction only torch's, and training neither. So the streams of a cell follow after all earlier
draws, unused.

Decoys that are independent of the rules have their own streams, one per split and seed. So the
examples are otherwise the published ones, in the same order.

Another mixer that joins gets the examples and batches of attention, and weights from a stream named
after it and the seed.

An unpublished context counts as appended after the last one, on its own. More steps than 80
continue the cell's own stream. Other cells change nothing.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from rulekeep.article.models import ArticleModel, memory_blocks, published_model
from rulekeep.running.building import resolve_cell
from rulekeep.seeds import named_seed
from rulekeep.specs import (
    ARTICLE_MODELS,
    PUBLISHED_BATCH_SIZE,
    PUBLISHED_CONTEXTS,
    PUBLISHED_STEPS,
    ArticleCell,
)
from rulekeep.tasks.article import Article
from rulekeep.tasks.base import Split
from rulekeep.tasks.sampled import Sample

_SPLITS: tuple[Split, Split] = ("train", "test")
TRAIN_EXAMPLES = 480
VALIDATION_EXAMPLES = 120
# What the streams of two published variants were called when their weights were drawn.
_DRAWN_AS = {
    "sparse_delta[short_convolution=false]": "sparse_delta",
    "sparse_delta[heads=2,gate_kernel=2,gate_penalty=0,short_convolution=false]": (
        "sparse_delta[heads=2,gate_taps=2,toll=0]"
    ),
}


class CellStreams(NamedTuple):
    """What a cell starts from; `batches` gives row numbers of `train`, without end."""

    model: ArticleModel
    train: Sample
    validation: Sample
    batches: Iterator[list[int]]


def replay(cell: ArticleCell) -> CellStreams:
    """The model, data and batches of a cell, whatever else is run.

    The global random streams of Python and torch stay as they were.
    """
    stream = random.Random(cell.seed)
    contexts = list(PUBLISHED_CONTEXTS)
    if cell.context not in contexts:
        contexts.append(cell.context)
    task = Article()
    same_as = "attention" if cell.joining_mixer else cell.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        for context in contexts:
            rows = {
                "train": _shuffled(stream, task, TRAIN_EXAMPLES),
                "test": _shuffled(stream, task, VALIDATION_EXAMPLES),
            }
            models = {
                name: published_model(name, context, serial=cell.serial) for name in ARTICLE_MODELS
            }
            for name in ARTICLE_MODELS:
                if (context, name) == (cell.context, same_as):
                    model = _joining(cell) if cell.joining_mixer else models[name]
                    train, test = (
                        task.examples(split, context, decoys=_decoys(cell, split), rows=rows[split])
                        for split in _SPLITS
                    )
                    return CellStreams(model, train, test, _batches(stream))
                for _ in range(PUBLISHED_STEPS):
                    stream.sample(range(TRAIN_EXAMPLES), PUBLISHED_BATCH_SIZE)
    raise AssertionError(f"no such cell: {cell}")


def _decoys(cell: ArticleCell, split: Split) -> np.random.Generator | None:
    if cell.decoys == "published":
        return None
    return np.random.default_rng(named_seed("article decoys", split, cell.seed))


def _joining(cell: ArticleCell) -> ArticleModel:
    make = resolve_cell(cell).make
    assert make is not None, cell
    stream = _DRAWN_AS.get(cell.model, cell.model)
    torch.manual_seed(named_seed("article model", stream, cell.seed))
    return ArticleModel(lambda: memory_blocks(make), cell.context)


def _shuffled(stream: random.Random, task: Article, keep: int) -> list[int]:
    rows = list(range(task.size))
    stream.shuffle(rows)
    return rows[:keep]


def _batches(stream: random.Random) -> Iterator[list[int]]:
    while True:
        yield stream.sample(range(TRAIN_EXAMPLES), PUBLISHED_BATCH_SIZE)
