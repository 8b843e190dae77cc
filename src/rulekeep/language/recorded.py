"""Conversations of a user's own, read from a file: the chat between rules and requests.

    recorded = read_chat("chats.jsonl")
    recorded.turns(stream, 2048, tokens_of)      # the turns of one prompt
    recorded.named(families)                     # options that stand in them as words

A line is a conversation: a list of messages with `role` and `content`, or an object with such a
list as `messages`. Turns of users and assistants are read, and what tools or a system say is left
out. No torch.
"""

import hashlib
import json
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.language.chat import Counter, Message
from rulekeep.language.families import Families
from rulekeep.language.texts import is_stored
from rulekeep.specs import UsageError

_LARGEST_BYTES = 2**26
_FORM = '{"messages": [{"role": "user", "content": "Hello."}, …]}'


class Recorded(NamedTuple):
    """Conversations, each of turns of a user's message and its reply."""

    conversations: tuple[tuple[tuple[Message, Message], ...], ...]

    def turns(self, drawn: random.Random, distance: int, tokens_of: Counter) -> list[list[Message]]:
        """Turns of `distance` tokens at most, from a turn drawn on; the last one is cut to fit.

        The conversation goes on to its end. Others follow in an order that is drawn, and last the
        turns before the first.

        Raises:
            UsageError: all of them are shorter.
        """
        order = list(range(len(self.conversations)))
        drawn.shuffle(order)
        first, *others = (self.conversations[at] for at in order)
        begin = drawn.randrange(len(first))
        taken, tokens = list[list[Message]](), 0
        for turn in (*first[begin:], *(one for other in others for one in other), *first[:begin]):
            size = tokens_of(turn)
            if tokens + size >= distance:
                return [*taken, *_cut(turn, distance - tokens, tokens_of)]
            taken.append([*turn])
            tokens += size
        raise UsageError(
            f"--chat: has {tokens} tokens, and distance {distance} needs more; "
            "add conversations or give shorter distances"
        )

    def named(self, families: Families) -> dict[str, list[str]]:
        """The options that stand in these conversations as words, by family."""
        text = "\n".join(one.text for turns in self.conversations for turn in turns for one in turn)
        # A search for a word among others takes a hundred times as long as one for letters.
        letters = text.lower()
        every = {
            name: [
                option
                for option in family.options
                if option.lower() in letters and is_stored(text, option)
            ]
            for name, family in families.items()
        }
        return {name: options for name, options in every.items() if options}

    @property
    def digest(self) -> str:
        """What identifies them: their turns, whatever the file is called."""
        return hashlib.sha256(json.dumps(self.conversations).encode()).hexdigest()[:12]


def read_chat(path: str) -> Recorded:
    """The conversations of a file of JSON Lines.

    Raises:
        UsageError: it cannot be read, or a line of it is no conversation.
    """
    try:
        whole = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"--chat {path}: {error.strerror}; name a file of JSON Lines") from None
    if len(whole) > _LARGEST_BYTES:
        raise UsageError(f"--chat {path}: has {len(whole)} bytes; {_LARGEST_BYTES} at most")
    found = []
    for number, line in enumerate(whole.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            turns = tuple(_turns(json.loads(line)))
        except (ValueError, RecursionError):
            raise UsageError(
                f"--chat {path}: line {number} is no conversation; write {_FORM}"
            ) from None
        if turns:
            found.append(turns)
    if not found:
        raise UsageError(f"--chat {path}: has no turn of a user and an assistant; write {_FORM}")
    return Recorded(tuple(found))


def _turns(found: Any) -> Iterator[tuple[Message, Message]]:
    """Each user's message with the reply to it; messages of one role in a row are one.

    Raises:
        ValueError: it is no list of messages.
    """
    listed = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError("no messages")
    said = [(one.get("role"), _text(one.get("content"))) for one in listed]
    spoken = [(role, text) for role, text in said if role in ("user", "assistant") and text]
    joined = [
        (role, "\n\n".join(text for _, text in texts))
        for role, texts in groupby(spoken, lambda one: one[0])
    ]
    for (role, asked), (_, replied) in pairwise(joined):
        if role == "user":
            yield Message("user", asked), Message("assistant", replied)


def _text(content: Any) -> str:
    """The words of a message; a list of parts may hold images and calls of tools as well."""
    if isinstance(content, list):
        parts = [one.get("text") for one in content if isinstance(one, dict)]
        content = "\n\n".join(one for one in parts if isinstance(one, str))
    # Half a letter is no text that a model can read.
    return content.encode(errors="replace").decode().strip() if isinstance(content, str) else ""


def _cut(turn: Sequence[Message], room: int, tokens_of: Counter) -> Iterator[list[Message]]:
    """The turn with as many letters of each message as fit; nothing where not one does."""

    def cut(letters: int) -> list[Message]:
        return [one._replace(text=one.text[:letters]) for one in turn]

    every = range(max(len(one.text) for one in turn) + 1)
    if letters := bisect_right(every, room, lo=1, key=lambda one: tokens_of(cut(one))) - 1:
        yield cut(letters)
