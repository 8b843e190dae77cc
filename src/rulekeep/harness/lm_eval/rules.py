"""Rules in words as tasks of lm-evaluation-harness: a document for each family of each prompt.

    lm_eval run --include_path "$(rulekeep harness lm-eval)" --tasks rulekeep_binding …

Conversations, options and calibration are those of `rulekeep language`, so one model has one
figure. The harness gives log-likelihoods, and `retention` calibrates them over all documents.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from rulekeep.harness.lm_eval.asking import Document, Reader, documents
from rulekeep.language.calibration import Judged, keys_of
from rulekeep.language.chat import Message, converse, unstated_for
from rulekeep.language.contract import shared
from rulekeep.language.judging import DIGITS, probes_of
from rulekeep.language.recorded import read_chat
from rulekeep.language.resolving import chosen_families
from rulekeep.language.templates import ChatTemplate
from rulekeep.records.record import Choice
from rulekeep.specs import LanguageSpec

# What a task asks, and what `--metadata` may say of it.
TASKS = {
    "retention": {"mentions": "none"},
    "binding": {"mentions": "word"},
    "floor": {"mentions": "word", "control": "no_rules"},
}
OPTIONS = (
    "distance", "prompts", "families", "rules", "rules_at_once", "placement", "chat", "seed",
)  # fmt: skip


def custom_dataset(task: str, **settings: Any) -> dict[str, Any]:
    """Every prompt of a cell, by family: its text, the options, and which one is right."""
    return documents(_rows, OPTIONS, task, settings)


def _rows(task: str, reader: Reader, given: Document) -> Iterator[dict[str, Any]]:
    chat = ChatTemplate(reader.tokenizer)
    spec = LanguageSpec.parse(**{**given, **TASKS[task], "model": reader.name})
    _, families, _ = chosen_families(spec)
    more = {"unstated": unstated_for(len(families), spec.prompts), "families": tuple(families)}
    spec, talk = spec.model_copy(update=more), spec.chat and read_chat(spec.chat).turns
    for number in range(spec.prompts):
        conversation = converse(families, spec, "test", number, chat.tokens_of, talk or None)
        head = chat.head(conversation.messages)
        read = chat.tokens(head)
        for one in conversation.asked:
            probes = probes_of(families[one.family])
            request = Message("user", probes[0].request)
            text = chat.text([*conversation.messages, request], reply=True) + probes[0].prefix
            # The harness scores white space before a reply with it. So that is no part of the
            # context, but an option of its own, whose likelihood is taken off that of each reply.
            context, before = text.rstrip(), chat.after(head, text)
            space = text[len(context) :]
            for probe in probes:
                whole = chat.after(head, text + probe.reply)
                reader.check(text, probe.reply, (len(read) + shared(before, whole), read + whole))
                reader.check(context, space + probe.reply)
            choices = [space + probe.reply for probe in probes] + ([space] if space else [])
            yield {
                "prompt": number, "text": context, "choices": choices, "target": one.option,
                "family": one.family, "rank": one.rank, "spaced": bool(space),
            }  # fmt: skip


def process_results(doc: Document, results: Iterable[tuple[float, bool]]) -> dict[str, Any]:
    """What each option scores, for the figures at the end; and `acc`, which is not calibrated."""
    scores = [likelihood for likelihood, _ in results]
    if doc["spaced"]:
        *scores, space = scores
        scores = [score - space for score in scores]
    row = {key: doc[key] for key in ("prompt", "family", "rank")}
    row |= {"option": doc["target"], "scores": [round(score, DIGITS) for score in scores]}
    acc = {} if doc["target"] is None else {"acc": float(np.argmax(scores) == doc["target"])}
    return {**dict.fromkeys(("retention", "low", "high", "chance"), row), **acc}


def _figure(name: str) -> Callable[[Iterable[Document]], float]:
    def figure(rows: Iterable[Document]) -> float:
        choices = [Choice(compress="none", split="test", **row) for row in rows]
        return float(getattr(Judged(choices, keys_of(choices)).share(), name))

    return figure


# The share of rules followed, calibrated on all other prompts, with its interval over prompts.
retention, low, high = map(_figure, ("mean", "low", "high"))


def chance(rows: Iterable[Document]) -> float:
    """What a guess among the options gets right."""
    return float(np.mean([1 / len(row["scores"]) for row in rows if row["option"] is not None]))
