"""Conversations of a user's own, read from a file: the chat between rules and requests.

    recorded = read_chat("chats.jsonl")
    recorded.turns(stream, 2048, tokens_of)      # the turns of one prompt
    recorded.named(families)                     # options that stand in them as words

Turns of users and assistants are read, and what tools or a system say is left out. A mark of a
template, such as `<|im_end|>`, gets a space. No torch.
"""

import hashlib
import json
import random
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rulekeep.compaction.messages import as_messages, read_chats, role_of
from rulekeep.language.chat import Counter, Message, parted
from rulekeep.language.families import Families, options_in
from rulekeep.printable import counted
from rulekeep.specs import UsageError

Turn: TypeAlias = tuple[Message, Message]

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
    """The conversations of a file; `UsageError` where it cannot be read, or has none."""
    conversations = tuple(filter(None, read_chats(path, _turns)))
    if not conversations:
        raise UsageError(f"--chat {path}: has no user's message with a reply")
    return Recorded(path, conversations)


def _turns(listed: list[Any]) -> tuple[Turn, ...]:
    """Each user's message with the reply to it; messages of one role in a row are one."""
    spoken = as_messages([one for one in listed if role_of(one) in ("user", "assistant")])
    said = [
        (one["role"], text) for one in spoken if (text := parted(_MARKS, one["content"].strip()))
    ]
    joined = [
        (role, "\n\n".join(text for _, text in texts))
        for role, texts in groupby(said, lambda one: one[0])
    ]
    return tuple(
        (Message("user", asked), Message("assistant", replied))
        for (role, asked), (_, replied) in pairwise(joined)
        if role == "user"
    )


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
