"""The package's models against the published ones, and each shortcut against the long way."""

import as_published
import pytest
import torch

from rulekeep.article.models import Block, published_model
from rulekeep.mixers import MIXERS

NAMES = ["attention", "compressed"]


def twins(name: str, context: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and the published model from the same draws, in float64."""
    torch.manual_seed(3)
    ours = published_model(name, context).double()
    torch.manual_seed(3)
    published = {"attention": as_published.Attention, "compressed": as_published.Compressed}
    return ours, published[name](context).double()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("context", [1, 7, 9, 33])
def test_logits_and_gradients_are_the_published_ones(name: str, context: int) -> None:
    ours, published = twins(name, context)
    tokens = torch.randint(39, (3, context))
    direction = torch.randn(3, context, 39, dtype=torch.float64)
    for model in (ours, published):
        (model(tokens) * direction).sum().backward()
    assert torch.allclose(ours(tokens), published(tokens), rtol=0, atol=1e-9)
    ours_grads = sorted((p.grad.abs().sum().item(), p.shape) for p in ours.parameters())
    published_grads = sorted((p.grad.abs().sum().item(), p.shape) for p in published.parameters())
    for (a, shape_a), (b, shape_b) in zip(ours_grads, published_grads, strict=True):
        assert shape_a == shape_b
        assert a == pytest.approx(b, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("context", "last"), [(7, 7), (16, 7), (65, 7), (65, 1)])
def test_the_pruned_last_layer_is_exact(name: str, context: int, last: int) -> None:
    model, _ = twins(name, context)
    tokens = torch.randint(39, (3, context))
    direction = torch.randn(3, last, 39, dtype=torch.float64)
    outputs, gradients = [], []
    for logits in (model(tokens)[:, -last:], model(tokens, last=last)):
        model.zero_grad()
        (logits * direction).sum().backward()
        outputs.append(logits)
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert torch.allclose(outputs[0], outputs[1], rtol=0, atol=1e-9)
    for full, pruned in zip(*gradients, strict=True):
        assert torch.allclose(full, pruned, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["delta", "gated_slots", "lstm"])
def test_another_mixer_stands_in_the_memorys_block(name: str) -> None:
    torch.manual_seed(4)
    block = Block(MIXERS[name](64), add_normed=False).double()
    x = torch.randn(2, 20, 64, dtype=torch.float64)
    y, _ = block(x)
    z = x + block.mixer(x)[0]
    inner = block.contract(torch.nn.functional.gelu(block.expand(block.norm_mixed(z))))
    assert torch.allclose(y, block.norm_out(z + inner), rtol=0, atol=1e-9)
    assert torch.allclose(block.tail(x, 5), y[:, -5:], rtol=0, atol=1e-9)
