"""A language model behind an OpenAI-compatible endpoint, through the `openai` client.

    model = Endpoint("http://localhost:8000/v1", "my-model", template=chat_template)
    opened = model.opened(conversation.messages)
    opened.reply("Who are you?")            # chat completions, temperature 0
    opened.scores(probes)                   # completions that echo the prompt's log-probabilities

Replies are scored as `rulekeep.language.models` scores them: the sum over the tokens of a reply,
those of its prompt taken off. A completion takes plain text, so the chat template must be known.
An endpoint does not say how it cuts a text into tokens: words and marks are counted instead. One
that reads a part of a long prompt is refused: by the words of its echo, or by its count of tokens,
which must be that of the prompt's two halves. The key comes from OPENAI_API_KEY, and is in no
message and no record.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

from rulekeep.language.chat import Message, words_of
from rulekeep.language.contract import EMPTY, REPLY_TOKENS, Opened, Probe, shared, spoken
from rulekeep.language.resolving import check_library
from rulekeep.printable import one_line
from rulekeep.specs import UsageError

# Of one try. Where an endpoint limits requests, the client waits as long as it says.
TIMEOUT_SECONDS = 300.0
RETRIES = 1
_TOKEN = re.compile(r"\w+|[^\w\s]")
# What any tokenizer's tokens show as it is, and how some show a byte.
_WORD = re.compile(r"[A-Za-z0-9]+")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>|bytes:(?:\\x[0-9a-f]{2})+")
# Two halves of a prompt may have a few tokens more than it: where they meet, a word is cut.
_SEAM = 16
_FIX = (
    "check the address, --model and OPENAI_API_KEY, or wait; "
    "the same command goes on where it stopped"
)
_PART = "give the server a longer context, or shorter distances"


class _Echo(NamedTuple):
    """The tokens of a prompt with their log-probabilities; the first one's, unknown, is 0."""

    tokens: tuple[str, ...]
    scores: tuple[float, ...]


