"""OpenAI's Agents SDK: what it does without OpenAI's own server. The prompt is held apart."""

from typing import Any

from agents.extensions import ToolOutputTrimmer
from agents.run_config import CallModelData, ModelInputData
from studies.compactors.shared import Messages, apart, calls_of


def _here(messages: Messages) -> list[Any]:
    """Items of the Responses API, each with the place of its message."""
    items = list[dict[str, Any]]()
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            key, text = message["tool_call_id"], message["content"]
            items.append({"type": "function_call_output", "call_id": key, "output": text, "at": at})
        elif message["content"]:
            items.append({"role": message["role"], "content": message["content"], "at": at})
        for key, name, arguments in calls_of(message):
            call = {"type": "function_call", "call_id": key, "name": name, "arguments": arguments}
            items.append({**call, "at": at})
    return items


def _back(items: list[Any], messages: Messages) -> Messages:
    """A message stays with all its calls where one item of it stays."""
    texts = {item["at"]: item["output"] for item in items if "output" in item}
    kept = dict.fromkeys(item["at"] for item in items)
    return [{**messages[at], "content": texts.get(at, messages[at]["content"])} for at in kept]


def output_trimmer(messages: Messages) -> Messages:
    """`ToolOutputTrimmer`, defaults: of old results the first 200 letters stay.

    Trap: a rules file that a tool read loses all after them; the budget is not asked for.
    """
    system, rest = apart(messages, 0, len)[:2]
    given = ModelInputData(input=_here(rest), instructions=None)
    data: CallModelData[None] = CallModelData(model_data=given, agent=None, context=None)
    return system + _back(ToolOutputTrimmer()(data).input, rest)
