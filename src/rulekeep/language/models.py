"""A language model as this package asks it: read a conversation once, then score many replies.

    model = load_model("./smollm", device="cpu")
    read = model.read(conversation.messages)                  # one prefill
    model.scores(read.cache, read.tokens, probes)             # log-likelihoods, one a probe

Any causal model of transformers serves that has a chat template and a cache of keys and values. It
is loaded from a folder or a GGUF file, and never downloaded. Positions go on from the number of
tokens that were read, however many of them the cache still holds.
"""

import copy
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rulekeep.language.chat import Message
from rulekeep.language.evictions import Scores, observed
from rulekeep.specs import UsageError

INSTALL = "pip install 'rulekeep[language]'"
# Replies that are scored at once: each has the whole cache beside it.
_ROWS_AT_ONCE = 16


class Probe(NamedTuple):
    """A request with the beginning of its reply, and a continuation whose likelihood is asked."""

    request: str
    prefix: str
    reply: str


class Read(NamedTuple):
    """A conversation that has been read: its cache, how many tokens it has, what evictions see."""

    cache: Any
    tokens: int
    scores: Scores


class ChatModel:
    """A causal language model of transformers with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Takes a loaded model and its tokenizer.

        Raises:
            UsageError: the tokenizer has no chat template.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError("model: its tokenizer has no chat template; name a chat model")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.longest = int(getattr(model.config, "max_position_embeddings", 0)) or None

    def text(self, messages: Sequence[Message], *, reply: bool = False) -> str:
        """Messages as the model reads them; with `reply`, up to where its reply begins."""
        turns = [{"role": one.role, "content": one.text} for one in messages]
        found: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=reply
        )
        return found

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, nothing added: a template has its start token already."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def tokens_of(self, messages: Sequence[Message]) -> int:
        """How many tokens some turns add to a conversation."""
        head = [Message("system", "."), *messages]
        return len(self.tokens(self.text(head))) - len(self.tokens(self.text(head[:1])))

    @torch.inference_mode()
    def read(self, messages: Sequence[Message], evictions: Sequence[str] = ()) -> Read:
        """Reads a conversation once, and observes what these evictions need of it.

        Raises:
            UsageError: it has more tokens than the model has positions.
        """
        ids = self.tokens(self.text(messages))
        if self.longest is not None and len(ids) > self.longest:
            raise UsageError(
                f"a conversation has {len(ids)} tokens, and the model {self.longest} positions; "
                "give shorter distances"
            )
        row = torch.tensor([ids], device=self.model.device)
        with observed(self.model, evictions) as scores:
            out = self.model(input_ids=row, use_cache=True, logits_to_keep=1)
        return Read(out.past_key_values, len(ids), scores)

    @torch.inference_mode()
    def written(self, messages: Sequence[Message], tokens: int) -> str:
        """What it replies, greedily, in so many tokens at most."""
        ids = torch.tensor([self.tokens(self.text(messages, reply=True))], device=self.model.device)
        made = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
            pad_token_id=self.tokenizer.eos_token_id,
        )  # fmt: skip
        found: str = self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        return found

    @torch.inference_mode()
    def scores(
        self, cache: Any, tokens: int, messages: Sequence[Message], probes: Sequence[Probe]
    ) -> list[float]:
        """The log-likelihood of each probe's reply, in nats, after a cache of so many tokens.

        `messages` are those that the cache was read from; the cache itself stays as it is.
        """
        head = self.text(messages)
        rows = []
        for probe in probes:
            asked = self.text([*messages, Message("user", probe.request)], reply=True)
            assert asked.startswith(head), "a template that goes on where it ended"
            before = self.tokens(asked[len(head) :] + probe.prefix)
            whole = self.tokens(asked[len(head) :] + probe.prefix + probe.reply)
            # Where the reply joins the last token of the prefix, that token is scored with it.
            shared = next(
                (
                    i
                    for i, pair in enumerate(zip(before, whole, strict=False))
                    if len(set(pair)) > 1
                ),
                min(len(before), len(whole)),
            )
            rows.append((whole, shared))
        # Nothing follows a last token: options of one token share a row.
        fed = list(dict.fromkeys(tuple(ids[:-1]) for ids, _ in rows))
        logits = dict[tuple[int, ...], Tensor]()
        for start in range(0, len(fed), _ROWS_AT_ONCE):
            part = fed[start : start + _ROWS_AT_ONCE]
            logits |= zip(part, self._logits(cache, tokens, part), strict=True)
        return [_likelihood(logits[tuple(ids[:-1])], ids, first) for ids, first in rows]

    def _logits(self, cache: Any, tokens: int, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """Logits after each token of some rows, all of which go on from the cache."""
        longest, device = max(map(len, rows)), self.model.device
        # What stands after a row's end is read by nothing before it.
        table = [[*ids, *[0] * (longest - len(ids))] for ids in rows]
        own = copy.deepcopy(cache)
        own.batch_repeat_interleave(len(rows))
        kept = own.get_seq_length()
        places = torch.arange(tokens, tokens + longest, device=device)
        found: Tensor = self.model(
            input_ids=torch.tensor(table, device=device),
            past_key_values=own,
            position_ids=places.expand(len(rows), -1),
            attention_mask=torch.ones(len(rows), kept + longest, dtype=torch.long, device=device),
            use_cache=True,
        ).logits
        return found


def _likelihood(logits: Tensor, ids: Sequence[int], first: int) -> float:
    """Of the tokens from `first` on, each from those before it."""
    said = torch.tensor(ids[first:], device=logits.device)
    before = logits[first - 1 : len(ids) - 1].float().log_softmax(-1)
    return float(before.gather(1, said[:, None]).sum())


def load_model(place: str, device: str = "cpu") -> ChatModel:
    """A model and its tokenizer out of a folder, or a GGUF file, in bfloat16.

    Raises:
        UsageError: transformers is not installed, or there is no model.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        transformers: Any = import_module("transformers")
    except ImportError:
        raise UsageError(f"--model needs transformers: {INSTALL}") from None
    path = Path(place)
    if not path.exists():
        raise UsageError(f"--model {place}: there is no such folder or file; nothing is downloaded")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder, more = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **more)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation="eager", **more
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"--model {place}: transformers cannot load it: {said}") from None
    return ChatModel(model.to(device), tokenizer)
