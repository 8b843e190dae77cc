"""Microsoft's Agent Framework: its strategies of compaction.

It counts a message as it writes it to JSON, so what is left is less than the budget.
"""

from collections.abc import Sequence
from typing import Any

import agent_framework as af
from studies.compactors.shared import Count, Messages, Model, calls_of

from rulekeep.compaction.messages import Message


class _Written:
    """A chat client whose replies a function writes; it counts as the study does."""

    def __init__(self, count: Count, write: Model = str) -> None:
        self.count_tokens, self._write = count, write

    async def get_response(self, messages: Sequence[af.Message], **_: Any) -> af.ChatResponse:
        reply = self._write("\n\n".join(message.text for message in messages))
        return af.ChatResponse(messages=[af.Message("assistant", [reply])])


def _here(at: int, message: Message) -> af.Message:
    text = message["content"]
    contents = [af.Content.from_text(text)] if text else []
    if message["role"] == "tool":
        contents = [af.Content.from_function_result(message["tool_call_id"], result=text)]
    for key, name, arguments in calls_of(message):
        contents.append(af.Content.from_function_call(key, name, arguments=arguments))
    return af.Message(message["role"], contents, additional_properties={"at": at})


async def _left(messages: Messages, client: _Written, strategy: af.CompactionStrategy) -> Messages:
    here = [_here(at, message) for at, message in enumerate(messages)]
    kept = await af.apply_compaction(here, strategy=strategy, tokenizer=client)
    return [
        messages[made.additional_properties["at"]]
        if "at" in made.additional_properties
        else {"role": str(made.role), "content": made.text}
        for made in kept
    ]


async def truncation(messages: Messages, budget: int, count: Count) -> Messages:
    """`TruncationStrategy`, defaults: the system prompt, and the last groups that fit.

    Trap: the first turns go. As our keep_last with the prompt pinned.
    """
    client = _Written(count)
    strategy = af.TruncationStrategy(max_n=budget, compact_to=budget, tokenizer=client)
    return await _left(messages, client, strategy)


async def truncation_first_user(messages: Messages, budget: int, count: Count) -> Messages:
    """The same with `preserve_first_user_group`: the first request stays."""
    client = _Written(count)
    strategy = af.TruncationStrategy(
        max_n=budget, compact_to=budget, tokenizer=client, preserve_first_user_group=True
    )
    return await _left(messages, client, strategy)


async def context_window(messages: Messages, budget: int, count: Count) -> Messages:
    """`ContextWindowCompactionStrategy`, defaults: folds old results, then drops the oldest groups.

    Trap: a folded result stands in the assistant's role, so words of others become its own.
    """
    client = _Written(count)
    strategy = af.ContextWindowCompactionStrategy(
        max_context_window_tokens=budget, max_output_tokens=0, tokenizer=client
    )
    return await _left(messages, client, strategy)


async def composed(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`TokenBudgetComposedStrategy` as documented: folds results, summarizes, slides a window.

    Trap: where that is too long, it drops the oldest groups first: its own summary.
    """
    client = _Written(count, model)
    steps = [
        af.ToolResultCompactionStrategy(),
        af.SummarizationStrategy(client=client),
        af.SlidingWindowStrategy(keep_last_groups=20),
    ]
    strategy = af.TokenBudgetComposedStrategy(
        token_budget=budget, tokenizer=client, strategies=steps
    )
    return await _left(messages, client, strategy)
