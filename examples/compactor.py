"""A compactor to try: the system prompt, and the last turns that fit.

rulekeep compact examples/compactor.py --budget 0.25 --rounds 5 --fail-below 0.9
"""

from collections.abc import Callable
from typing import Any

Message = dict[str, Any]


def compact(messages: list[Message], budget: int, count: Callable[[str], int]) -> list[Message]:
    """Cuts at a user's message, so that no tool call loses its result."""
    size, left = count(messages[0]["content"]), list[Message]()
    for at in range(len(messages) - 1, 0, -1):
        size += count(messages[at]["content"])
        if size > budget:
            break
        if messages[at]["role"] == "user":
            left = messages[at:]
    return [messages[0], *left]
