"""Semantic Kernel: its two reducers of a chat history. Both count messages, not tokens."""

from typing import Any

from semantic_kernel import contents
from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from studies.compactors.shared import Count, Messages, Model, calls_of, how_many

from rulekeep.compaction.messages import Message


class _Written(ChatCompletionClientBase):
    """A service whose replies a function writes."""

    write: Model

    async def get_chat_message_contents(
        self, chat_history: contents.ChatHistory, *_: Any, **__: Any
    ) -> list[contents.ChatMessageContent]:
        items = [item for message in chat_history.messages for item in message.items]
        prompt = "\n\n".join(str(getattr(item, "result", item)) for item in items)
        return [contents.ChatMessageContent(role="assistant", content=self.write(prompt))]


def _here(at: int, message: Message) -> contents.ChatMessageContent:
    text = message["content"]
    items: list[Any] = [contents.TextContent(text=text)] if text else []
    if message["role"] == "tool":
        key = message["tool_call_id"]
        items = [contents.FunctionResultContent(id=key, name="tool", result=text)]
    for key, name, arguments in calls_of(message):
        items.append(contents.FunctionCallContent(id=key, name=name, arguments=arguments))
    return contents.ChatMessageContent(role=message["role"], items=items, metadata={"at": at})


async def _reduced(reducer: contents.ChatHistoryReducer, messages: Messages) -> Messages:
    reducer.messages = [_here(at, message) for at, message in enumerate(messages)]
    await reducer.reduce()
    return [
        messages[made.metadata["at"]]
        if "at" in made.metadata
        else {"role": made.role.value, "content": made.content}
        for made in reducer.messages
    ]


async def truncation(messages: Messages, budget: int, count: Count) -> Messages:
    """`ChatHistoryTruncationReducer`: the system prompt, and as many of the last messages as fit.

    Trap: it counts messages, so long results overshoot the budget or leave it half empty.
    """
    target = how_many(messages, budget, count)
    return await _reduced(contents.ChatHistoryTruncationReducer(target_count=target), messages)


async def _summarized(
    messages: Messages, budget: int, count: Count, model: Model, with_tools: bool
) -> Messages:
    reducer = contents.ChatHistorySummarizationReducer(
        service=_Written(ai_model_id="written", write=model),
        target_count=how_many(messages, budget, count),
        include_function_content_in_summary=with_tools,
    )
    return await _reduced(reducer, messages)


async def summarization(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`ChatHistorySummarizationReducer`, defaults: the prompt, a summary, the last that fit.

    Trap: the summarizer is shown no call and no result, so a rules file goes unread.
    """
    return await _summarized(messages, budget, count, model, with_tools=False)


async def summarization_with_tools(
    messages: Messages, budget: int, count: Count, model: Model
) -> Messages:
    """The same with `include_function_content_in_summary`: calls and results are read too."""
    return await _summarized(messages, budget, count, model, with_tools=True)
