"""Conversations of a user's own, read from a file: the chat between rules and requests.

    recorded = read_chat("chats.jsonl")
    recorded.turns(stream, 2048, tokens_of)      # the turns of one prompt
    recorded.named(families)                     # options that stand in them as words

A file is JSON Lines, a conversation a line, or one array of conversations. A conversation is a list
of messages, or an object that has one as `messages` or `conversations`. A message has a `role` and
a `content`, or `from` and `value`. Turns of users and assistants are read, and what tools or a
system say is left out. A mark of a template, such as `<|im_end|>`, gets a space. No torch.
"""

import hashlib
import json
import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rulekeep.language.chat import Counter, Message, parted, whole_letters
from rulekeep.language.families import Families, options_in
from rulekeep.printable import counted
from rulekeep.specs import UsageError

Turn: TypeAlias = tuple[Message, Message]

_LISTS = ("messages", "conversations", "conversation")
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
_FORM = 'write {"messages": [{"role": "user", "content": "Hello."}, …]}, one conversation a line'
# Marks of turns and of thought in the templates of chat models. An endpoint does not say which are
# its own, and reads them as such.
_MARKS = re.compile(
    r"<[|｜][^<>\s]+[|｜]>|</?(?:s|think|bos|eos|start_of_turn|end_of_turn)>|<</?SYS>>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
)
# Of a file that is read again and again in a prompt's place, prompts share too much text.
_LARGEST_SHARE = 0.1


class Recorded(NamedTuple):
    """Conversations, each of turns of a user's message and its reply, and the file they are of."""

    path: str
    conversations: tuple[tuple[Turn, ...], ...]

    def turns(self, drawn: random.Random, distance: int, tokens_of: Counter) -> list[list[Message]]:
        """Turns of `distance` tokens at most, from a turn drawn on; the last one is cut to fit.

        The conversation goes on to its end. Others follow in an order that is drawn, and last the
        turns before the first.

        Raises:
            UsageError: all of them are shorter, or no turn is so short.
        """
        sizes = [len(one) for one in self.conversations]
        (first,) = drawn.choices(range(len(sizes)), sizes)
        begin, own = drawn.randrange(sizes[first]), self.conversations[first]
        others = [one for at, one in enumerate(self.conversations) if at != first]
        drawn.shuffle(others)
        taken, tokens = list[list[Message]](), 0
        for turn in (*own[begin:], *(one for other in others for one in other), *own[:begin]):
            letters, size = _fitting(turn, distance - tokens, tokens_of)
            if letters:
                taken.append(_cut(turn, letters))
                tokens += size
            if letters < _length(turn):
                break
        else:
            if tokens < distance:
                raise UsageError(
                    f"--chat {self.path}: has {tokens} tokens, and distance {distance} needs more; "
                    "give a shorter distance or a file with more"
                )
        if not taken:
            raise UsageError(f"distance {distance}: has no room for a turn; give a longer one")
        return taken

    def named(self, families: Families) -> dict[str, list[str]]:
        """The options that stand in these conversations as words, by family."""
        return options_in("\n".join(self._texts()), families)

    def notes(self, families: Families, distance: int, example: Sequence[Message]) -> Iterator[str]:
        """What a reader of a cell must know of its chat; `example` is what a prompt reads."""
        count = sum(map(len, self.conversations))
        yield (
            f"chat: {counted(len(self.conversations), 'conversation')}, {counted(count, 'turn')} "
            f"of {Path(self.path).name}"
        )
        whole = sum(map(len, self._texts()))
        share = sum(len(one.text) for one in example if one.role != "system") / whole
        if share > _LARGEST_SHARE:
            yield (
                f"chat: at distance {distance} a prompt reads {min(share, 1):.0%} of the file, and "
                "prompts that share text may keep too much; give more conversations"
            )
        if named := self.named(families):
            listed = ", ".join(f"{one} ({', '.join(of)})" for one, of in named.items())
            yield f"chat: mentions options by itself: {listed}"

    def _texts(self) -> Iterator[str]:
        return (one.text for turns in self.conversations for turn in turns for one in turn)

    @property
    def digest(self) -> str:
        """What identifies them: their turns, whatever the file is called."""
        return hashlib.sha256(json.dumps(self.conversations).encode()).hexdigest()[:12]


