"""Strands Agents: its two conversation managers. Its agent holds the system prompt apart.

A manager works after each turn, and again whenever a model says that the context is too long: so
here until what is left fits, or the manager gives up.
"""

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from strands.agent import conversation_manager as managers
from strands.types.exceptions import ContextWindowOverflowException
from studies.compactors.shared import Count, Messages, Model, apart, calls_of

from rulekeep.compaction.messages import tokens_of


class _Written:
    """A model whose replies a function writes."""

    def __init__(self, write: Model) -> None:
        self._write = write

    async def stream(self, messages: Any, *, system_prompt: str, **_: Any) -> AsyncIterator[Any]:
        texts = [_said(block) for message in messages for block in message["content"]]
        reply = self._write("\n\n".join([system_prompt, *texts]))
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockDelta": {"delta": {"text": reply}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def _said(block: dict[str, Any]) -> str:
    """The text of a block; a call of a tool as JSON."""
    (part, *_) = block.get("toolResult", {"content": [block]})["content"]
    return part["text"] if "text" in part else json.dumps(part)


def _here(messages: Messages) -> list[dict[str, Any]]:
    """In Bedrock's form, each with the messages it is made of: results of one message's calls."""
    made = list[dict[str, Any]]()
    for message in messages:
        blocks: list[dict[str, Any]] = [{"text": message["content"]}]
        if message["role"] == "tool":
            result = {"toolUseId": message["tool_call_id"], "status": "success", "content": blocks}
            blocks = [{"toolResult": result}]
            if made and "toolResult" in made[-1]["content"][0]:
                made[-1]["content"] += blocks
                made[-1]["given"].append(message)
                continue
        for key, name, arguments in calls_of(message):
            use = {"toolUseId": key, "name": name, "input": json.loads(arguments)}
            blocks.append({"toolUse": use})
        role = "assistant" if message["role"] == "assistant" else "user"
        made.append({"role": role, "content": blocks, "given": [message]})
    return made


def _back(kept: list[dict[str, Any]]) -> Messages:
    """As they were given, with what is left of their text; a summary was not given."""
    back = []
    for made in kept:
        given = made.get("given", [{"role": "user"}])
        # Beside its text, an assistant's message has blocks of calls.
        for message, block in zip(given, made["content"], strict=False):
            back.append({**message, "content": _said(block)})
    return back


def _managed(
    manager: managers.ConversationManager, messages: Messages, budget: int, count: Count,
    model: Model = str,
) -> Messages:  # fmt: skip
    system, rest, left = apart(messages, budget, count)
    agent: Any = SimpleNamespace(messages=_here(rest), aux_model=_Written(model))
    manager.apply_management(agent)
    while tokens_of(kept := _back(agent.messages), count) > left:
        try:
            manager.reduce_context(agent, ContextWindowOverflowException("too long"))
        except ContextWindowOverflowException:
            break
        # Where its recent messages alone are too long, it summarizes its summary without end.
        if _back(agent.messages)[1:] == kept[1:]:
            break
    return system + _back(agent.messages)


def sliding_window(messages: Messages, budget: int, count: Count) -> Messages:
    """`SlidingWindowConversationManager`, defaults: 40 messages; old results are cut first.

    Trap: of an old result 200 letters stay at each end, so a rules file loses its middle.
    """
    return _managed(managers.SlidingWindowConversationManager(), messages, budget, count)


def sliding_window_pinned(messages: Messages, budget: int, count: Count) -> Messages:
    """The same with `pin_first=1`: the first message stays.

    Trap: once a turn follows the pin, it finds nothing to drop, and gives up above the budget.
    """
    manager = managers.SlidingWindowConversationManager(pin_first=1)
    return _managed(manager, messages, budget, count)


def summarizing(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`SummarizingConversationManager`, defaults: the oldest 30 % are summarized, again and again.

    Trap: within one compaction a summary is summarized several times.
    """
    return _managed(managers.SummarizingConversationManager(), messages, budget, count, model)
