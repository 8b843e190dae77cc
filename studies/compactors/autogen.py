"""AutoGen: two contexts of `autogen_core.model_context`; its buffered one is `plain.recent`."""

from collections.abc import Sequence
from typing import Any

from autogen_core import FunctionCall, model_context, models
from studies.compactors.shared import Count, Messages, calls_of, how_many

from rulekeep.compaction.messages import text_of, tokens_of


def _parts(messages: Messages) -> list[Messages]:
    """The messages that are one of AutoGen's: all results of one message's calls are."""
    parts = list[Messages]()
    for message in messages:
        if message["role"] == "tool" and parts and parts[-1][0]["role"] == "tool":
            parts[-1].append(message)
        else:
            parts.append([message])
    return parts


def _here(part: Messages) -> models.LLMMessage:
    first, content = part[0], part[0]["content"]
    if first["role"] == "tool":
        results = [(result["content"], result["tool_call_id"]) for result in part]
        return models.FunctionExecutionResultMessage(
            content=[
                models.FunctionExecutionResult(content=text, call_id=key, name="tool")
                for text, key in results
            ]
        )
    if first["role"] == "system":
        return models.SystemMessage(content=content)
    if first["role"] == "user":
        return models.UserMessage(content=content, source="user")
    calls = [FunctionCall(key, arguments, name) for key, name, arguments in calls_of(first)]
    return models.AssistantMessage(content=calls or content, source="assistant")


def _back(kept: Sequence[Any], here: list[Any], parts: list[Messages]) -> Messages:
    """As they were given, but for a note of AutoGen's own."""
    given = {id(made): part for made, part in zip(here, parts, strict=True)}
    notes = {id(made): [{"role": "user", "content": str(made.content)}] for made in kept}
    return [message for made in kept for message in {**notes, **given}[id(made)]]


async def head_and_tail(messages: Messages, budget: int, count: Count) -> Messages:
    """`HeadAndTailChatCompletionContext`: the first three messages, and the last that fit.

    Trap: the middle goes.
    """
    parts = _parts(messages)
    here = [_here(part) for part in parts]
    texts = ["\n".join(map(text_of, part)) for part in parts]
    size = how_many([{"role": "user", "content": text} for text in texts], budget, count)
    context = model_context.HeadAndTailChatCompletionContext(3, max(1, size - 3), here)
    return _back(await context.get_messages(), here, parts)


async def token_limited(messages: Messages, budget: int, count: Count) -> Messages:
    """`TokenLimitedChatCompletionContext`: takes out the middle message until the rest fits.

    Trap: the middle goes, and calls are parted from their results.
    """
    parts = _parts(messages)
    here = [_here(part) for part in parts]

    class Client:
        def count_tokens(self, kept: list[models.LLMMessage], **_: Any) -> int:
            return tokens_of(_back(kept, here, parts), count)

    context = model_context.TokenLimitedChatCompletionContext(
        Client(), token_limit=budget, initial_messages=here
    )
    return _back(await context.get_messages(), here, parts)
