from itertools import islice

import as_published
import pytest
import torch

from rulekeep.article.streams import replay
from rulekeep.specs import PUBLISHED_CONTEXTS, ArticleCell

PARAMETERS = {
    (64, "attention"): 109_223,
    (64, "compressed"): 117_415,
    (256, "attention"): 121_511,
    (256, "compressed"): 129_703,
    (1028, "attention"): 170_919,
    (1028, "compressed"): 179_111,
}
CELLS = list(PARAMETERS)


@pytest.fixture(scope="module")
def published() -> dict:
    """Whole runs by seed; the published one goes on to another context."""
    first = [*PUBLISHED_CONTEXTS]
    return {7: as_published.whole_run(7, [*first, 32]), 1: as_published.whole_run(1, first)}


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters as a set of tensors in an order that does not depend on names."""
    return sorted(model.parameters(), key=lambda p: (p.shape, p.flatten()[:4].tolist()))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 1])
@pytest.mark.parametrize(("context", "model"), CELLS)
def test_a_cell_alone_starts_as_in_the_whole_published_run(
    published: dict, seed: int, context: int, model: str
) -> None:
    expected = published[seed][context, model]
    ours = replay(ArticleCell(context=context, model=model, seed=seed))
    assert ours.train.tokens.tolist() == expected["train"]
    assert ours.validation.tokens.tolist() == expected["validation"]
    batches = list(islice(ours.batches, 80))
    assert ours.train.tokens[batches[0]].tolist() == expected["first_batch"]
    assert ours.train.tokens[batches[-1]].tolist() == expected["last_batch"]
    pairs = zip(weights(ours.model), weights(expected["model"]), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["attention", "compressed"])
def test_another_context_counts_as_appended_after_1028(published: dict, model: str) -> None:
    expected = published[7][32, model]
    ours = replay(ArticleCell(context=32, model=model))
    assert ours.train.tokens.tolist() == expected["train"]
    assert ours.train.tokens[next(ours.batches)].tolist() == expected["first_batch"]


def test_steps_and_the_form_of_the_memory_leave_the_streams_alone() -> None:
    base = replay(ArticleCell(context=256, model="compressed"))
    first = next(base.batches)
    for cell in (
        ArticleCell(context=256, model="compressed", steps=3),
        ArticleCell(context=256, model="compressed", serial=True),
    ):
        other = replay(cell)
        assert next(other.batches) == first
        pairs = zip(base.model.parameters(), other.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_another_mixer_has_attentions_examples_and_batches_and_weights_of_its_seed() -> None:
    cells = {
        model: replay(ArticleCell(context=64, model=model, seed=2))
        for model in ("attention", "delta[heads=8]", "delta")
    }
    attention, delta = cells["attention"], cells["delta[heads=8]"]
    assert delta.train.tokens.tolist() == attention.train.tokens.tolist()
    assert delta.validation.tokens.tolist() == attention.validation.tokens.tolist()
    assert list(islice(delta.batches, 80)) == list(islice(attention.batches, 80))
    again = replay(ArticleCell(context=64, model="delta[heads=8]", seed=2)).model
    pairs = list(zip(delta.model.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    other = replay(ArticleCell(context=64, model="delta[heads=8]", seed=3)).model
    assert not torch.equal(other.head.weight, delta.model.head.weight)
    heads = [block.mixer.heads for block in delta.model.blocks]
    assert (heads, cells["delta"].model.blocks[0].mixer.heads) == ([8, 8], 4)


def test_independent_decoys_leave_examples_batches_and_weights_as_they_are() -> None:
    cells = [
        ArticleCell(context=64, model="attention", seed=seed, decoys=decoys)
        for seed, decoys in ((1, "published"), (1, "independent"), (2, "independent"))
    ]
    published, drawn, other = (replay(cell) for cell in cells)
    for split in ("train", "validation"):
        one, two = getattr(published, split), getattr(drawn, split)
        assert (one.tokens[:, :9] == two.tokens[:, :9]).all()
        assert (one.answers == two.answers).all()
        assert (one.tokens[:, 11] != two.tokens[:, 11]).mean() > 0.8
        three = getattr(other, split)
        assert (two.tokens[:, 11] != three.tokens[:, 11]).mean() > 0.8
    assert (drawn.train.tokens[:120, 11] != drawn.validation.tokens[:, 11]).any()
    assert next(published.batches) == next(drawn.batches)
    pairs = zip(weights(published.model), weights(drawn.model), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
