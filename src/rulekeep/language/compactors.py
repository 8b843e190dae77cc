"""A conversation shortened as text, and put to the model anew: what compaction does to rules.

    shorter = compact(messages, Compression.parse("keep_ends@0.25"), model)
    shorter.messages                # what the model reads instead
    shorter.text                    # what is left, to see whether a rule is still in it

A compactor gets by name what it asks for (`rulekeep.language.compressions.asked_of`) and returns
text of at most `budget` tokens. Each of ours is the function of its name here. A command reads the
transcript from its standard input, and the budget from the variable RULEKEEP_BUDGET.
"""

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from rulekeep.language.chat import SYSTEM, Message, whole_letters
from rulekeep.language.compressions import Compression, asked_of, is_function
from rulekeep.language.contract import Model
from rulekeep.registry import failure_line
from rulekeep.specs import UsageError

# Of a command.
LIMIT_SECONDS = 120.0
_LEFT = "\nThe conversation so far, shortened:\n"
_SUMMARY = (
    "Summarize our conversation so far in at most {words} words. Keep every rule that I gave you."
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_Part = TypeVar("_Part", str, int)
# How many tokens a text has.
Count = Callable[[str], int]


class Shorter(NamedTuple):
    """What is left of a conversation: as the model reads it, and as text."""

    messages: tuple[Message, ...]
    text: str


def compact(messages: Sequence[Message], one: Compression, model: Model) -> Shorter:
    """Shortens a conversation to a share of its tokens.

    What is left as it was is read as it was; anything else stands in the system prompt.

    Raises:
        UsageError: a compactor from outside fails, or returns no text or too much; or the model's
            summary is empty.
    """

    def count(text: str) -> int:
        return len(model.tokens(text))

    whole = transcript(messages)
    budget = max(1, int(count(whole) * one.amount))
    shown = {
        "text": whole, "budget": budget, "count": count, "messages": messages,
        "write": model.written,
    }  # fmt: skip
    text = whole_letters(_left(one.name, shown)).strip()
    if count(text) > budget:
        raise UsageError(
            f"compress {one.name}: returned {count(text)} tokens where {budget} are allowed; "
            "shorten what it returns"
        )
    if text == whole.strip():
        return Shorter(tuple(messages), text)
    return Shorter((Message("system", f"{SYSTEM}{_LEFT if text else ''}{text}"),), text)


def _left(name: str, shown: dict[str, Any]) -> str:
    """What a compactor makes of what it is shown."""
    if "/" in name and not is_function(name):
        text = _run(name, shown["text"], shown["budget"])
    elif is_function(name):
        function, asked = asked_of(name)
        try:
            text = function(**{key: shown[key] for key in asked})
        except Exception as error:
            raise UsageError(f"compress {name}: {failure_line(error)}") from error
    elif name != "summary" and shown["count"](shown["text"]) <= shown["budget"]:
        return str(shown["text"])
    else:
        ours: Callable[..., str] = getattr(sys.modules[__name__], name)
        return ours(**{key: shown[key] for key in inspect.signature(ours).parameters})
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"compress {name}: returned no text; return what is left of it")
    return text


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as text: each message begins a line."""
    return "\n".join(_lines(messages))


def _lines(messages: Sequence[Message]) -> list[str]:
    return [f"{message.role}: {message.text}" for message in messages]


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


def keep_last(messages: Sequence[Message], budget: int, count: Count) -> str:
    """The last messages that fit."""
    lines = _lines(messages)
    taken = _fitting(lines[::-1], budget, count, _between(lines, count))
    return _within(budget, count, taken, lambda parts: "\n".join(reversed(parts)))


def keep_ends(messages: Sequence[Message], budget: int, count: Count) -> str:
    """Half the budget from the beginning, half from the end: the middle is cut."""
    lines = _lines(messages)
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
    from sklearn.feature_extraction.text import TfidfVectorizer

    sentences = [part for part in _SENTENCE.split(text) if part.strip()]
    words = TfidfVectorizer(token_pattern=r"\w+").fit_transform(sentences)
    near = (words @ words.mean(axis=0).T).A1
    order = sorted(range(len(sentences)), key=lambda i: -near[i])
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


def _run(name: str, text: str, budget: int) -> str:
    """What a command prints.

    Raises:
        UsageError: it cannot be run, fails, or takes too long.
    """
    try:
        ended = subprocess.run(
            shlex.split(name), input=text, capture_output=True, timeout=LIMIT_SECONDS, check=False,
            env={**os.environ, "RULEKEEP_BUDGET": str(budget)}, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            f"compress {name}: cannot be run ({error.strerror}); a script begins with #!/bin/sh"
        ) from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"compress {name}: took over {LIMIT_SECONDS:g} s; make it end") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UsageError(f"compress {name}: failed with exit code {ended.returncode}: {last[:200]}")
    return ended.stdout
