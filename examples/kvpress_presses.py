"""Compressions of kvpress in rulekeep, and those of rulekeep in kvpress: any that scores tokens.

    pip install kvpress
    rulekeep language --model ./my-model --compress none,kvpress_presses.py:keydiff@0.25

    with RulekeepPress(0.75, "expected_attention")(model): model(ids, past_key_values=cache)

A press of another kind cuts the cache as the model reads it, and the rest is as ever:

    with AnyPress(0.75)(chat.model):            # chat: rulekeep's load_model("./my-model")
        opened = chat.opened(messages)
    opened.scores(probes)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from kvpress import CURPress, KeyDiffPress, LagKVPress, ScorerPress, SnapKVPress
from kvpress.utils import get_prerope_query_states
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

from rulekeep.language.evictions import Seen, scored


def scores_of(press: ScorerPress) -> Callable[..., Tensor]:
    """A press of kvpress as an eviction for `--compress FILE.py:NAME@SHARE`."""

    def score(keys: Tensor, values: Tensor, hidden: Tensor, module: Any, rotary: Any) -> Tensor:
        places = torch.arange(keys.shape[2], device=keys.device)[None]
        given = {"position_embeddings": rotary(hidden, places)}
        # Where kvpress puts it.
        module.rotary_emb = rotary
        return press.score(module, hidden, keys, values, None, given)

    return score


snapkv = scores_of(SnapKVPress(window_size=16))
keydiff = scores_of(KeyDiffPress())
lagkv = scores_of(LagKVPress())
cur = scores_of(CURPress())


@dataclass
class RulekeepPress(ScorerPress):
    """An eviction of rulekeep, or of a `file.py:function`, as a press of kvpress."""

    eviction: str = "snapkv"

    def score(
        self, module: Any, hidden_states: Tensor, keys: Tensor, values: Tensor, attentions: Any,  # noqa: ARG002
        kwargs: dict[str, Any],
    ) -> Tensor:  # fmt: skip
        """The scores that rulekeep's eviction gives."""
        plain = get_prerope_query_states(module, hidden_states)
        queries, _ = apply_rotary_pos_emb(plain, plain, *kwargs["position_embeddings"])
        shared = repeat_kv(keys, queries.shape[1] // keys.shape[1])

        def attending(first: int, last: int) -> Tensor:
            logits = queries[:, :, first:last] @ shared[:, :, :last].mT * module.scaling
            later = torch.ones_like(logits, dtype=torch.bool).triu(first + 1)
            return logits.masked_fill(later, -torch.inf).softmax(-1)

        seen = Seen(
            module.layer_idx, keys, values, attending, queries, module, hidden_states,
            module.scaling, module.rotary_emb,
        )  # fmt: skip
        found = scored(self.eviction, seen)
        if found is None:
            raise ValueError(f"{self.eviction}: this model makes its queries otherwise")
        return found
