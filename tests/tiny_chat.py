"""A chat model of two layers with random weights, and what it scores without a cache."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rulekeep.language.chat import Message
from rulekeep.language.models import ChatModel, Probe
from rulekeep.specs import LanguageSpec

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def saved(folder: Path, positions: int = 8192) -> Path:
    """Writes it; a token is a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(letters), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=positions,
        initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def spec(**values: Any) -> LanguageSpec:
    """A cell of a model that nobody loads."""
    return LanguageSpec.parse(**{"model": "none", **values})


def words(messages: Any) -> int:
    """A tokenizer that needs no model: a word is a token."""
    return sum(len(message.text.split()) for message in messages)


def logits(model: ChatModel, ids: list[int], gone: Tensor | None = None) -> Tensor:
    """Of one pass over the whole text without a cache; what follows `gone` does not see it."""
    mask = torch.full((len(ids), len(ids)), -math.inf).triu(1)
    if gone is not None:
        mask[len(gone) :, : len(gone)] = torch.where(gone, -math.inf, 0.0)
    with torch.no_grad():
        out = model.model(torch.tensor([ids]), attention_mask=mask[None, None], use_cache=False)
    found: Tensor = out.logits[0]
    return found


def directly(
    model: ChatModel, probe: Probe, messages: Sequence[Message], gone: Tensor | None = None
) -> float:
    """The log-likelihood of a reply, from one pass over the whole text."""
    asked = model.text([*messages, Message("user", probe.request)], reply=True) + probe.prefix
    before, whole = model.tokens(asked), model.tokens(asked + probe.reply)
    found = logits(model, whole, gone).log_softmax(-1)
    return sum(float(found[i - 1, whole[i]]) for i in range(len(before), len(whole)))
