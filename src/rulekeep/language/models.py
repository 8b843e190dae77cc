"""A language model as this package asks it: read a conversation once, then score many replies.

    model = load_model("./smollm", device="cpu")
    read = model.opened(conversation.messages)                # one prefill
    read.scores(probes)                                       # log-likelihoods, one a probe

Any causal model of transformers serves that has a chat template and a cache of keys and values. It
is loaded from a folder or a GGUF file, and never downloaded. Positions go on from the number of
tokens that were read, however many of them the cache still holds.
"""

import copy
import inspect
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rulekeep.language.chat import LEAD, Message
from rulekeep.language.compressions import Compression
from rulekeep.language.contract import EMPTY, REPLY_TOKENS, ROOM, Probe, shared, spoken
from rulekeep.language.declared import model_files
from rulekeep.language.evictions import (
    Scores,
    evicted,
    kept_bytes,
    observed,
    rounded,
)
from rulekeep.language.resolving import check_library
from rulekeep.language.templates import ChatTemplate
from rulekeep.specs import UsageError

# Replies that are scored at once: their tokens stand beside the cache in one row.
_REPLIES_AT_ONCE = 64


class ChatModel(ChatTemplate):
    """A causal language model of transformers with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Takes a loaded model and its tokenizer."""
        super().__init__(tokenizer)
        self.model = model.eval()
        self._thought_alone = False
        # transformers renamed the argument between 5.2 and 5.24.
        named = inspect.signature(model.forward).parameters
        self.cache_argument = "cache" if "cache" in named else "past_key_values"
        self.longest = int(getattr(model.config, "max_position_embeddings", 0)) or None
        self._check_cache()

    @torch.inference_mode()
    def _check_cache(self) -> None:
        one = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
        out = self.model(one, use_cache=True)
        layers = getattr(getattr(out, "past_key_values", None), "layers", None) or [None]
        if not all(isinstance(getattr(layer, "keys", None), Tensor) for layer in layers):
            raise UsageError(
                "model: keeps a state that is no cache of keys and values; "
                "name one in which every layer attends"
            )
        if any(layer.is_sliding for layer in layers):
            raise UsageError("model: attends over a sliding window; name one that sees all tokens")

    def fits(self, read: int, more: int) -> None:
        """Checks that so many tokens that are read, and those that may follow, have a position."""
        if self.longest is not None and read + more > self.longest:
            raise UsageError(
                f"a conversation has {read} tokens, what follows up to {more}, and the model "
                f"{self.longest} positions; give shorter distances"
            )

    @torch.inference_mode()
    def opened(
        self, messages: Sequence[Message], evictions: Sequence[str] = (), rules: Sequence[str] = ()
    ) -> "Cached":
        """Reads a conversation once, and observes what these evictions need of it.

        `rules` are those that it states, for an eviction with a guard.
        """
        head = self.head(messages)
        # Rules of a user's system prompt are no list: the whole prompt is looked for.
        listed = f"{LEAD}{' '.join(rules)}"
        lead = LEAD if any(listed in one.text for one in messages) else ""
        # What follows a head is never compressed: rules there would look as if they survived.
        if rules and self._plain(listed if lead else messages[0].text).strip() not in head:
            raise UsageError(
                "model: its chat template moves the system prompt to the last request, so no cache "
                "holds its rules; give --placement middle, or name another model"
            )
        ids = self.tokens(head)
        self.fits(len(ids), ROOM)
        row = torch.tensor([ids], device=self.model.device)
        with observed(self.model, evictions) as scores:
            out = self.model(input_ids=row, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        return Cached(self, tuple(messages), head, cache, len(ids), scores, tuple(rules), lead)

    @torch.inference_mode()
    def written(self, messages: Sequence[Message], tokens: int) -> str:
        """What it replies, greedily, in so many tokens at most; without its thought."""
        read = self.tokens(self.text(messages, reply=True))
        self.fits(len(read), tokens)
        ids = torch.tensor([read], device=self.model.device)
        made = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
            # A reply from a cache has no penalty either.
            repetition_penalty=1.0, pad_token_id=self.tokenizer.eos_token_id,
        )  # fmt: skip
        return self.said(made[0, ids.shape[1] :])

    def said(self, ids: Tensor | Sequence[int]) -> str:
        """The text of a reply, without its thought."""
        whole: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        text = spoken(whole)
        self._thought_alone |= bool(whole.strip()) and not text.strip()
        return text

    @property
    def libraries(self) -> Mapping[str, str]:
        """The version of what runs it; where a system prompt went, and why replies were empty."""
        moved = {} if self.takes_system else {"system prompt": "in the first user's turn"}
        empty = {EMPTY: "a thought alone"} if self._thought_alone else {}
        return {"transformers": version("transformers"), **moved, **empty}

    def ends(self) -> set[int]:
        """The tokens that end a reply."""
        given = self.model.generation_config.eos_token_id
        listed = given if isinstance(given, list) else [given]
        return {one for one in (*listed, self.tokenizer.eos_token_id) if one is not None}


