"""Inspect: its strategies of compaction. It tries three times while the rest is too long.

Its mock model counts as the study does: it would else download a tokenizer.
"""

import json
from collections.abc import Sequence
from typing import Any

from inspect_ai import model as ai
from inspect_ai.tool import ToolCall
from studies.compactors.shared import Count, Messages, Model, calls_of

from rulekeep.compaction.messages import Message, tokens_of

_TIMES = 3
_SUMMARY = "[CONTEXT COMPACTION SUMMARY]"


def _here(at: int, message: Message) -> ai.ChatMessage:
    content, metadata = message["content"], {"at": at}
    if content.startswith(_SUMMARY):
        return ai.ChatMessageUser(content=content, metadata={**metadata, "summary": True})
    if message["role"] == "tool":
        key = message["tool_call_id"]
        return ai.ChatMessageTool(content=content, metadata=metadata, tool_call_id=key)
    if message["role"] == "assistant":
        calls = [
            ToolCall(id=key, function=name, arguments=json.loads(arguments))
            for key, name, arguments in calls_of(message)
        ]
        return ai.ChatMessageAssistant(content=content, metadata=metadata, tool_calls=calls)
    kind = ai.ChatMessageSystem if message["role"] == "system" else ai.ChatMessageUser
    return kind(content=content, metadata=metadata)


def _back(kept: Sequence[ai.ChatMessage], messages: Messages) -> Messages:
    """As they were given, with what is left of text and calls; a new summary was not given."""
    back = []
    for made in kept:
        at = (made.metadata or {}).get("at")
        message = {"role": made.role} if at is None else messages[at]
        left = {call.id for call in getattr(made, "tool_calls", None) or ()}
        calls = [call for call in message.get("tool_calls") or () if call["id"] in left]
        back.append({**message, "content": made.text, **({"tool_calls": calls} if calls else {})})
    return back


async def _compacted(
    strategy: ai.CompactionStrategy, messages: Messages, budget: int, count: Count,
    model: Model = str,
) -> Messages:  # fmt: skip
    def reply(prompt: list[ai.ChatMessage], *_: Any) -> ai.ModelOutput:
        text = model("\n\n".join(made.text for made in prompt))
        return ai.ModelOutput.from_content("mock", text)

    async def count_tokens(text: str) -> int:
        return count(text)

    mock = ai.get_model("mockllm/model", custom_outputs=reply, memoize=False)
    mock.api.count_text_tokens = count_tokens
    left = [_here(at, message) for at, message in enumerate(messages)]
    for _ in range(_TIMES):
        left, _ = await strategy.compact(mock, left, [])
        if tokens_of(_back(left, messages), count) <= budget:
            break
    return _back(left, messages)


async def trim(messages: Messages, budget: int, count: Count) -> Messages:
    """`CompactionTrim`, defaults: prompt and first request stay, and the last 80 % of the rest.

    Trap: three times 80 % are half, so a smaller budget is overshot; Inspect would stop there.
    """
    return await _compacted(ai.CompactionTrim(), messages, budget, count)


async def trim_to_budget(messages: Messages, budget: int, count: Count) -> Messages:
    """`CompactionTrim` that preserves the share of the budget."""
    share = min(1, budget / max(1, tokens_of(messages, count)))
    return await _compacted(ai.CompactionTrim(preserve=share), messages, budget, count)


async def edit(messages: Messages, budget: int, count: Count) -> Messages:
    """`CompactionEdit`, defaults: all results but three become "(Tool result removed)".

    Trap: as LangChain's `clear_tool_uses`; the assistant's last reply goes too.
    """
    return await _compacted(ai.CompactionEdit(), messages, budget, count)


async def summary(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`CompactionSummary`, defaults: the prompt, the first request, and a summary of all else.

    It asks for constraints word for word. Trap: nothing recent stays, and summaries are summarized.
    """
    return await _compacted(ai.CompactionSummary(), messages, budget, count, model)
