"""A conversation shortened as text, and put to the model anew: what compaction does to rules.

    shorter = compact(messages, Compression.parse("keep_ends@0.25"), model)
    shorter.messages                # what the model reads instead
    shorter.text                    # what is left, to see whether a rule is still in it

Each of ours is the function of its name here; any other is a compactor of histories
(`rulekeep.compaction.compactors`). Text that is left stands in the system prompt.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from rulekeep.compaction.compactors import SENTENCE, Compactor, central, find
from rulekeep.compaction.messages import CompactionError, Count, as_messages, transcript
from rulekeep.compaction.messages import Message as Given
from rulekeep.language.chat import SYSTEM, Message, whole_letters
from rulekeep.language.compressions import COMPACTORS, Compression
from rulekeep.language.contract import REPLY_TOKENS, Model
from rulekeep.specs import UsageError

_LEFT = "\nThe conversation so far, shortened:\n"
_SUMMARY = (
    "Summarize our conversation so far in at most {words} words. Keep every rule that I gave you."
)
_Part = TypeVar("_Part", str, int)


class Shorter(NamedTuple):
    """What is left of a conversation: as the model reads it, and as text."""

    messages: tuple[Message, ...]
    text: str


def compact(messages: Sequence[Message], one: Compression, model: Model) -> Shorter:
    """Shortens a conversation to a share of its tokens; what is left as it was is read as it was.

    Raises:
        UsageError: a compactor from outside fails, or leaves nothing or too much; or the model's
            summary is empty.
    """

    def count(text: str) -> int:
        return len(model.tokens(text))

    given = [{"role": message.role, "content": message.text} for message in messages]
    whole = transcript(given)
    budget = max(1, int(count(whole) * one.amount))
    if one.name in COMPACTORS and one.name != "summary" and count(whole) <= budget:
        return Shorter(tuple(messages), whole)
    if one.name == "summary":
        left = as_messages(summary(messages, budget, count, model.written))
    else:
        ours = getattr(sys.modules[__name__], one.name) if one.name in COMPACTORS else None
        compactor = Compactor.of(ours, one.name) if ours else find(one.name)
        try:
            left = compactor(
                given, budget=budget, count=count, state={}, prompt="",
                model=lambda prompt: model.written([Message("user", prompt)], REPLY_TOKENS),
            )  # fmt: skip
        except CompactionError as error:
            raise UsageError(f"compress {one.name}: {error}") from error
    # One message of the user is what a text counts as.
    is_text = not left[1:] and all(message["role"] == "user" for message in left)
    text = "".join(message["content"] for message in left).strip() if is_text else transcript(left)
    if not text and one.name not in COMPACTORS:
        raise UsageError(f"compress {one.name}: returned no text; return what is left of it")
    if count(text) > budget:
        raise UsageError(
            f"compress {one.name}: returned {count(text)} tokens where {budget} are allowed; "
            "shorten what it returns"
        )
    if text == whole.strip():
        return Shorter(tuple(messages), text)
    if not is_text:
        return Shorter(tuple(as_turns(left)), text)
    return Shorter((Message("system", f"{SYSTEM}{_LEFT if text else ''}{text}"),), text)


def as_turns(messages: Sequence[Given]) -> list[Message]:
    """Messages as a chat template without tools reads them: what a tool says is the user's."""
    turns = [Message("system", SYSTEM)]
    spoken = [(_ROLES[message["role"]], _said(message)) for message in messages]
    for role, group in groupby(spoken, lambda one: one[0]):
        text = "\n".join(text for _, text in group)
        if role == "system" and len(turns) == 1:
            turns[0] = Message("system", text)
        else:
            turns.append(Message("user" if role == "system" else role, text))
    # Two in a row would be one to some templates, and none begins with an assistant.
    joined = [
        Message(role, "\n".join(one.text for one in group))
        for role, group in groupby(turns, lambda one: one.role)
    ]
    if len(joined) > 1 and joined[1].role == "assistant":
        joined.insert(1, Message("user", "Go on."))
    return joined


_ROLES: Mapping[str, Any] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    "tool": "user",
}  # fmt: skip


def _said(message: Given) -> str:
    calls = "".join(
        f"\n[{call['function']['name']} {call['function']['arguments']}]"
        for call in message.get("tool_calls") or ()
    )
    mark = "Result of a tool:\n" if message["role"] == "tool" else ""
    return f"{mark}{message['content']}{calls}".strip()


def _between(parts: Sequence[str], count: Count) -> float:
    """Tokens of a line break between two parts, on average: one as many models count, or none."""
    return (count("\n".join(parts)) - sum(map(count, parts))) / max(1, len(parts) - 1)


def _fitting(parts: Sequence[str], budget: int, count: Count, between: float) -> list[str]:
    """The first parts that fit together, with so many tokens between two."""
    taken, tokens = list[str](), 0.0
    for part in parts:
        tokens += count(part) + between
        if tokens > budget + between:
            break
        taken.append(part)
    return taken


def _within(
    budget: int, count: Count, taken: Sequence[_Part], joined: Callable[[Sequence[_Part]], str]
) -> str:
    """Parts as one text, less those taken last while it has more tokens than they have alone."""
    while count(text := joined(taken)) > budget and taken:
        taken = taken[:-1]
    return text


def keep_last(messages: Sequence[Given], budget: int, count: Count) -> str:
    """The last messages that fit."""
    lines = [transcript([message]) for message in messages]
    taken = _fitting(lines[::-1], budget, count, _between(lines, count))
    return _within(budget, count, taken, lambda parts: "\n".join(reversed(parts)))


def keep_ends(messages: Sequence[Given], budget: int, count: Count) -> str:
    """Half the budget from the beginning, half from the end: the middle is cut."""
    lines = [transcript([message]) for message in messages]
    between = _between(lines, count)
    first = _fitting(lines, budget // 2, count, between)
    last = _fitting(lines[len(first) :][::-1], budget - budget // 2, count, between)
    half = len(first)
    # Where both halves are full, the line break between them can be one token too many.
    return _within(
        budget, count, [*first, *last],
        lambda parts: "\n".join([*parts[:half], *reversed(parts[half:])]),
    )  # fmt: skip


def extract(text: str, budget: int, count: Count) -> str:
    """The sentences nearest to the centroid of all, by words (Radev et al. 2004)."""
    sentences = [part for part in SENTENCE.split(text) if part.strip()]
    order = central(sentences)
    between = _between(sentences, count)
    taken, tokens = list[int](), 0.0
    for i in order:
        tokens += count(sentences[i]) + between
        if tokens <= budget + between:
            taken.append(i)
    return _within(
        budget, count, taken, lambda parts: "\n".join(sentences[i] for i in sorted(parts))
    )


def summary(
    messages: Sequence[Message], budget: int, count: Count,
    write: Callable[[Sequence[Message], int], str],
) -> str:  # fmt: skip
    """What the model itself writes when it is asked for a summary, cut to the budget."""
    # A word is a token and a third in English.
    asked = Message("user", _SUMMARY.format(words=max(1, budget * 3 // 4)))
    text = whole_letters(write([*messages, asked], budget))
    while count(text) > budget:
        text = text.rpartition(" ")[0] or text[:-1]
    if not text.strip():
        raise UsageError(
            f"compress summary: the model returned no text of {budget} tokens at most; "
            "keep more, as in summary@0.5, or name another --model"
        )
    return text
