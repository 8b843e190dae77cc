"""Two tasks of Inspect: its compaction on our histories, and rules in words without compaction.

    inspect eval rulekeep/compaction -T strategy=trim -T placement=middle -T rounds=3 --model M
    inspect eval rulekeep/language -T distance=2048 --model M

    for each history, and the same one without rules:
        for each round: the strategy's own compact() ─ look for each rule ─ chat as long again
    ask for what each rule demands, and again with the rule said right before the request

A sample is a history, or a conversation. Its score has the shares of its rules that are obeyed and
stored, the floor (the same without rules) and the bound (the rule restated). No torch.
"""

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from statistics import fmean
from typing import Any, NamedTuple

from inspect_ai import Task, task
from inspect_ai import model as ai
from inspect_ai._util.error import PrerequisiteError  # Inspect shows it in one line.
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Score, Scorer, Target, ci_wilson, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall
from inspect_ai.util import collect
from rich.text import Text

from rulekeep.compaction.figures import is_kept
from rulekeep.compaction.history import HOLDING, History, made
from rulekeep.compaction.messages import Message, tokens_of, word_count
from rulekeep.compaction.verdicts import standing
from rulekeep.language.chat import Conversation, converse, words_of
from rulekeep.language.contract import REPLY_TOKENS, spoken
from rulekeep.language.families import Families, Family, digest_of, read_families
from rulekeep.specs import CompactionSpec, LanguageSpec, UsageError, choose

# Goes up where the same settings give other figures.
VERSION = 1
STRATEGIES: Mapping[str, Callable[[], ai.CompactionStrategy]] = {
    "summary": ai.CompactionSummary, "trim": ai.CompactionTrim, "edit": ai.CompactionEdit,
    "native": ai.CompactionNative, "auto": ai.CompactionAuto,
}  # fmt: skip
PLACEMENTS = ("all", *HOLDING)
# How a rule is asked for: as it was told, where none was, and with it right before the request.
_WAYS = ("obeyed", "floor", "bound")
# So much chat is made that a history of which nothing is left gets as long again.
_BUDGET = 0.01


@task
def compaction(
    strategy: str | ai.CompactionStrategy = "summary", placement: str = "all", rounds: int = 3,
    histories: int = 20, tokens: int = 8000, style: str = "agent", rules: str = "", seed: int = 1,
    reply_tokens: int = REPLY_TOKENS,
) -> Task:  # fmt: skip
    """Rules of an agent's history, after rounds of compaction by a strategy of Inspect.

    `strategy` is summary, trim, edit, native or auto, with its defaults; from Python one that you
    have made. `placement` is where the rule asked for stands: system, file, first, middle, late,
    several, revised, or all of them. `tokens` are words and marks.
    """
    with _in_one_line():
        if isinstance(strategy, str):
            if strategy not in STRATEGIES:
                raise UsageError(f"strategy {strategy!r}: {choose(strategy, STRATEGIES)}")
            strategy = STRATEGIES[strategy]()
        if isinstance(strategy, ai.CompactionNative):
            with suppress(ValueError):  # From Python no model is known yet.
                model = ai.get_model()
                if type(model.api).compact is ai.ModelAPI.compact:
                    raise PrerequisiteError(f"strategy native: {model} has none; give auto")
        if placement not in PLACEMENTS:
            raise UsageError(f"placement {placement!r}: {choose(placement, PLACEMENTS)}")
        spec = CompactionSpec.parse(
            compactor=type(strategy).__name__, budget=_BUDGET, rounds=rounds, style=style,
            histories=histories, tokens=tokens, rules=rules, seed=seed,
        )  # fmt: skip
        families = read_families(rules or "agents")
        every = [made(families, spec, number) for number in range(spec.histories)]
    places = HOLDING if placement == "all" else (placement,)
    bare = spec.model_copy(update={"control": "no_rules"})

    async def read(number: int, model: ai.Model) -> _Read:
        pair = every[number], made(families, bare, number)
        told, without = await collect(*(_rounds(strategy, model, one, tokens) for one in pair))
        asked = []
        for rule in (one for one in every[number].rules if one.place in places):
            family = families[rule.family]
            found = [standing(rule, family, [*map(_plain, left)]) for left, _ in told]
            facts = {
                "place": rule.place, "verdicts": [one.verdict for one in found],
                "line": found[-1].line,
                "stored": float(is_kept(found[-1].verdict)) if told[-1][1] else math.nan,
            }  # fmt: skip
            asked.append(_Asked(family, rule.option, rule.texts[0], facts))
        return _Read(told[-1][0], without[-1][0], asked)

    return _task([_chat(one.messages[:2]) for one in every], read, families, reply_tokens)


