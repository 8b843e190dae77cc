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
message and no record. No torch.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from rulekeep.language.chat import Message
from rulekeep.language.compressions import Compression
from rulekeep.language.contract import EMPTY, REPLY_TOKENS, Probe, shared, spoken
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
_AGAIN = "then give the command again: it goes on where it stopped"
_WAIT = f"wait or mend it, {_AGAIN}"
_CHECK = "check --model and the address, as in http://localhost:8000/v1"
_WRITTEN = "give --replies written"
_PART = "give the server a longer context, or shorter distances"
_UNSCORED = f"without the prompt's log-probabilities; {_WRITTEN}"
_Answer = TypeVar("_Answer")


class _Echo(NamedTuple):
    """The tokens of a prompt with their log-probabilities; the first one's, unknown, is 0."""

    tokens: tuple[str, ...]
    scores: tuple[float, ...]


class Endpoint:
    """A model behind an endpoint."""

    def __init__(self, url: str, name: str, template: str = "") -> None:
        """Takes its address, its name, and its chat template, a text in Jinja.

        Raises:
            UsageError: the client is not installed, or the template cannot be.
        """
        check_library("--endpoint", "openai")
        self._openai: Any = import_module("openai")
        self.url, self.name = url, name
        self._key = os.environ.get("OPENAI_API_KEY", "")
        self._client = self._openai.OpenAI(
            # A server of one's own asks for none, and the client does not start without.
            base_url=url, api_key=self._key or "none", timeout=TIMEOUT_SECONDS,
            max_retries=RETRIES,
        )  # fmt: skip
        self._template = _compiled(template)
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
        return sum(len(self.tokens(one.text)) for one in messages)

    def written(self, messages: Sequence[Message], tokens: int) -> str:
        """What it replies, greedily where it takes a temperature, in so many tokens at most.

        A thought is no part of it.

        Raises:
            UsageError: the endpoint does not answer, or not as it should.
        """
        made = self._chat(messages, tokens)

        def read() -> str:
            choice = _given(made, "choices")[0]
            text = _text(_given(choice, "message").content)
            if not text.strip():
                self._empty.add(str(choice.finish_reason))
            return text

        text = self._answer(read)
        self._check_read(messages, _counted(made))
        return text

    def _chat(self, messages: Sequence[Message], tokens: int) -> Any:
        turns = [{"role": one.role, "content": one.text} for one in messages]

        def ask() -> Any:
            asked = {"model": self.name, "messages": turns, self._limit: tokens, **self._chosen}
            try:
                return self._client.chat.completions.create(**asked)
            except self._openai.BadRequestError as error:
                if not self._does_without(error.param or _told(error.body)):
                    raise
                return ask()

        return self._answer(ask)

    def _check_read(self, messages: Sequence[Message], tokens: int | None) -> None:
        """Checks that a prompt was read whole of which so many tokens were, if none so long was.

        Raises:
            UsageError: its halves, each asked alone, have more.
        """
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
        """Whether a parameter that was refused can be left out or renamed: reasoning models.

        `refused` names it, in a sentence where the endpoint has no other place for it.
        """
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
        turns = [{"role": one.role, "content": one.text} for one in messages]
        try:
            return str(
                # The server puts the token before a text that begins it.
                self._template.render(messages=turns, add_generation_prompt=True, bos_token="")
            )
        except Exception as error:
            raise UsageError(
                f"--template: {type(error).__name__}: {one_line(error, 120)}"
            ) from None

    def echoed(self, text: str, said: Sequence[str]) -> _Echo:
        """Log-probabilities of a text, in which these stand.

        Raises:
            UsageError: the endpoint does not answer, gives none, or does not read it whole.
        """

        def ask() -> _Echo:
            made = self._client.completions.create(
                model=self.name, prompt=text, max_tokens=1, temperature=0, echo=True, logprobs=1
            )
            given = _given(_given(made, "choices")[0], "logprobs", _WRITTEN)
            tokens = _given(given, "tokens", _WRITTEN)
            scores = _given(given, "token_logprobs", _WRITTEN)
            usage = _given(made, "usage", _WRITTEN)
            # What follows the prompt is not asked about, and can be of no token.
            own = len(tokens) - _given(usage, "completion_tokens", _WRITTEN)
            # Nothing stands before the first token: it has none.
            known = (0.0, *scores[1:own])
            if own < 2 or len(scores) != len(tokens) or not all(map(_is_finite, known)):
                raise _WrongAnswerError(_UNSCORED)
            return _Echo(tuple(tokens[:own]), known)

        echo = self._answer(ask, f"; where it cannot echo a prompt, {_WRITTEN}")
        words = _words(" ".join(said))
        if (known := _read(words, echo.tokens)) < len(words):
            raise UsageError(
                f"--endpoint {self.url}: reads {known} of the {len(words)} words of a prompt; "
                f"{_PART}"
            )
        return echo

    def _answer(self, ask: Callable[[], _Answer], hint: str = "") -> _Answer:
        """What a request gives, or why it gives nothing, in a line without the key.

        `hint` is the fix where the endpoint refuses the request.
        """
        api = self._openai
        try:
            return ask()
        except api.APITimeoutError:
            why = (
                f"took over {TIMEOUT_SECONDS:g} s; "
                f"give shorter distances or a faster server, {_AGAIN}"
            )
        except api.APIConnectionError as error:
            why = f"cannot be reached ({error.__cause__ or error}); start it, {_AGAIN}"
        except (api.AuthenticationError, api.PermissionDeniedError) as error:
            why = f"refuses the key ({error.status_code}); set OPENAI_API_KEY, {_AGAIN}"
        except api.RateLimitError as error:
            why = f"answered {_said(error)}; wait, {_AGAIN}"
        except api.NotFoundError as error:
            why = f"answered {_said(error)}; {_CHECK}{hint}"
        except api.InternalServerError as error:
            why = f"answered {_said(error)}; {_WAIT}{hint}"
        except api.APIStatusError as error:
            why = f"answered {_said(error)}; give shorter distances or another --model{hint}"
        except _WrongAnswerError as error:
            why = f"answered {error}"
        except (api.OpenAIError, ValueError, TypeError, AttributeError, LookupError):
            why = f"answered what is no JSON of this API; {_CHECK}"
        if self._key:
            why = why.replace(self._key, "…")
        raise UsageError(f"--endpoint {self.url}: {one_line(why, 400)}")


