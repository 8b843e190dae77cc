"""Compactors: a history to a shorter history. Ours, a user's function, a command, or saved output.

    compactor = find("mine.py:compact")
    compactor(messages, budget=2000, count=word_count, state={}, model=None)

A function may be async. It gets by name what it asks for, and returns messages, or text that counts
as one:

    messages    the history in OpenAI's format: role, content, tool_calls, tool_call_id
    text        the same as text, a message a line, as in "user: Hello."
    budget      how many tokens are to be left
    count       a function from a text to its tokens
    state       a dictionary that lives for one history, all its rounds
    model       a function from a prompt to what a model writes

A command reads {"messages": …, "budget": …} from its standard input and writes messages, or text.
No torch.
"""

import asyncio
import hashlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Self

from rulekeep.compaction.history import History, Rule, read_rules_file
from rulekeep.compaction.messages import (
    CompactionError,
    Count,
    Message,
    as_messages,
    read_messages,
    tokens_of,
    transcript,
)
from rulekeep.records.identity import content_digest
from rulekeep.registry import failure_line, find_function
from rulekeep.specs import UsageError, choose

# Whoever asks for a model waits for it.
LIMIT_SECONDS, MODEL_SECONDS = 120.0, 3600.0
ASKED = ("messages", "budget", "count", "state", "model", "prompt", "text")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_PROMPT = (
    "Summarize the conversation below so that the work can go on from the summary alone. Keep what "
    "was decided, what is open, and every instruction of the user."
)
Model = Callable[[str], str]


def keep_last(messages: list[Message], budget: int, count: Count) -> list[Message]:
    """The last turns that fit."""
    return _last(messages, budget, count)


