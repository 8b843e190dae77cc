"""Packages of compaction alone, small and without much beside: one environment holds them all."""

import json
from typing import Any

from studies.compactors.shared import Count, Messages, Model, calls_of, characters, how_many

from rulekeep.compaction.messages import text_of, tokens_of


def recent_5(messages: Messages) -> Messages:
    """`RecentN` of conpact (COMPINT), default: the last five messages.

    Trap: all else goes, the system prompt too, and a call may be parted from its result.
    """
    from conpact.compactors import RecentN

    return RecentN()(messages)


def recent(messages: Messages, budget: int, count: Count) -> Messages:
    """`RecentN` of conpact with as many messages as fit.

    As AutoGen's buffered context, a limit of OpenAI's sessions, and both windows of
    agentic-context-compaction, but for what they keep of the beginning.
    """
    from conpact.compactors import RecentN

    return RecentN(how_many(messages, budget, count))(messages)


def anthropic_prompt(messages: Messages, model: Model) -> Messages:
    """`LLMSummarize` of conpact: Anthropic's prompt for compaction; nothing else stays.

    Trap: the system prompt and the last request stand in the summary alone.
    """
    from conpact.prompts import summarization_prompt

    prompt = summarization_prompt("anthropic", messages)
    return [
        {"role": "assistant", "content": model("\n\n".join(part["content"] for part in prompt))}
    ]


