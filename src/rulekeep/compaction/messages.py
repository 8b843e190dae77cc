"""Messages in OpenAI's format: what a compactor is given and returns, and a user's own histories.

    as_messages(left)               # what was returned, as messages of our own
    tokens_of(messages)             # in words and marks, or as a user counts
    unpaired(messages)              # calls and results of tools that OpenAI would refuse

A message has a role and text; one of an assistant may have calls, one of a tool says which call it
answers. No torch.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rulekeep.specs import UsageError

Message: TypeAlias = dict[str, Any]
Count: TypeAlias = Callable[[str], int]
ROLES = ("system", "user", "assistant", "tool", "developer")
# As other formats call them.
_SAME = {"human": "user", "gpt": "assistant", "function": "tool"}
# Longer than it was by so much is no history any more.
_MOST_LETTERS = 20_000_000
_WORD = re.compile(r"\w+|[^\w\s]")
# What a conversation that is an object calls its messages.
_LISTS = ("messages", "conversations", "conversation")
_FORM = 'write {"messages": [{"role": "user", "content": "Hello."}, …]}, one conversation a line'
_Read = TypeVar("_Read")


class CompactionError(ValueError):
    """A compactor failed, or returned what is no history."""


@lru_cache(maxsize=2**15)
def word_count(text: str) -> int:
    """Words and marks of a text: its tokens, where no tokenizer is known."""
    return len(_WORD.findall(text))


def text_of(message: Message) -> str:
    """What a message says, and what it calls."""
    calls = message.get("tool_calls") or ()
    said = [f"{call['function']['name']} {call['function']['arguments']}" for call in calls]
    return "\n".join([message.get("content") or "", *said]).strip()


def tokens_of(messages: Iterable[Message], count: Count = word_count) -> int:
    """The tokens of some messages."""
    return sum(count(text_of(message)) for message in messages)


def read_messages(written: bytes) -> Any:
    """What was written as JSON; else it is the text that is left."""
    text = written.decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith(('{"', "[{")):
            raise CompactionError(f"is broken JSON ({error}); write it whole, or text") from None
        return text
    return found.get("messages", found) if isinstance(found, dict) else found


def as_messages(left: Any) -> list[Message]:
    """What a compactor returned, as messages of our own."""
    if isinstance(left, str):
        left = [{"role": "user", "content": left}] if left.strip() else []
    if not isinstance(left, (list, tuple)):
        raise CompactionError(f"returned {type(left).__name__}; return a list of messages")
    messages = [_message(at, one) for at, one in enumerate(left)]
    if (letters := sum(len(one["content"]) for one in messages)) > _MOST_LETTERS:
        raise CompactionError(f"returned {letters:,} letters; shorten what it returns")
    return messages


def role_of(one: Any) -> str:
    """Who speaks in a message of any format; of what is none, its type."""
    if not isinstance(one, dict):
        return type(one).__name__
    role = str(one.get("role", one.get("from"))).lower()
    return _SAME.get(role, role)


def _message(at: int, one: Any) -> Message:
    """Raises `CompactionError` where it is no message."""
    role = role_of(one)
    if not isinstance(one, dict) or role not in ROLES:
        raise CompactionError(f"message {at}: role {role!r:.40}; write one of {', '.join(ROLES)}")
    said = one.get("content") or one.get("value") or ""
    said = [said] if isinstance(said, str) else said
    try:
        texts = [part if isinstance(part, str) else part.get("text") or "" for part in said]
        calls = [
            {
                "id": str(call["id"]), "type": "function",
                "function": {
                    key: given if isinstance(given, str) else json.dumps(given)
                    for key in ("name", "arguments")
                    for given in [call["function"][key]]
                },
            }
            for call in one.get("tool_calls") or ()
        ]  # fmt: skip
        content = "\n".join(texts).encode(errors="replace").decode()
    except (AttributeError, KeyError, TypeError) as error:
        raise CompactionError(
            f"message {at}: {error!r:.80}; write content as text, and calls in OpenAI's format"
        ) from None
    message: Message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = calls
    if one.get("tool_call_id") is not None:
        message["tool_call_id"] = str(one["tool_call_id"])
    return message


def unpaired(messages: Sequence[Message]) -> int:
    """Calls without a result right after them, and results without a call: OpenAI refuses both."""
    waiting, lone = set[str](), 0
    for message in messages:
        if message["role"] == "tool":
            lone += message.get("tool_call_id") not in waiting
            waiting.discard(message.get("tool_call_id", ""))
        else:
            lone += len(waiting)
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return lone + len(waiting)


def transcript(messages: Iterable[Message]) -> str:
    """A history as text, a message a line, as a summarizer reads it."""
    return "\n".join(_line(message) for message in messages)


def _line(message: Message) -> str:
    calls = "".join(
        f" [{call['function']['name']} {call['function']['arguments']}]"
        for call in message.get("tool_calls") or ()
    )
    return f"{message['role']}: {message['content']}{calls}"


def read_chats(path: str, read: Callable[[list[Any]], _Read]) -> list[_Read]:
    """What is read of each conversation of a user's file: JSON Lines, or one JSON array.

    Raises:
        UsageError: one cannot be read.
    """
    found = []
    try:
        for place, chat in _parts(Path(path).read_bytes()):
            try:
                found.append(read(_listed(chat)))
            except ValueError as error:
                raise ValueError(f"{place} is no conversation ({error})") from None
    except OSError as error:
        raise UsageError(f"--chat {path}: {error.strerror}; name a file of JSON Lines") from None
    except ValueError as error:
        raise UsageError(f"--chat {path}: {error}; {_FORM}") from None
    return found


def _parts(whole: bytes) -> Iterator[tuple[str, Any]]:
    """Each conversation and what to call it."""
    try:
        found = json.loads(whole)
    except ValueError:
        for number, line in enumerate(whole.splitlines(), start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError:
                    raise ValueError(f"line {number} is no JSON in UTF-8") from None
        return
    if isinstance(found, list) and not any(role_of(one) in ROLES for one in found):
        yield from ((f"entry {number}", one) for number, one in enumerate(found, start=1))
    else:
        yield "it", found


def _listed(found: Any) -> list[Any]:
    """The list of messages that a conversation is, or has."""
    if isinstance(found, dict):
        found = next((found[key] for key in _LISTS if key in found), None)
    if not isinstance(found, list):
        raise ValueError("no list of messages")
    return found