class Endpoint:
    """A model behind an endpoint."""

    def __init__(self, url: str, name: str, template: str = "") -> None:
        """Takes its address, its name, and its chat template, a text in Jinja."""
        check_library("--endpoint", "openai")
        if "eos_token" in template and "set eos_token" not in template:
            # Without it turns would not end as the model knows.
            raise UsageError(
                "--template: names eos_token, which an endpoint does not tell; begin the file with "
                "{% set eos_token = '</s>' %}, or what tokenizer_config.json says"
            )
        self._openai: Any = import_module("openai")
        self.url, self.name, self._template = url, name, template
        self._key = os.environ.get("OPENAI_API_KEY", "")
        self._client = self._openai.OpenAI(
            # A server of one's own asks for none, and the client does not start without.
            base_url=url, api_key=self._key or "none", timeout=TIMEOUT_SECONDS,
            max_retries=RETRIES,
        )  # fmt: skip
        # Of a written reply; what the model does not take is left out or renamed.
        self._limit, self._chosen = "max_tokens", {"temperature": 0}
        self._empty = set[str]()
        # The longest prompt that was read whole, in words and marks; and whether none is counted.
        self._whole, self._uncounted = 0, False

    @property
    def libraries(self) -> Mapping[str, str]:
        """The client's version, whether the temperature was its own, and why replies are empty.

        And whether there is no knowing that prompts were read whole.
        """
        own = {} if self._chosen else {"temperature": "its own"}
        own |= {"prompts": "not counted by the endpoint"} if self._uncounted else {}
        empty = {EMPTY: f"finish_reason {', '.join(sorted(self._empty))}"} if self._empty else {}
        return {"openai": self._openai.__version__, **own, **empty}

    def tokens(self, text: str) -> list[str]:
        """Words and marks of a text."""
        return _TOKEN.findall(text)

    def tokens_of(self, messages: Sequence[Message]) -> int:
        """Words and marks of some turns."""
        return words_of(messages)

    @contextmanager
    def _asking(self, fix: str = _FIX) -> Iterator[None]:
        """Says in a line without the key why a request, or reading its answer, gives nothing."""
        try:
            yield
        except UsageError:
            raise
        except (self._openai.OpenAIError, AttributeError, LookupError, TypeError, ValueError) as of:
            detail = str(of.__cause__ or getattr(of, "body", None) or "")
            why = str(of) if detail in str(of) else f"{of} ({detail})"
            if self._key:
                why = why.replace(self._key, "…")
            raise UsageError(f"--endpoint {self.url}: {one_line(why, 300)}; {fix}") from None

    def written(self, messages: Sequence[Message], tokens: int) -> str:
        """What it replies, greedily where it takes a temperature, in so many tokens at most.

        A thought is no part of it.
        """
        made = self._chat(messages, tokens)
        with self._asking():
            choice = _first(made)
            content = choice.message.content or ""
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if part["type"] == "text")
            text = spoken(content)
        if not text.strip():
            self._empty.add(str(choice.finish_reason))
        self._check_read(messages, _counted(made))
        return text

    def _chat(self, messages: Sequence[Message], tokens: int) -> Any:
        turns = [{"role": message.role, "content": message.text} for message in messages]
        while True:
            asked = {"model": self.name, "messages": turns, self._limit: tokens, **self._chosen}
            with self._asking():
                try:
                    return self._client.chat.completions.create(**asked)
                except self._openai.BadRequestError as error:
                    if not self._does_without(f"{error} {error.body}"):
                        raise

    def _check_read(self, messages: Sequence[Message], tokens: int | None) -> None:
        """Checks that a prompt was read whole of which so many tokens were, if none so long was."""
        words = self.tokens_of(messages)
        if words <= self._whole:
            return
        expected = None if tokens is None else self._expected(messages)
        if tokens is None or expected is None:
            self._uncounted = True
        elif tokens + _SEAM < expected:
            raise UsageError(
                f"--endpoint {self.url}: reads {tokens} of the {expected} tokens of a prompt; "
                f"{_PART}"
            )
        self._whole = words

    def _expected(self, messages: Sequence[Message]) -> int | None:
        """The tokens of a prompt, from those of its halves; None where these are not counted."""
        # Asked as it was: some refuse a shorter reply.
        parts = [_counted(self._chat(part, REPLY_TOKENS)) for part in _halves(messages)]
        first, second, beside = parts
        if first is None or second is None or beside is None:
            return None
        return first + second - beside

    def _does_without(self, refused: str) -> bool:
        """Whether a parameter that is named as refused can be left out: of reasoning models."""
        if self._limit == "max_tokens" and self._limit in refused:
            self._limit = "max_completion_tokens"
        elif any(name in refused for name in self._chosen):
            self._chosen = {}
        else:
            return False
        return True

    def opened(
        self, messages: Sequence[Message], evictions: Sequence[str] = (), rules: Sequence[str] = ()
    ) -> "Sent":
        """A conversation, sent anew with each request: an endpoint keeps none."""
        del rules
        assert not evictions, "refused before"
        return Sent(self, tuple(messages))

    def text(self, messages: Sequence[Message]) -> str:
        """Messages as the model reads them, up to where its reply begins."""
        rendering: Any = import_module("transformers.utils.chat_template_utils")
        turns = [{"role": message.role, "content": message.text} for message in messages]
        try:
            # The server puts the token before a text that begins it.
            (text,), _ = rendering.render_jinja_template(
                [turns], chat_template=self._template, add_generation_prompt=True, bos_token=""
            )
        except Exception as error:
            raise UsageError(
                f"--template: {type(error).__name__}: {one_line(error, 120)}"
            ) from None
        return str(text)

    def echoed(self, text: str, said: Sequence[str]) -> _Echo:
        """Log-probabilities of a text, in which these stand."""
        with self._asking(f"{_FIX}; where it cannot echo a prompt, give --replies written"):
            made = self._client.completions.create(
                model=self.name, prompt=text, max_tokens=1, temperature=0, echo=True, logprobs=1
            )
            given, usage = _first(made).logprobs, made.usage
            if given is None or usage is None or not given.token_logprobs:
                raise ValueError("answered without the prompt's log-probabilities")
            # What follows the prompt is not asked about, and can be of no token.
            own = len(given.tokens) - usage.completion_tokens
            # Nothing stands before the first token: it has none.
            scores = (0.0, *given.token_logprobs[1:own])
            if own < 2 or len(scores) != own or not all(map(math.isfinite, scores)):
                raise ValueError("answered without a finite log-probability of each token")
        tokens, words = given.tokens[:own], _words(" ".join(said))
        if (known := _read(words, tokens)) < len(words):
            raise UsageError(
                f"--endpoint {self.url}: reads {known} of the {len(words)} words of a prompt; "
                f"{_PART}"
            )
        return _Echo(tuple(tokens), scores)