def chatcram(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """chatcram, defaults: the system prompt, a summary in the system's role, half a budget of last.

    Trap: what a tool said gets the system's role; calls count as nothing, and are parted.
    """
    from chatcram import CallableTokenizer, Compactor

    compactor = Compactor(budget, model, tokenizer=CallableTokenizer(count))
    return compactor.compact(messages).messages


async def contextclip(messages: Messages, budget: int, count: Count) -> Messages:
    """contextclip, defaults: drops half of the head; then 500 letters of it and four messages stay.

    Trap: the system prompt is of the half that goes. It counts four characters a token.
    """
    from contextclip import ContextClipper, Message

    here = [Message(message["role"], text_of(message)) for message in messages]
    given = {id(made): message for made, message in zip(here, messages, strict=True)}
    clipper = ContextClipper(characters(messages, budget, count) // 4)
    kept = (await clipper.recover(here)).messages
    return [given.get(id(made)) or {"role": made.role, "content": made.content} for made in kept]


def _cut(messages: Messages, budget: int, count: Count, policy: Any, model: Model) -> Messages:
    """What a policy of cutctx leaves; the last four turns are protected where that can be."""
    import cutctx

    given = {str(at): message for at, message in enumerate(messages)}
    exchange = {key: at for at, message in given.items() for key, *_ in calls_of(message)}
    exchange |= {at: at for at, message in given.items() if message.get("tool_calls")}
    turns = [
        cutctx.TranscriptTurn(
            at, cutctx.Role(message["role"]), text_of(message), tokens_of([message], count),
            tool_call_id=exchange.get(message.get("tool_call_id", at)),
        )
        for at, message in given.items()
    ]  # fmt: skip
    transcript = cutctx.Transcript(tuple(turns))
    try:
        plan = policy.decide(transcript, cutctx.CompactionBudget(budget))
    except cutctx.BudgetUnsatisfiable:
        plan = policy.decide(transcript, cutctx.CompactionBudget(budget, protected_recent_turns=0))
    summaries = {
        asked.group_id: model("\n".join(text_of(given[at]) for at in asked.turn_ids))
        for asked in plan.summarization_requests
    }
    view = cutctx.CompactionExecutor().apply(transcript, plan, summaries=summaries)
    back = []
    for turn in view.transcript.turns:
        message = given.get(turn.turn_id, {"role": turn.role.value})
        same = "content" in message and turn.content == text_of(message)
        back.append(message if same else {**message, "content": turn.content})
    return back


def cutctx_drop_oldest(messages: Messages, budget: int, count: Count) -> Messages:
    """`DropOldestPolicy` of cutctx: the system prompt, and the last exchanges that fit.

    Trap: the first turns go. As `agent_framework.truncation`.
    """
    from cutctx import DropOldestPolicy

    return _cut(messages, budget, count, DropOldestPolicy(), str)


def cutctx_chain(messages: Messages, budget: int, count: Count, model: Model) -> Messages:
    """`default_chain` of cutctx: masks old results, then summarizes the oldest span, then drops.

    Trap: where masking is enough nothing is summarized, and a rules file is a hash, unread.
    """
    from cutctx.policies.chain import default_chain

    return _cut(messages, budget, count, default_chain(prompt_id="study"), model)


def _kit(name: str, messages: Messages, budget: int, count: Count, state: Any) -> Messages:
    """A compactor of compaction-conformance-kit: a text, the system prompt from then on."""
    from compaction_kit import compactors, session

    state["round"] = state.get("round", 0) + 1
    turns = [session.Turn(message["role"], text_of(message)) for message in messages]
    compactor = getattr(compactors, f"{name}Compactor")()
    left = compactor.compact(turns, state["round"], characters(messages, budget, count))
    return [{"role": "system", "content": left.text}]


def kit_truncation(messages: Messages, budget: int, count: Count, state: Any) -> Messages:
    """The kit's lossy truncation: the last 30 % at most."""
    return _kit("LossyTruncation", messages, budget, count, state)


def kit_summary_tail(messages: Messages, budget: int, count: Count, state: Any) -> Messages:
    """The kit's summary and tail. Trap: over the budget its end is cut, which is the tail."""
    return _kit("SummaryTail", messages, budget, count, state)


def kit_checklist(messages: Messages, budget: int, count: Count, state: Any) -> Messages:
    """The kit's checklist. Trap: it knows a rule by "SAFETY RULE" and four more headings alone."""
    return _kit("UpdateAwareChecklist", messages, budget, count, state)


def kit_pinned_rules(messages: Messages, budget: int, count: Count, state: Any) -> Messages:
    """The kit's pinned rules, known by the same headings, and its naive summary."""
    return _kit("PinnedRules", messages, budget, count, state)


async def _bench(name: str, messages: Messages, model: Model, state: Any) -> Messages:
    """A compactor of compactbench: an artifact as text. A reply without JSON is decisions."""
    from compactbench import compactors, contracts, providers

    class Written(providers.Provider):
        key = "written"

        async def complete(self, request: Any) -> providers.CompletionResponse:
            text = model(request.prompt)
            if request.response_format and not text.lstrip().startswith("{"):
                lines = [line.removeprefix("- ") for line in text.splitlines()]
                text = json.dumps({"locked_decisions": lines})
            return providers.CompletionResponse(text, 0, 0, "written")

    turns = [
        {"id": at, "role": message["role"].replace("tool", "user"), "content": text_of(message)}
        for at, message in enumerate(messages)
    ]
    compactor = getattr(compactors, f"{name}Compactor")(Written(), "written")
    transcript = contracts.Transcript(turns=turns)
    left = state["artifact"] = await compactor.compact(transcript, None, state.get("artifact"))
    text = f"{left.summary_text}\n{left.structured_state.model_dump_json(indent=1)}"
    return [{"role": "system", "content": text}]


async def bench_naive_summary(messages: Messages, model: Model, state: Any) -> Messages:
    """The naive summary of compactbench, in under 500 words. Trap: nothing recent stays."""
    return await _bench("NaiveSummary", messages, model, state)


async def bench_hybrid_ledger(messages: Messages, model: Model, state: Any) -> Messages:
    """The hybrid ledger of compactbench: decisions and prohibitions are only ever added.

    Trap: facts are read anew each round, and what a tool said ends in the system's role.
    """
    return await _bench("HybridLedger", messages, model, state)