@task
def language(
    placement: str = "start", distance: int = 512, mentions: str = "word", rules_at_once: int = 4,
    prompts: int = 20, rules: str = "", seed: int = 1, reply_tokens: int = REPLY_TOKENS,
) -> Task:  # fmt: skip
    """Rules in words, after so many words and marks of chat without compaction.

    `placement` is start or middle. `mentions` is none, word or instruction: whether the chat names
    every option too, so that the model must know which one was the rule.
    """
    with _in_one_line():
        spec = LanguageSpec.parse(
            model="inspect", replies="written", placement=placement, distance=distance,
            mentions=mentions, rules_at_once=rules_at_once, prompts=prompts, rules=rules, seed=seed,
        )  # fmt: skip
        families = read_families(rules)
        told, bare = (
            [converse(families, one, "test", number, words_of) for number in range(spec.prompts)]
            for one in (spec, spec.model_copy(update={"control": "no_rules"}))
        )

    async def read(number: int, _: ai.Model) -> _Read:
        asked = [
            _Asked(families[one.family], families[one.family].options[one.option or 0], text, {})
            for one, text in zip(told[number].asked, told[number].rules, strict=True)
        ]
        return _Read(_of(told[number]), _of(bare[number]), asked)

    return _task([*map(_of, told)], read, families, reply_tokens)


class _Asked(NamedTuple):
    """A rule that is asked for: the option that a reply must show alone, and what else is known."""

    family: Family
    option: str
    text: str
    facts: dict[str, Any]


class _Read(NamedTuple):
    """What a model reads before the requests: with rules, and without; and the rules asked for."""

    told: list[ai.ChatMessage]
    bare: list[ai.ChatMessage]
    asked: list[_Asked]


def _task(
    inputs: Sequence[list[ai.ChatMessage]], read: Callable[[int, ai.Model], Awaitable[_Read]],
    families: Families, reply_tokens: int,
) -> Task:  # fmt: skip
    """A task of a sample for each input, whose solver asks for the rules of what is read."""

    @solver
    def ask() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            del generate
            model = _counting(ai.get_model())
            found = await read(state.metadata["number"], model)
            state.metadata["rules"] = await collect(
                *(_row(model, found, one, reply_tokens) for one in found.asked)
            )
            state.messages = found.told
            return state

        return solve

    samples = [
        Sample(input=messages, id=number, metadata={"number": number})
        for number, messages in enumerate(inputs)
    ]
    return Task(
        dataset=samples, solver=ask(), scorer=shares(), version=VERSION,
        metadata={"rules": digest_of(families)},
    )  # fmt: skip


async def _row(model: ai.Model, found: _Read, one: _Asked, tokens: int) -> dict[str, Any]:
    """Whether the reply to each way of asking follows a rule."""

    async def reply(messages: list[ai.ChatMessage], before: str = "") -> str:
        request = ai.ChatMessageUser(content=before + one.family.request)
        limit = ai.GenerateConfig(max_tokens=tokens)
        output = await model.generate([*messages, request], config=limit)
        if output.stop_reason == "model_length":
            raise PrerequisiteError(f"{model}: cannot read so long a text; give fewer -T tokens")
        return spoken(output.completion)

    replies = await collect(reply(found.told), reply(found.bare), reply(found.told, f"{one.text} "))
    said, right = dict(zip(_WAYS, replies, strict=True)), one.family.named(one.option)
    obeyed = {way: float(one.family.shown(reply) == right) for way, reply in said.items()}
    return {"rule": one.text, "option": one.option, **one.facts, **obeyed, "replies": said}