def keep_ends(messages: list[Message], budget: int, count: Count) -> list[Message]:
    """Half the budget from the beginning, half from the end: turns of the middle are cut."""
    first = _first(messages, budget // 2, count)
    return [*first, *_last(messages[len(first) :], budget - tokens_of(first, count), count)]


def clear_tools(messages: list[Message], budget: int, count: Count) -> list[Message]:
    """The results of tools are emptied, the oldest first, until the rest fits."""
    cleared, size = list(messages), tokens_of(messages, count)
    for at, message in enumerate(messages):
        if size <= budget:
            break
        if message["role"] == "tool":
            cleared[at] = {**message, "content": "[cleared]"}
            size += tokens_of([cleared[at]], count) - tokens_of([message], count)
    return cleared


def extract(messages: list[Message], budget: int, count: Count) -> str:
    """The sentences nearest to the centroid of all, by words (Radev et al. 2004)."""
    lines = transcript(messages).split("\n")
    sentences = [part for line in lines for part in SENTENCE.split(line) if part.strip()]
    order = central(sentences)
    sizes = [count(sentences[at]) for at in order]
    fitting = sum(size <= budget for size in accumulate(sizes))
    return "\n".join(sentences[at] for at in sorted(order[:fitting]))


def central(sentences: Sequence[str]) -> list[int]:
    """The places of sentences, that nearest to the centroid of all first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(token_pattern=r"\w+").fit_transform(sentences)
    near = (words @ words.mean(axis=0).T).A1
    return sorted(range(len(sentences)), key=lambda at: -near[at])


def summary(
    messages: list[Message], budget: int, count: Count, model: Model, prompt: str
) -> list[Message]:
    """The system prompt, what a model writes of the rest, and the last turns in half the budget."""
    system = messages[: _heads(messages)]
    last = _last(messages[len(system) :], budget // 2, count)
    rest = messages[len(system) : len(messages) - len(last)]
    if not rest:
        return messages
    words = max(20, (budget - tokens_of([*system, *last], count)) * 3 // 4)
    text = model(f"{prompt or _PROMPT} Write at most {words} words.\n\n{transcript(rest)}")
    return [*system, {"role": "user", "content": f"What came before, in short:\n{text}"}, *last]


def everything(messages: list[Message]) -> list[Message]:
    """All of it: the bound of what can be kept."""
    return messages


def nothing(messages: list[Message]) -> list[Message]:
    """Nothing at all."""
    del messages
    return []


_OURS: tuple[Callable[..., Any], ...] = (
    keep_last, keep_ends, clear_tools, extract, summary, everything, nothing,
)  # fmt: skip
OURS: Mapping[str, Callable[..., Any]] = {function.__name__: function for function in _OURS}
SHOWN = {
    "keep_last": "the last turns", "keep_ends": "both ends", "clear_tools": "tool results cleared",
    "extract": "central sentences", "summary": "a model's summary",
    "everything": "everything", "nothing": "nothing",
}  # fmt: skip


class Compactor(NamedTuple):
    """What shortens a history, and what it asks for by name."""

    name: str
    function: Callable[..., Any]
    asked: tuple[str, ...]

    def __call__(self, messages: list[Message], **shown: Any) -> list[Message]:
        """What is left; `CompactionError` where it fails, hangs, or that is no history."""
        if "text" in self.asked:
            shown["text"] = transcript(messages)
        given = {"messages": messages, **shown}
        limit = MODEL_SECONDS if "model" in self.asked else LIMIT_SECONDS
        try:
            with _at_most(limit), redirect_stdout(sys.stderr):
                left = self.function(**{key: given[key] for key in self.asked})
                if inspect.isawaitable(left):
                    left = asyncio.run(_awaited(left))
                return as_messages(left)
        except CompactionError:
            raise
        except (Exception, SystemExit) as error:  # Whatever it is, it counts for this history.
            raise CompactionError(failure_line(error)) from error

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Self:
        """A function with what it asks for; `UsageError` where that is something else."""
        parameters = inspect.signature(function).parameters.values()
        for one in parameters:
            several = (one.VAR_KEYWORD, one.VAR_POSITIONAL)
            needed = one.default is one.empty and one.kind not in several
            if needed and one.name not in ASKED:
                raise UsageError(
                    f"compactor {name}: takes {one.name}; a compactor takes {', '.join(ASKED)}"
                )
        return cls(name, function, tuple(one.name for one in parameters if one.name in ASKED))


async def _awaited(left: Any) -> Any:
    return await left


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """End what takes longer, as far as Python can."""

    def end(*_: Any) -> None:
        raise CompactionError(f"took over {seconds:g} s; make it end")

    before = signal.signal(signal.SIGALRM, end)
    # Again and again, as a compactor may catch what is raised in it.
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def find(name: str) -> Compactor:
    """A compactor by its name; saved output has none, and is read by whoever runs it."""
    if ".py" in name.rpartition("/")[2] and " " not in name:
        return Compactor.of(find_function(name, OURS, "compact"), name)
    if "/" in name or " " in name:
        return Compactor(name, _command(name), ("messages", "budget"))
    if name in OURS:
        return Compactor.of(OURS[name], name)
    raise UsageError(
        f"compactor {name!r}: {choose(name, OURS)}, or name file.py:function or ./command"
    )


def _command(name: str) -> Callable[..., Any]:
    """A program that reads a history from its standard input, and writes what is left."""
    try:
        words = shlex.split(name)
    except ValueError as error:
        raise UsageError(f"compactor {name}: {error}; close the quote") from None
    if shutil.which(words[0]) is None:
        raise UsageError(f"compactor {name}: cannot be run; chmod +x {words[0]}, or mend the name")

    def compact(messages: list[Message], budget: int) -> Any:
        given = json.dumps({"messages": messages, "budget": budget}, ensure_ascii=False)
        ended = subprocess.run(words, input=given.encode(), capture_output=True, check=False)
        if ended.returncode:
            lines = ended.stderr.decode(errors="replace").strip().splitlines()
            last = (lines or ["it said nothing"])[-1]
            raise CompactionError(f"exit code {ended.returncode}: {last[:200]}")
        return read_messages(ended.stdout)

    return compact


def version_of(text: str) -> str | None:
    """What identifies a function or a command: the content of each file that it names, if any."""
    words = {
        # As in --prompt=FILE too.
        part for word in (text, *text.split())
        for part in (word.rpartition(":")[0] or word, word.partition("=")[2])
    }  # fmt: skip
    # A long word is no error here.
    files = [Path(word) for word in sorted(words) if os.path.isfile(word)]  # noqa: PTH113
    if [file.suffix for file in files] == [".py"]:
        return content_digest(files[0])
    return digest_of(files) if files else None


def digest_of(files: Iterable[Path]) -> str:
    """What identifies some files: their names and contents."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def _heads(messages: Sequence[Message]) -> int:
    """How many messages of the system begin a history."""
    return next((n for n, one in enumerate(messages) if one["role"] != "system"), len(messages))


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where a history can be cut without parting a call from its result."""
    return [n for n, one in enumerate(messages) if one["role"] != "tool"] + [len(messages)]


def _last(messages: list[Message], budget: int, count: Count) -> list[Message]:
    sizes = [0, *accumulate(tokens_of([one], count) for one in messages)]
    return next(
        messages[at:] for at in _starts(messages) if sizes[-1] - sizes[at] <= max(0, budget)
    )


def _first(messages: list[Message], budget: int, count: Count) -> list[Message]:
    sizes = [0, *accumulate(tokens_of([one], count) for one in messages)]
    return next(messages[:at] for at in reversed(_starts(messages)) if sizes[at] <= budget)


def stand_in(kind: str, sentences: Sequence[str]) -> Model:
    """Stands in for a model that summarizes: `deaf` writes no rule, `copying` each that it reads.

    What a real model keeps lies between them.
    """

    def write(prompt: str) -> str:
        kept = [text for text in sentences if kind == "copying" and text in prompt]
        return "\n".join(f"- {text}" for text in kept) or "The work on the service went on."

    return write


class Logged:
    """A model, and the prompts that it was given: it can keep nothing that never reached it."""

    def __init__(self, call: Model) -> None:
        self.prompts, self._call = list[str](), call

    def __call__(self, prompt: str) -> str:
        """What it writes."""
        self.prompts.append(prompt)
        return self._call(prompt)


def guarded(guard: str, compactor: Compactor, history: History) -> Callable[..., list[Message]]:
    """A compactor with something of the history kept from it, or said again after it."""
    rules = [rule for rule in history.stated if rule.holds]
    file = [rule.texts[0] for rule in rules if rule.place == "file"]
    said = "\n".join(f"- {rule.texts[0]}" for rule in rules)

    def compact(messages: list[Message], budget: int, count: Count, **shown: Any) -> list[Message]:
        def shortened(rest: list[Message], budget: int) -> list[Message]:
            return compactor(messages=rest, budget=max(1, budget), count=count, **shown)

        if guard in ("system", "rules"):
            kept = {*range(_heads(messages))} if guard == "system" else _of_rules(messages, rules)
            rest = [one for at, one in enumerate(messages) if at not in kept]
            pinned = [messages[at] for at in sorted(kept)]
            return [*pinned, *shortened(rest, budget - tokens_of(pinned, count))]
        if guard == "ends":
            first = _first(messages, budget // 10, count)
            last = _last(messages[len(first) :], budget // 10, count)
            # Many models refuse a history whose first turn is an assistant's.
            roles = [one["role"] for one in last]
            last = last[roles.index("user") if "user" in roles else len(last) :]
            rest = messages[len(first) : len(messages) - len(last)]
            return [*first, *shortened(rest, budget - tokens_of([*first, *last], count)), *last]
        left = shortened(messages, budget)
        if guard == "reread":
            return [*left, *read_rules_file(file)]
        if guard == "restate":
            return [*left, {"role": "user", "content": f"These rules still hold:\n{said}"}]
        return left

    return compact


def _of_rules(messages: Sequence[Message], rules: Sequence[Rule]) -> set[int]:
    """The messages that state a rule; a call with its results, where one of them does."""
    texts = [text for rule in rules for text in rule.texts]
    kept = {at for at, one in enumerate(messages) if any(text in one["content"] for text in texts)}
    answers = {one.get("tool_call_id"): at for at, one in enumerate(messages)}
    for at, one in enumerate(messages):
        group = {at, *(answers.get(call["id"], at) for call in one.get("tool_calls") or ())}
        if kept & group:
            kept |= group
    return kept