@dataclass(frozen=True)
class Sent:
    """A conversation with a model behind an endpoint."""

    model: Endpoint
    messages: tuple[Message, ...]

    @property
    def tokens(self) -> int:
        """Words and marks of it."""
        return self.model.tokens_of(self.messages)

    @property
    def left(self) -> int:
        """All of them: an endpoint drops nothing."""
        return self.tokens

    def under(self, one: Compression) -> "Sent":
        """Itself: an endpoint has no cache to cut or round."""
        assert one.kind == "none", "refused before"
        return self

    def kept_bytes(self, one: Compression) -> int | None:
        """None: an endpoint does not say."""
        del one
        return None

    def reply(self, request: str) -> str:
        """What the model replies to a request, greedily."""
        return self.model.written([*self.messages, Message("user", request)], REPLY_TOKENS)

    def scores(self, probes: Sequence[Probe]) -> list[float]:
        """The log-likelihood of each probe's reply, in nats.

        Raises:
            UsageError: the endpoint gives none.
        """
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
                # Its end is not there.
                raise UsageError(f"--endpoint {self.model.url}: answered {_UNSCORED}")
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


class _WrongAnswerError(Exception):
    """An answer without what was asked for: what it has instead, and the fix."""


def _is_finite(score: object) -> bool:
    return isinstance(score, int | float) and math.isfinite(score)


def _text(content: Any) -> str:
    """What a message says, without its thought: a text, or the parts of one.

    Raises:
        TypeError, LookupError: it is neither.
    """
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if not isinstance(content, str | None):
        raise TypeError
    return spoken(content or "")


def _given(answer: Any, name: str, fix: str = _CHECK) -> Any:
    """A part of an answer.

    Raises:
        _WrongAnswerError: it is not there; with what the endpoint says instead.
    """
    if error := getattr(answer, "error", None):
        raise _WrongAnswerError(f"an error: {_told(error)}; {_WAIT}")
    found = getattr(answer, name, None)
    if found is None or found == []:
        raise _WrongAnswerError(f"without {name}; {fix}")
    return found


def _said(error: Any) -> str:
    """What an endpoint says as it refuses: its status and its message."""
    return f"{error.status_code}: {_told(error.body) or 'it said nothing'}"


def _told(error: Any) -> str:
    """An endpoint's error in a line, of whichever form: a text, or one under a name."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return one_line(error or "", 200)


def _compiled(template: str) -> Any:
    from jinja2 import TemplateError, meta, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """What an assistant says stands in a block of its own, and its text is as it was."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(said: str) -> None:
        raise ValueError(said)

    def plain(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **more)

    # As transformers compiles them, which would load torch.
    space = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    space.globals["raise_exception"] = refuse
    space.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    space.filters["tojson"] = plain
    try:
        lacking = meta.find_undeclared_variables(space.parse(template))
        found = space.from_string(template)
    except TemplateError as error:
        raise UsageError(f"--template: is no Jinja ({one_line(error, 120)})") from None
    if "eos_token" in lacking:
        # Without it turns would not end as the model knows.
        raise UsageError(
            "--template: names eos_token, which an endpoint does not tell; begin the file with "
            "{% set eos_token = '</s>' %}, or what tokenizer_config.json says"
        )
    return found