@dataclass(frozen=True)
class Sent(Opened):
    """A conversation with a model behind an endpoint, which has no cache to cut or round."""

    model: Endpoint
    messages: tuple[Message, ...]

    @property
    def tokens(self) -> int:
        """Words and marks of it."""
        return self.model.tokens_of(self.messages)

    def reply(self, request: str) -> str:
        """What the model replies to a request, greedily."""
        return self.model.written([*self.messages, Message("user", request)], REPLY_TOKENS)

    def scores(self, probes: Sequence[Probe]) -> list[float]:
        """The log-likelihood of each probe's reply, in nats."""
        found, begun = list[float](), dict[str, _Echo]()
        for probe in probes:
            turns = [*self.messages, Message("user", probe.request)]
            asked = self.model.text(turns) + probe.prefix
            said = [*(one.text for one in turns), probe.prefix]
            if asked not in begun:
                begun[asked] = self.model.echoed(asked, said)
            before = begun[asked]
            whole = self.model.echoed(asked + probe.reply, [*said[:-1], probe.prefix + probe.reply])
            first = shared(before.tokens, whole.tokens)
            if first == len(whole.tokens):
                raise UsageError(
                    f"--endpoint {self.model.url}: answered without the end of the prompt; "
                    "give --replies written"
                )
            found.append(sum(whole.scores[first:]))
        return found


def _halves(messages: Sequence[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Two prompts with the text of one between them, and one with what both have beside it.

    All three begin with a system prompt where that one does, and end with a user's turn. It is cut
    between turns; where it has none, in its longest text.
    """
    lead = [Message(one.role, ".") for one in messages[:1] if one.role == "system"]
    request = Message("user", ".")
    cuts = [
        at for at, (before, after) in enumerate(pairwise(messages), 1)
        if (before.role, after.role) == ("assistant", "user")
    ]  # fmt: skip
    if cuts:
        at = cuts[len(cuts) // 2]
        return [*messages[:at], request], [*lead, *messages[at:]], [*lead, request]
    at = max(range(len(messages)), key=lambda at: len(messages[at].text))
    role, text = messages[at].role, messages[at].text
    middle = max(text.find(" ", len(text) // 2), len(text) // 2)
    first = [*messages[:at], Message(role, text[:middle])]
    second = [*(lead if at else []), Message(role, text[middle:]), *messages[at + 1 :]]
    return first if role == "user" else [*first, request], second, [*lead, request]


def _first(answer: Any) -> Any:
    """The first choice of an answer; without one it says an error instead."""
    if not getattr(answer, "choices", None):
        raise ValueError(f"answered without choices: {getattr(answer, 'error', None) or answer}")
    return answer.choices[0]


def _counted(answer: Any) -> int | None:
    """How many tokens of a prompt an endpoint says it has read; None where it does not."""
    tokens = getattr(getattr(answer, "usage", None), "prompt_tokens", None)
    return tokens if isinstance(tokens, int) and tokens > 0 else None


def _words(text: str) -> list[str]:
    return _WORD.findall(_BYTE.sub("", text))


def _read(words: Sequence[str], echo: Sequence[str]) -> int:
    """How many words, from the first on, stand in an echo in this order.

    Only their letters are compared: special tokens and spaces may be shown in any way, or not.
    """
    letters, at = "".join(_words("".join(echo))), 0
    for place, word in enumerate(words):
        found = letters.find(word, at)
        if found < 0:
            return place
        at = found + len(word)
    return len(words)
