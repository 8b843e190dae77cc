"""LangChain, and what is built on it: deepagents, compact-middleware and langmem.

An agent of theirs holds the system prompt apart. `trim_messages` and langmem are given it.
"""

import tempfile
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents import middleware as agents
from langchain_core import messages as lc
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.outputs import ChatGeneration, ChatResult
from studies.compactors.shared import Count, Messages, Model, apart, characters

from rulekeep.compaction.messages import tokens_of


class _Written(BaseChatModel):
    """A chat model whose replies a function writes."""

    write: Model
    _llm_type = "written"

    def _generate(self, messages: list[lc.BaseMessage], *_: Any, **__: Any) -> ChatResult:
        reply = self.write("\n\n".join(message.text for message in messages))
        return ChatResult(generations=[ChatGeneration(message=lc.AIMessage(reply))])


def _back(messages: Sequence[lc.BaseMessage]) -> Messages:
    kept = [message for message in messages if not isinstance(message, lc.RemoveMessage)]
    back: Messages = lc.convert_to_openai_messages(kept, text_format="string")
    return back


def _counter(count: Count) -> Callable[[Sequence[lc.BaseMessage]], int]:
    return lambda messages: tokens_of(_back(messages), count) if messages else 0


def trim(messages: Messages, budget: int, count: Count) -> Messages:
    """`trim_messages`, defaults: the last messages that fit.

    Trap: the system prompt goes too, and results stay whose calls are gone.
    """
    chat = lc.convert_to_messages(messages)
    return _back(lc.trim_messages(chat, max_tokens=budget, token_counter=_counter(count)))


def trim_documented(messages: Messages, budget: int, count: Count) -> Messages:
    """`trim_messages` as documented for chat: the prompt stays, and a user's message begins.

    Trap: where the last turn exceeds the budget, only the prompt stays.
    """
    kept = lc.trim_messages(
        lc.convert_to_messages(messages), max_tokens=budget, token_counter=_counter(count),
        include_system=True, start_on="human",
    )  # fmt: skip
    return _back(kept)


def _summarized(
    messages: Messages, budget: int, count: Count, model: Model, **options: Any
) -> Messages:
    system, rest, left = apart(messages, budget, count)
    middleware = agents.SummarizationMiddleware(
        _Written(write=model), trigger=("tokens", left), token_counter=_counter(count), **options
    )
    chat = lc.convert_to_messages(rest)
    update = middleware.before_model({"messages": chat}, None)
    return system + _back(update["messages"] if update else chat)


def summarization(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`SummarizationMiddleware`, defaults: a summary, and the last 20 messages.

    Trap: of what goes, the summarizer reads the last 4,000 tokens alone. deepagents' class of this
    name does the same, but for its factory.
    """
    return _summarized(messages, budget, count, model)


def summarization_untrimmed(
    messages: Messages, budget: int, count: Count, model: Model
) -> Messages:
    """The same with `trim_tokens_to_summarize=None`, and half the budget of last messages.

    Trap: none that it sets; the summarizer's window must hold all that goes.
    """
    keep = ("tokens", max(1, budget // 2))
    return _summarized(messages, budget, count, model, keep=keep, trim_tokens_to_summarize=None)


def clear_tool_uses(messages: Messages, budget: int, count: Count) -> Messages:
    """`ClearToolUsesEdit`, defaults: all results but three become "[cleared]".

    Trap: a rules file that a tool read is cleared; all else stays, so a small budget is overshot.
    As Inspect's `edit`.
    """
    chat = lc.convert_to_messages(messages)
    agents.ClearToolUsesEdit(trigger=budget).apply(chat, count_tokens=_counter(count))
    return _back(chat)


def _sent(middleware: agents.AgentMiddleware, messages: Messages, system: Messages) -> Messages:
    """What a middleware hands on to the model of an agent."""
    sent = list[lc.BaseMessage]()

    def handler(request: agents.ModelRequest) -> agents.ModelResponse:
        sent.extend(request.messages)
        return agents.ModelResponse(result=[lc.AIMessage("")])

    prompt, *_ = [*lc.convert_to_messages(system), None]
    chat = lc.convert_to_messages(messages)
    middleware.wrap_model_call(
        agents.ModelRequest(
            model=_Written(write=str), messages=chat, system_message=prompt, state={"messages": []}
        ),
        handler,
    )
    return system + _back(sent)


def _folder(state: dict[str, Any]) -> Any:
    """Where deepagents puts what went: a folder that lives as long as the history."""
    from deepagents.backends import FilesystemBackend

    folder = state.setdefault("folder", tempfile.TemporaryDirectory())
    return FilesystemBackend(root_dir=folder.name, virtual_mode=True)


def deepagents(
    messages: Messages, budget: int, count: Count, model: Model, state: dict[str, Any]
) -> Messages:
    """deepagents, defaults, in a window of the budget: a summary, and a tenth of the window.

    Trap: what the summary has not stands in a file, and the agent must think of reading it.
    """
    from deepagents.middleware.summarization import create_summarization_middleware

    system, rest, _ = apart(messages, budget, count)
    window = _Written(write=model, profile={"max_input_tokens": budget})
    middleware = create_summarization_middleware(
        window, _folder(state), token_counter=_counter(count)
    )
    return _sent(middleware, rest, system)


def compact_middleware(
    messages: Messages, budget: int, count: Count, model: Model, state: dict[str, Any]
) -> Messages:
    """compact-middleware, defaults: Claude Code's steps; a summary and the last 20 messages.

    Trap: files read in a row fold into "Read 3" before a model reads them, a rules file too; the
    cut may part a call from its result. It counts four characters a token.
    """
    from compact_middleware import CompactionConfig, CompactionMiddleware

    system, rest, _ = apart(messages, budget, count)
    config = CompactionConfig(trigger=("tokens", characters(messages, budget, count) // 4))
    middleware = CompactionMiddleware(_Written(write=model), backend=_folder(state), config=config)
    return _sent(middleware, rest, system)


def langmem(
    messages: Messages, budget: int, count: Count, model: Model, state: dict[str, Any]
) -> Messages:
    """`SummarizationNode` of langmem as its guide sets it: a summary, then the last that fit.

    Trap: of what goes, the summarizer reads the last tokens, as many as the budget has.
    """
    from langmem.short_term import SummarizationNode

    node = SummarizationNode(
        model=_Written(write=model), max_tokens=budget, token_counter=_counter(count),
        max_summary_tokens=min(256, budget // 2), output_messages_key="messages",
    )  # fmt: skip
    chat = lc.convert_to_messages([{**message, "id": str(uuid.uuid4())} for message in messages])
    update = node.invoke({"messages": chat, "context": state.get("context", {})})
    state["context"] = update.get("context", {})
    return _back(update["messages"])
