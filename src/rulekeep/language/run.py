"""One cell of rules in words, one record: conversations read once, then scored under each cache.

    for prompt in prompts:
        read the conversation ─ observe what evictions need
        for each compression: cut or round the cache, or shorten the text and read it anew
                              ─ score every option of every family asked for, obeyed and said;
                                or have replies written, and see which options they show

What is kept are log-likelihoods, of every option in every prompt, or the written replies: shares
are made of them later (`rulekeep.language.figures`). A run that is stopped goes on after the last
prompt it has saved.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rulekeep.language.chat import Conversation, converse
from rulekeep.language.checkpointed import checkpointed
from rulekeep.language.compactors import compact
from rulekeep.language.contract import Model
from rulekeep.language.families import is_stored
from rulekeep.language.judging import model_for, scored, written
from rulekeep.language.resolving import ResolvedLanguage
from rulekeep.records.store import RunFolder, Values
from rulekeep.running.building import check_device, environment, prepare_process
from rulekeep.running.costs import peak_memory_bytes


def run(
    resolved: ResolvedLanguage,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Values:
    """Reads and scores every prompt of a cell, from its checkpoint if there is one."""
    del log
    prepare_process()
    spec = resolved.spec
    check_device(spec.device)
    model = model_for(spec.endpoint, spec.model, spec.device, spec.dtype, spec.template)

    def step(known: dict[str, Any], number: int) -> None:
        rows, tokens, measured = _judged(model, resolved, number)
        known["choices"] += rows
        known["tokens"].append(tokens)
        # The mean over prompts, as of the tokens; a checkpoint holds that of the prompts so far.
        for what, sizes in measured.items():
            for text, size in sizes.items():
                before = known[what].get(text, size)
                known[what][text] = before + (size - before) / len(known["tokens"])

    start: dict[str, Any] = {"choices": [], "tokens": [], "bytes": {}, "left": {}}
    values, known = checkpointed(resolved, folder, progress, start, step)
    return {
        **values,
        "choices": known["choices"],
        "costs": {
            "seconds": known["seconds"],
            "tokens_per_prompt": sum(known["tokens"]) / len(known["tokens"]),
            "peak_memory_bytes": peak_memory_bytes(),
            "cache_bytes": {text: round(size) for text, size in known["bytes"].items()},
            "tokens_left": {text: round(size) for text, size in known["left"].items()},
        },
        "environment": {**environment(), "device": spec.device, **model.libraries},
        "notes": _notes(model, resolved),
    }


def _conversation(model: Model, resolved: ResolvedLanguage, number: int) -> Conversation:
    spec, talk = resolved.spec, resolved.recorded and resolved.recorded.turns
    return converse(
        resolved.families, spec, spec.split, number, model.tokens_of, talk, resolved.system
    )


def _notes(model: Model, resolved: ResolvedLanguage) -> list[str]:
    spec, families = resolved.spec, resolved.families
    notes = [*resolved.system.notes(families)] if resolved.system else []
    if resolved.recorded is not None:
        example = _conversation(model, resolved, 0).messages
        notes += resolved.recorded.notes(families, spec.distance, example)
    return notes


def _judged(
    model: Model, resolved: ResolvedLanguage, number: int
) -> tuple[list[dict[str, Any]], int, dict[str, dict[str, int]]]:
    """A row for each family asked for under each compression, the tokens read, and what is left.

    That is the bytes of its cache and the tokens of its text, by compression.
    """
    spec, families = resolved.spec, resolved.families
    conversation = _conversation(model, resolved, number)
    evictions = {one.name: None for one in resolved.compressions.values() if one.kind == "eviction"}
    opened = model.opened(conversation.messages, [*evictions], conversation.rules)
    # What families are chosen by is whether they are obeyed; nobody reads more of it.
    hows = ("obeyed", "said") if spec.families else ("obeyed",)
    asked = [(one, how) for one in conversation.asked for how in hows]
    rows, sizes, tokens = list[dict[str, Any]](), dict[str, int](), dict[str, int]()
    for text, one in resolved.compressions.items():
        kept = None
        if one.kind == "compactor":
            shorter = compact(conversation.messages, one, model)
            kept, under = shorter.text, model.opened(shorter.messages)
        else:
            under = opened.under(one)
        tokens[text] = under.left
        if (size := under.kept_bytes(one)) is not None:
            sizes[text] = size
        judge = scored if spec.replies == "scored" else written
        for (rule, how), judged in zip(asked, judge(under, families, asked), strict=True):
            row = {
                "compress": text, "split": spec.split, "prompt": number, "family": rule.family,
                "rank": rule.rank, "option": rule.option, "how": how, **judged,
            }  # fmt: skip
            if kept is not None and rule.option is not None:
                row["stored"] = is_stored(kept, families[rule.family].options[rule.option])
            rows.append(row)
    return rows, opened.tokens, {"bytes": sizes, "left": tokens}
