"""aider's summary of a chat, and LiteLLM's trimming, which is installed with it."""

import os
from typing import Any

from studies.compactors.shared import Count, Messages, Model, apart

from rulekeep.compaction.messages import tokens_of

# Else LiteLLM asks the network for prices as it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def chat_summary(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`ChatSummary` of aider: a summary of what both said, and half a budget of last messages.

    Trap: of what goes it reads the first 3,584 tokens, where a model's window is unknown; the rest
    is neither summarized nor kept. It knows no tools.
    """
    from aider.history import ChatSummary

    class Written:
        name, info = "written", dict[str, Any]()

        def token_count(self, counted: Any) -> int:
            return tokens_of(counted if isinstance(counted, list) else [counted], count)

        def simple_send_with_retries(self, prompt: Messages) -> str:
            return model("\n\n".join(part["content"] for part in prompt))

    system, rest, left = apart(messages, budget, count)
    return system + ChatSummary(Written(), left).summarize(rest)


def litellm_trim(messages: Messages, budget: int) -> Messages:
    """`trim_messages` of LiteLLM, with OpenAI's count: the prompt, and the last messages that fit.

    Trap: the message that does not fit loses its middle; a call may be parted from its result.
    """
    from litellm.utils import trim_messages

    return trim_messages(messages, model="gpt-4o", max_tokens=budget)
