"""Headroom: compresses results of tools by their form (JSON, logs, code)."""

from headroom import compress
from studies.compactors.shared import Messages


def coding_agent(messages: Messages, budget: int) -> Messages:
    """`compress`, defaults: older results by their form, and long texts by a model of its own.

    Trap: it spares tools that read files, and downloads that model: without it nearly all stays.
    The budget is the limit of its window alone. A share as target (`target_ratio`) changes nothing.
    """
    return compress(messages, model="gpt-4o", model_limit=budget).messages
