"""A conversation shortened as text, and put to the model anew: what compaction does to rules.

    shorter = compact(messages, Compression.parse("keep_ends@0.25"), model)
    shorter.messages                # what the model reads instead
    shorter.text                    # what is left, to see whether a rule is still in it

A compactor gets the transcript and a budget of tokens. Ours:

    keep_last    the last messages that fit
    keep_ends    half the budget from the beginning, half from the end: the middle is cut
    extract      the sentences nearest to the centroid of all, by words (Radev et al. 2004)
    summary      what the model itself writes when it is asked for a summary

`file.py:function` is called as `function(text, budget)` and returns text. Where it has an argument
`count`, that is a function from a text to its tokens. A command reads the transcript from its
standard input, and the budget from the variable RULEKEEP_BUDGET.
"""

import inspect
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from rulekeep.language.chat import SYSTEM, Message, whole_letters
from rulekeep.language.contract import Model
from rulekeep.plugins import failure_line, find_function
from rulekeep.specs import UsageError
from rulekeep.specs.language import COMPACTORS, Compression

LIMIT_SECONDS = 120.0
_LEFT = "\nThe conversation so far, shortened:\n"
_SUMMARY = (
    "Summarize our conversation so far in at most {words} words. Keep every rule that I gave you."
)
# What leaves parts of the text as they are.
_PARTS = ("keep_last", "keep_ends", "extract")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_Part = TypeVar("_Part", str, int)


class Shorter(NamedTuple):
    """What is left of a conversation: as the model reads it, and as text."""

    messages: tuple[Message, ...]
    text: str