def read_chat(path: str) -> Recorded:
    """The conversations of a file.

    Raises:
        UsageError: it cannot be read, or a part of it is no conversation.
    """
    try:
        return _read(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise UsageError(f"--chat {path}: {error.strerror}; name a file of JSON Lines") from None
    except ValueError as error:
        raise UsageError(f"--chat {path}: {error}") from None


# A command asks for it with every cell.
@lru_cache(maxsize=4)
def _read(path: str, _changed: int) -> Recorded:
    """Raises `ValueError` where a part of the file is no conversation."""
    conversations = []
    for place, conversation in parts(Path(path).read_bytes()):
        try:
            turns = tuple(_turns(conversation))
        except ValueError as error:
            raise ValueError(f"{place} is no conversation ({error}); {_FORM}") from None
        if turns:
            conversations.append(turns)
    if not conversations:
        raise ValueError(f"has no user's message with a reply; {_FORM}")
    return Recorded(path, tuple(conversations))


def parts(whole: bytes) -> Iterator[tuple[str, Any]]:
    """Each conversation and what to call it.

    Raises:
        ValueError: a line is no JSON.
    """
    try:
        found = json.loads(whole)
    except ValueError:
        for number, line in enumerate(whole.splitlines(), start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError:
                    raise ValueError(f"line {number} is no JSON in UTF-8; {_FORM}") from None
        return
    if isinstance(found, list) and not any(_role(one) for one in found):
        yield from ((f"entry {number}", one) for number, one in enumerate(found, start=1))
    else:
        yield "it", found


def _turns(found: Any) -> Iterator[Turn]:
    """Each user's message with the reply to it; messages of one role in a row are one.

    Raises:
        ValueError: it is no list of messages, or nobody speaks in it.
    """
    listed = conversation_of(found)
    roles = [_role(one) for one in listed]
    if listed and not {*roles} & _ROLES.keys():
        raise ValueError(f"its roles are {', '.join(sorted({ascii(one) for one in roles}))}")
    said = [
        (_ROLES[role], text)
        for role, one in zip(roles, listed, strict=True)
        if role in _ROLES and (text := _text(one))
    ]
    joined = [
        (role, "\n\n".join(text for _, text in texts))
        for role, texts in groupby(said, lambda one: one[0])
    ]
    for (role, asked), (_, replied) in pairwise(joined):
        if role == "user":
            yield Message("user", asked), Message("assistant", replied)


def conversation_of(found: Any) -> list[Any]:
    """The list of messages that a conversation is, or has.

    Raises:
        ValueError: there is none.
    """
    listed = found
    if isinstance(found, dict):
        keys = [key for key in _LISTS if key in found]
        if not keys:
            has = ", ".join(map(ascii, found)) or "nothing"
            raise ValueError(f"no list messages; it has {has}")
        listed = found[keys[0]]
    if not isinstance(listed, list):
        raise ValueError("no list of messages")
    return listed


def _role(message: Any) -> str:
    role = message.get("role", message.get("from")) if isinstance(message, dict) else None
    return role.lower() if isinstance(role, str) else ""


def _text(message: dict[str, Any]) -> str:
    """The words of a message; a list of parts may hold images and calls of tools as well."""
    content = message.get("content", message.get("value"))
    parts = [one.get("text") if isinstance(one, dict) else one for one in _listed(content)]
    text = "\n\n".join(one for one in parts if isinstance(one, str))
    return parted(_MARKS, whole_letters(text).strip())


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content]


def _length(turn: Turn) -> int:
    return max(len(one.text) for one in turn)


def _cut(turn: Turn, letters: int) -> list[Message]:
    return [one._replace(text=one.text[:letters]) for one in turn]


def _fitting(turn: Turn, room: int, tokens_of: Counter) -> tuple[int, int]:
    """How many letters of each message of a turn fit, and the tokens that they have."""

    def size(letters: int) -> int:
        return tokens_of(_cut(turn, letters))

    # A long message is not counted whole where a part of it is too long already.
    most, reach = _length(turn), 64
    while reach < most and size(reach) <= room:
        reach *= 2
    if reach >= most and (tokens := size(most)) <= room:
        return most, tokens
    letters = bisect_right(range(min(reach, most)), room, lo=1, key=size) - 1
    return (letters, size(letters)) if letters else (0, 0)
