"""LlamaIndex: its chat memories. They count as the study does: else they download a tokenizer."""

from collections.abc import Callable
from typing import Any

from llama_index.core import llms, memory
from studies.compactors.shared import Count, Messages, Model

from rulekeep.compaction.messages import text_of


class _Written(llms.CustomLLM):
    """A model whose replies a function writes."""

    write: Model

    @property
    def metadata(self) -> llms.LLMMetadata:
        return llms.LLMMetadata()

    def complete(self, prompt: str, *_: Any, **__: Any) -> llms.CompletionResponse:
        return llms.CompletionResponse(text=self.write(prompt))

    def stream_complete(self, prompt: str, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def _here(messages: Messages) -> list[llms.ChatMessage]:
    return [
        llms.ChatMessage(
            role=message["role"], content=text_of(message), additional_kwargs={"at": at}
        )
        for at, message in enumerate(messages)
    ]


def _back(kept: list[llms.ChatMessage], messages: Messages) -> Messages:
    """As they were given, but for those that it wrote, or wrote into."""
    back = []
    for made in kept:
        at = made.additional_kwargs.get("at")
        same = at is not None and made.content == text_of(messages[at])
        back.append(messages[at] if same else {"role": made.role.value, "content": made.content})
    return back


def _tokens(count: Count) -> Callable[[str], range]:
    return lambda text: range(count(text))


def chat_memory_buffer(messages: Messages, budget: int, count: Count) -> Messages:
    """`ChatMemoryBuffer`: the last messages that fit, from a user's on.

    Trap: the system prompt goes too, and of a last turn over the budget one message stays.
    """
    kept = memory.ChatMemoryBuffer.from_defaults(
        chat_history=_here(messages), token_limit=budget, tokenizer_fn=_tokens(count)
    )
    return _back(kept.get(), messages)


def chat_summary(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`ChatSummaryMemoryBuffer`: a summary in the system's role, then the last messages that fit.

    Trap: the system prompt is summarized too, and what a tool said gets the system's role.
    """
    kept = memory.ChatSummaryMemoryBuffer.from_defaults(
        chat_history=_here(messages), llm=_Written(write=model), token_limit=budget,
        tokenizer_fn=_tokens(count),
    )  # fmt: skip
    return _back(kept.get(), messages)


async def _remembered(
    messages: Messages, budget: int, count: Count, blocks: list[memory.BaseMemoryBlock[str]]
) -> Messages:
    kept = memory.Memory.from_defaults(
        token_limit=budget, tokenizer_fn=_tokens(count), memory_blocks=blocks
    )
    await kept.aput_messages(_here(messages))
    return _back(await kept.aget(), messages)


async def fifo(messages: Messages, budget: int, count: Count) -> Messages:
    """`Memory`, defaults: the oldest turns leave, to no memory block.

    Trap: without blocks they are gone, the system prompt too. Nearly `chat_memory_buffer`.
    """
    return await _remembered(messages, budget, count, [])


async def facts(
    messages: Messages, budget: int, count: Count, model: Model, state: dict[str, Any]
) -> Messages:
    """`Memory` with `FactExtractionMemoryBlock`: what leaves is read for facts.

    A reply without its tags counts as a fact a line. Trap: facts stand in the system's role, those
    of a tool too, beside the budget.
    """

    def tagged(prompt: str) -> str:
        reply = model(prompt)
        lines = [f"<fact>{line}</fact>" for line in reply.splitlines() if line.strip()]
        return reply if "<fact>" in reply else "".join(lines)

    block = memory.FactExtractionMemoryBlock(llm=_Written(write=tagged))
    return await _remembered(messages, budget, count, [state.setdefault("facts", block)])