async def _rounds(
    strategy: ai.CompactionStrategy, model: ai.Model, history: History, tokens: int
) -> list[tuple[list[ai.ChatMessage], bool]]:
    """What each compaction leaves, and whether it is text: what a provider keeps is not.

    After each comes fresh chat, until the history is as long as at first.
    """
    every, messages = list[tuple[list[ai.ChatMessage], bool]](), _chat(history.messages)
    for fresh in history.fresh:
        outcome = await strategy.compact_outcome(model, messages, [])
        # A provider's own compaction leaves out the system prompt, which Inspect puts back.
        known = {one.id for one in outcome.input}
        heads = [one for one in messages if one.role == "system" and one.id not in known]
        left = [*heads, *outcome.input]
        every.append((left, outcome.applied != ai.CompactionNative.__name__))
        size, added = tokens_of(map(_plain, left)), list[Message]()
        for message in fresh:
            if message["role"] == "user" and size >= tokens:
                break
            added.append(message)
            size += tokens_of([message])
        messages = [*left, *_chat(added)]
    return every


@scorer(metrics={"*": [mean(), stderr(), ci_wilson()]})
def shares() -> Scorer:
    """The shares of a sample's rules that are obeyed and stored, with floor and bound."""

    async def score(state: TaskState, target: Target) -> Score:
        del target
        rows = state.metadata["rules"]
        figures = [key for key in (*_WAYS, "stored") if key in rows[0]]
        value = {key: fmean(row[key] for row in rows) for key in figures}
        if len(rows) > 1:
            value |= {f"stored {row['place']}": row["stored"] for row in rows if "place" in row}
        return Score(value=value, answer="\n".join(row["replies"]["obeyed"] for row in rows))

    return score


def _of(talk: Conversation) -> list[ai.ChatMessage]:
    return _chat({"role": one.role, "content": one.text} for one in talk.messages)


def _chat(messages: Iterable[Message]) -> list[ai.ChatMessage]:
    """Messages in OpenAI's format, as Inspect has them."""
    every = list[ai.ChatMessage]()
    for one in messages:
        text = one["content"]
        if one["role"] == "tool":
            every.append(ai.ChatMessageTool(content=text, tool_call_id=one["tool_call_id"]))
        elif one["role"] == "assistant":
            calls = [
                ToolCall(call["id"], of["name"], json.loads(of["arguments"]))
                for call in one.get("tool_calls") or () for of in [call["function"]]
            ]  # fmt: skip
            every.append(ai.ChatMessageAssistant(content=text, tool_calls=calls or None))
        else:
            kind = ai.ChatMessageSystem if one["role"] == "system" else ai.ChatMessageUser
            every.append(kind(content=text))
    return every


def _plain(one: ai.ChatMessage) -> Message:
    """A message of Inspect in OpenAI's format, as verdicts read it."""
    calls = (one.tool_calls or ()) if isinstance(one, ai.ChatMessageAssistant) else ()
    return {
        "role": one.role, "content": one.text,
        "tool_calls": [
            {"function": {"name": call.function, "arguments": json.dumps(call.arguments)}}
            for call in calls
        ],
    }  # fmt: skip


def _counting(model: ai.Model) -> ai.Model:
    """The model; a mock counts words and marks, where it would download a tokenizer."""

    async def count(text: str) -> int:
        return word_count(text)

    if str(model).startswith("mockllm/"):
        model.api.count_text_tokens = count  # type: ignore[method-assign]
    return model


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What a user can mend, as Inspect shows it without a traceback."""
    try:
        yield
    except UsageError as error:
        raise PrerequisiteError(Text(str(error))) from None