def compact(messages: Sequence[Message], one: Compression, model: Model) -> Shorter:
    """Shortens a conversation to a share of its tokens.

    What is left as it was is read as it was; anything else stands in the system prompt.

    Raises:
        UsageError: a compactor from outside fails, takes too long, or returns nothing or too much;
            or the model's summary is empty.
    """
    whole = transcript(messages)
    tokens = len(model.tokens(whole))
    budget = max(1, int(tokens * one.amount))
    fits = tokens <= budget and one.name in _PARTS
    text = (whole if fits else _shortened(one.name)(messages, budget, model)).strip()
    tokens = len(model.tokens(text))
    if not text and one.name not in COMPACTORS:
        raise UsageError(f"compress {one.name}: returned no text; return what is left of it")
    if tokens > budget:
        raise UsageError(
            f"compress {one.name}: returned {tokens} tokens where {budget} are allowed; "
            "shorten what it returns"
        )
    if text == whole.strip():
        return Shorter(tuple(messages), text)
    return Shorter((Message("system", f"{SYSTEM}{_LEFT if text else ''}{text}"),), text)


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as text: each message begins a line."""
    return "\n".join(_lines(messages))


def find_compactor(name: str) -> tuple[Callable[..., str], bool]:
    """The function `file.py:function` that shortens a text, and whether it takes `count`.

    Raises:
        UsageError: there is none, or it takes something else.
    """
    function = find_function(name, {}, "compact")
    try:
        takes = inspect.signature(function)
    except ValueError:
        # One that is not written in Python may not say.
        return function, False
    counts = "count" in takes.parameters
    try:
        takes.bind("", 1, **({"count": len} if counts else {}))
    except TypeError:
        raise UsageError(
            f"compress {name}: takes {takes}; a compactor takes (text, budget) or "
            "(text, budget, count), and an eviction takes keys"
        ) from None
    return function, counts


_Shorten = Callable[[Sequence[Message], int, Model], str]


def _shortened(name: str) -> _Shorten:
    """What shortens a text to a budget of tokens."""
    ours: dict[str, _Shorten] = {
        "keep_last": _keep_last,
        "keep_ends": _keep_ends,
        "extract": _extract,
        "summary": _summary,
    }
    if name in ours:
        return ours[name]
    if ".py:" in name:
        function, counts = find_compactor(name)
        return lambda messages, budget, model: _called(
            name, function, transcript(messages), budget,
            {"count": lambda text: len(model.tokens(text))} if counts else {},
        )  # fmt: skip
    return lambda messages, budget, _: _run(name, transcript(messages), budget)


def _lines(messages: Sequence[Message]) -> list[str]:
    return [f"{one.role}: {one.text}" for one in messages]


def _between(parts: Sequence[str], model: Model) -> float:
    """Tokens of a line break between two parts, on average: one as many models count, or none."""
    joined = len(model.tokens("\n".join(parts)))
    return (joined - sum(len(model.tokens(part)) for part in parts)) / max(1, len(parts) - 1)


def _fitting(parts: Sequence[str], budget: int, model: Model, between: float) -> list[str]:
    """The first parts that fit together, with so many tokens between two."""
    taken, tokens = list[str](), 0.0
    for part in parts:
        tokens += len(model.tokens(part)) + between
        if tokens > budget + between:
            break
        taken.append(part)
    return taken


def _within(
    budget: int, model: Model, taken: Sequence[_Part], joined: Callable[[Sequence[_Part]], str]
) -> str:
    """Parts as one text, less those taken last while it has more tokens than they have alone."""
    while len(model.tokens(text := joined(taken))) > budget and taken:
        taken = taken[:-1]
    return text


def _keep_last(messages: Sequence[Message], budget: int, model: Model) -> str:
    lines = _lines(messages)
    taken = _fitting(lines[::-1], budget, model, _between(lines, model))
    return _within(budget, model, taken, lambda parts: "\n".join(reversed(parts)))


def _keep_ends(messages: Sequence[Message], budget: int, model: Model) -> str:
    lines = _lines(messages)
    between = _between(lines, model)
    first = _fitting(lines, budget // 2, model, between)
    last = _fitting(lines[len(first) :][::-1], budget - budget // 2, model, between)
    half = len(first)
    # Where both halves are full, the line break between them can be one token too many.
    return _within(
        budget, model, [*first, *last],
        lambda parts: "\n".join([*parts[:half], *reversed(parts[half:])]),
    )  # fmt: skip


def _extract(messages: Sequence[Message], budget: int, model: Model) -> str:
    from sklearn.feature_extraction.text import TfidfVectorizer

    sentences = [one for one in _SENTENCE.split(transcript(messages)) if one.strip()]
    words = TfidfVectorizer(token_pattern=r"\w+").fit_transform(sentences)
    near = (words @ words.mean(axis=0).T).A1
    order = sorted(range(len(sentences)), key=lambda i: -near[i])
    between = _between(sentences, model)
    taken, tokens = list[int](), 0.0
    for i in order:
        tokens += len(model.tokens(sentences[i])) + between
        if tokens <= budget + between:
            taken.append(i)
    return _within(
        budget, model, taken, lambda parts: "\n".join(sentences[i] for i in sorted(parts))
    )


def _summary(messages: Sequence[Message], budget: int, model: Model) -> str:
    # A word is a token and a third in English.
    asked = Message("user", _SUMMARY.format(words=max(1, budget * 3 // 4)))
    text = whole_letters(model.written([*messages, asked], budget))
    while len(model.tokens(text)) > budget:
        text = text.rpartition(" ")[0] or text[:-1]
    if not text.strip():
        raise UsageError(
            f"compress summary: the model returned no text of {budget} tokens at most; "
            "keep more, as in summary@0.5, or name another --model"
        )
    return text


def _called(
    name: str, function: Callable[..., str], text: str, budget: int,
    given: Mapping[str, Callable[[str], int]],
) -> str:  # fmt: skip
    try:
        with _limited():
            found = function(text, budget, **given)
    except _LateError:
        raise _late(name) from None
    # An early exit too: it is the user's to read in one line.
    except (Exception, SystemExit) as error:
        raise UsageError(f"compress {name}: {failure_line(error)}") from error
    if not isinstance(found, str):
        raise UsageError(f"compress {name}: returned {type(found).__name__}; return the text")
    return whole_letters(found)


class _LateError(BaseException):
    """A function has used up its time; no `except Exception` of its own catches this."""


@contextmanager
def _limited() -> Iterator[None]:
    """Ends what takes too long, where a signal can: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise _LateError

    handler = signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _late(name: str) -> UsageError:
    return UsageError(f"compress {name}: took over {LIMIT_SECONDS:g} s; make it end")


def _run(name: str, text: str, budget: int) -> str:
    try:
        started = subprocess.Popen(
            shlex.split(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "RULEKEEP_BUDGET": str(budget)},
            process_group=0,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            f"compress {name}: cannot be run ({error.strerror}); a script begins with #!/bin/sh"
        ) from None
    with started:
        try:
            found, said = started.communicate(text.encode(), LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise _late(name) from None
        finally:
            # What it has started too: it would go on, and hold its output open.
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
    if started.returncode:
        last = (said.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        code = started.returncode
        raise UsageError(f"compress {name}: failed with exit code {code}: {last[:200]}")
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise UsageError(f"compress {name}: printed what is no text; print UTF-8") from None
