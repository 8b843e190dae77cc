"""How a run asks a language model, wherever it is: loaded here, or behind an endpoint.

    opened = model.opened(conversation.messages, evictions)     # a conversation that it has read
    opened.under(compression)                                   # the same from a compressed cache
    opened.scores(probes)                                       # log-likelihoods in nats
    opened.reply("Who are you?")                                # what it writes, greedily

No torch.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from rulekeep.language.chat import Message
from rulekeep.language.compressions import Compression

# Written replies end here at the latest: some have what shows the rule at their end.
REPLY_TOKENS = 256
# Tokens of a request and what is scored after it.
ROOM = 128
# In the environment of a record: why replies are empty.
EMPTY = "empty replies"


class Probe(NamedTuple):
    """A request with the beginning of its reply, and a continuation whose likelihood is asked."""

    request: str
    prefix: str
    reply: str


def shared(before: Sequence[object], whole: Sequence[object]) -> int:
    """How many tokens two texts begin with alike.

    Where a reply joins the last token of its prefix, that token is scored with the reply.
    """
    pairs = enumerate(zip(before, whole, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(before), len(whole)))


def spoken(reply: str) -> str:
    """A reply without its thought; nothing where the thought does not end."""
    _, ends, rest = reply.rpartition("</think>")
    if ends:
        return rest.lstrip()
    return "" if "<think>" in reply else reply


class Opened(Protocol):
    """A conversation that a model has read; without a cache that can be seen, nothing is cut."""

    @property
    def tokens(self) -> int:
        """How many tokens were read."""
        ...

    @property
    def left(self) -> int:
        """How many of them the model still sees."""
        return self.tokens

    def under(self, one: Compression) -> "Opened":
        """The same from a cache that is cut or rounded; this one stays as it is."""
        assert one.kind == "none", "refused before"
        return self

    def kept_bytes(self, one: Compression) -> int | None:
        """Bytes of its cache under a compression; None where there is no knowing."""
        del one
        return None

    def scores(self, probes: Sequence[Probe]) -> list[float]:
        """The log-likelihood of each probe's reply, in nats."""
        ...

    def reply(self, request: str) -> str:
        """What the model replies to a request, greedily."""
        ...


class Model(Protocol):
    """A chat model."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """What it is asked through, with versions: provenance of a record."""
        ...

    def tokens(self, text: str) -> Sequence[object]:
        """The tokens of a text, as far as it is known: budgets are in them."""
        ...

    def tokens_of(self, messages: Sequence[Message]) -> int:
        """How many tokens some turns add to a conversation."""
        ...

    def written(self, messages: Sequence[Message], tokens: int) -> str:
        """What it replies to the last of some messages, greedily, in so many tokens at most."""
        ...

    def opened(
        self, messages: Sequence[Message], evictions: Sequence[str] = (), rules: Sequence[str] = ()
    ) -> Opened:
        """Reads a conversation once, and observes what these evictions need of it.

        `rules` are those that it states, for an eviction with a guard.
        """
        ...
