"""What the adapters share: the system prompt apart, and a budget in a package's own units.

An adapter calls a package as its documents say, and holds no rule of its own. Its docstring says
what the package does, its setting, and its trap: how a rule goes lost. The file NAME.py runs in the
environment that `python tools/compactor_envs.py make NAME DIR` makes.
"""

from itertools import accumulate
from typing import TypeAlias

from rulekeep.compaction.compactors import Model
from rulekeep.compaction.messages import Count, Message, text_of, tokens_of

Messages: TypeAlias = list[Message]
__all__ = ["Count", "Messages", "Model", "apart", "calls_of", "characters", "how_many"]


def apart(messages: Messages, budget: int, count: Count) -> tuple[Messages, Messages, int]:
    """The system prompt, the rest, and what the prompt leaves of the budget."""
    begin = 1 if messages and messages[0]["role"] == "system" else 0
    return messages[:begin], messages[begin:], max(1, budget - tokens_of(messages[:begin], count))


def how_many(messages: Messages, budget: int, count: Count) -> int:
    """How many of the last messages fit, for a package that counts messages; two at least."""
    sizes = [count(text_of(message)) for message in reversed(messages)]
    return max(2, sum(total <= budget for total in accumulate(sizes)))


def characters(messages: Messages, budget: int, count: Count) -> int:
    """The budget in characters, by those that a token of this history has."""
    length = sum(len(text_of(message)) for message in messages)
    return round(budget * length / max(1, tokens_of(messages, count)))


def calls_of(message: Message) -> list[tuple[str, str, str]]:
    """Id, name and arguments (JSON) of each call of a tool."""
    calls = message.get("tool_calls") or ()
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]