class _Node(NamedTuple):
    token: int
    depth: int
    # Where the token before it on its branch stands; None of a first one.
    parent: int | None


def _tree(rows: Sequence[Sequence[int]]) -> tuple[list[_Node], list[list[int]]]:
    """The tokens of rows, shared beginnings once; and where the tokens of each row stand."""
    tree, known = list[_Node](), dict[tuple[int | None, int], int]()
    branches = []
    for row in rows:
        branch, parent = list[int](), None
        for depth, token in enumerate(row):
            at = known.setdefault((parent, token), len(tree))
            if at == len(tree):
                tree.append(_Node(token, depth, parent))
            branch.append(at)
            parent = at
        branches.append(branch)
    return tree, branches


def _beside(cache: Any) -> Any:
    """A cache that can grow while this one stays: a layer that grows makes new tensors."""
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    return own


def _likelihood(logits: Tensor, said: Sequence[int]) -> float:
    """Of tokens, each from the logits before it."""
    found = logits.float().log_softmax(-1)
    return float(found.gather(1, torch.tensor(said, device=logits.device)[:, None]).sum())


@dataclass(frozen=True)
class Cached:
    """A conversation that a model has read: its cache, its tokens, and what evictions saw."""

    model: ChatModel
    messages: tuple[Message, ...]
    # The text that was read.
    head: str
    cache: Any
    tokens: int
    seen: Scores
    rules: tuple[str, ...] = ()
    # What stands right before the rules, if it does.
    lead: str = LEAD

    @property
    def left(self) -> int:
        """How many tokens its cache holds, of each layer and head."""
        return int(self.cache.get_seq_length())

    def under(self, one: Compression) -> "Cached":
        """The same under a compression; the cache that was read stays as it is."""
        if one.kind == "none":
            return self
        if one.kind == "eviction":
            rules = self._rule_places if one.guard else ()
            cache = evicted(self.cache, self.seen[one.name], one.amount, one.guard, rules)
        else:
            cache = rounded(self.cache, one.name, int(one.amount))
        return replace(self, cache=cache)

    @cached_property
    def _rule_places(self) -> tuple[tuple[int, ...], ...]:
        # Found once for all guarded evictions of a conversation; a mention may say a rule before.
        return self.model.places(self.head, self.rules, self.lead)

    def kept_bytes(self, one: Compression) -> int:
        """Bytes of its cache; of a rounded one with the scales of its groups."""
        return kept_bytes(self.cache, one.name, int(one.amount))

    @torch.inference_mode()
    def reply(self, request: str) -> str:
        """What the model replies to a request, greedily; the cache stays as it is.

        A thought is no part of it. It ends at the last position of the model at the latest.
        """
        chat, tokens = self.model, self.tokens
        asked = chat.text([*self.messages, Message("user", request)], reply=True)
        ids, said = chat.after(self.head, asked), list[int]()
        chat.fits(tokens, len(ids))
        own, device, ends = _beside(self.cache), chat.model.device, chat.ends()
        for _ in range(REPLY_TOKENS):
            found = chat.model(
                input_ids=torch.tensor([ids], device=device),
                **{chat.cache_argument: own},
                position_ids=torch.arange(tokens, tokens + len(ids), device=device)[None],
                use_cache=True, logits_to_keep=1,
            ).logits  # fmt: skip
            tokens += len(ids)
            ids = [int(found[0, -1].argmax())]
            if ids[0] in ends or (chat.longest is not None and tokens >= chat.longest):
                break
            said += ids
        return chat.said(said)

    @torch.inference_mode()
    def scores(self, probes: Sequence[Probe]) -> list[float]:
        """The log-likelihood of each probe's reply, in nats; the cache stays as it is."""
        chat, rows = self.model, []
        asked = {
            request: chat.text([*self.messages, Message("user", request)], reply=True)
            for request in dict.fromkeys(probe.request for probe in probes)
        }
        for probe in probes:
            begun = asked[probe.request] + probe.prefix
            before, whole = chat.after(self.head, begun), chat.after(self.head, begun + probe.reply)
            chat.fits(self.tokens, len(whole))
            first = shared(before, whole)
            if not 0 < first < len(whole):
                # Nothing would be scored, which is likelier than anything.
                raise UsageError(
                    f"model: its tokenizer has no token for the reply {probe.reply!r}; "
                    "give another option"
                )
            rows.append((whole, first))
        found = []
        for start in range(0, len(rows), _REPLIES_AT_ONCE):
            part = rows[start : start + _REPLIES_AT_ONCE]
            found += self._likelihoods(part)
        return found

    def _likelihoods(self, rows: Sequence[tuple[list[int], int]]) -> list[float]:
        """Of each row of ids, those from a place on; all rows go on from the cache.

        Rows that begin alike share those tokens: they are the branches of a tree, read as one row
        in which a token sees the cache and what stands before it on its own branch.
        """
        # Nothing follows a last token, so it is not read.
        tree, branches = _tree([ids[:-1] for ids, _ in rows])
        own, kept = _beside(self.cache), self.cache.get_seq_length()
        chat, model = self.model, self.model.model
        device, dtype = model.device, model.dtype
        seen = torch.eye(len(tree), dtype=torch.bool)
        for at, node in enumerate(tree):
            if node.parent is not None:
                seen[at] |= seen[node.parent]
        hidden = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype).masked_fill(seen, 0)
        # Those before a token that is scored: only they need logits.
        needed = sorted(
            {at for (_, first), it in zip(rows, branches, strict=True) for at in it[first - 1 :]}
        )
        place = {at: i for i, at in enumerate(needed)}
        logits: Tensor = model(
            input_ids=torch.tensor([[node.token for node in tree]], device=device),
            **{chat.cache_argument: own},
            position_ids=torch.tensor([[self.tokens + node.depth for node in tree]], device=device),
            attention_mask=torch.nn.functional.pad(hidden, (kept, 0))[None, None].to(device),
            use_cache=True, logits_to_keep=torch.tensor(needed, device=device),
        ).logits[0]  # fmt: skip
        if len(logits) != len(needed):
            # A family that gives all whatever it is asked.
            logits = logits[needed]
        return [
            _likelihood(logits[[place[at] for at in branch[first - 1 :]]], ids[first:])
            for (ids, first), branch in zip(rows, branches, strict=True)
        ]


def load_model(place: str, device: str = "cpu", dtype: str = "float32") -> ChatModel:
    """A model and its tokenizer out of a folder, or a GGUF file, in a number format of torch.

    Raises:
        UsageError: transformers is not installed, there is no model, or it is none that serves.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    check_library("--model", "transformers")
    transformers: Any = import_module("transformers")
    path = Path(place)
    model_files(path)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder, more = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    try:
        # A GGUF file is read under a bar that transformers cannot switch off.
        with redirect_stderr(StringIO()):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **more)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", **more
            )
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"--model {place}: transformers cannot load it: {said}") from None
    return ChatModel(model.to(device), tokenizer)
