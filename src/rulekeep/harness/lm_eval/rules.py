"""Rules in words as tasks of lm-evaluation-harness: one document for each family of each prompt.

    lm_eval --include_path "$(rulekeep harness lm-eval)" --tasks rulekeep_binding …

Conversations, options and calibration are those of `rulekeep language`, so the same model has the
same figure. The harness gives log-likelihoods; `retention` calibrates them over all documents.
Texts are whole, chat template included: the harness must put nothing around them. No torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rulekeep.analysis.summary import Interval
from rulekeep.harness.lm_eval.asking import Documents, Reader, documents
from rulekeep.language.calibration import Judged, keys_of
from rulekeep.language.chat import Message, converse, unstated_for
from rulekeep.language.contract import Probe, shared
from rulekeep.language.intervals import interval, resampled
from rulekeep.language.judging import DIGITS, probes_of
from rulekeep.language.recorded import read_chat
from rulekeep.language.resolving import chosen_families
from rulekeep.language.templates import ChatTemplate
from rulekeep.records.record import Choice
from rulekeep.specs import LanguageSpec, UsageError

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


def _rows(reader: Reader, given: Mapping[str, Any]) -> Documents:
    chat, asked = ChatTemplate(reader.tokenizer), dict(given)
    names = asked.pop("families", ())
    names = names.split(",") if isinstance(names, str) else names
    spec = LanguageSpec.parse(
        model=reader.name, families=tuple(names), **TASKS[reader.task], **asked
    )
    _, chosen, _ = chosen_families(spec)
    unstated = unstated_for(len(chosen), spec.prompts)
    spec = spec.model_copy(update={"unstated": unstated, "families": tuple(chosen)})
    talk = read_chat(spec.chat).turns if spec.chat else None
    for number in range(spec.prompts):
        conversation = converse(chosen, spec, "test", number, chat.tokens_of, talk)
        head = chat.head(conversation.messages)
        for one in conversation.asked:
            probes = probes_of(chosen[one.family])
            request = Message("user", probes[0].request)
            text = chat.text([*conversation.messages, request], reply=True) + probes[0].prefix
            reader.check_fits(_same_tokens(reader, chat, head, text, probes), "distance")
            # The harness scores white space before a reply with it. So that is no part of the
            # context, but an option of its own, whose likelihood is taken off that of each reply.
            context = text.rstrip()
            space = text[len(context) :]
            choices = [space + probe.reply for probe in probes] + ([space] if space else [])
            yield {
                "prompt": number, "text": context, "choices": choices, "target": one.option,
                "family": one.family, "rank": one.rank, "spaced": bool(space),
            }  # fmt: skip


def _same_tokens(
    reader: Reader, chat: ChatTemplate, head: str, text: str, probes: Sequence[Probe]
) -> int:
    """The tokens of the longest reply with all before it, where both read and score the same ones.

    Raises:
        UsageError: the harness reads or scores other tokens than `rulekeep language`.
    """
    read, before = chat.tokens(head), chat.after(head, text)
    begun, context, longest = reader.encoded(text), reader.encoded(text.rstrip()), 0
    if begun[: len(read)] != read:
        raise UsageError(
            "model: the harness adds a token that the chat template does not have; "
            "add add_bos_token=False to --model_args"
        )
    for probe in probes:
        own, whole = reader.encoded(text + probe.reply), chat.after(head, text + probe.reply)
        first = len(read) + shared(before, whole)
        if (own, len(begun), own[: len(context)]) != ([*read, *whole], first, context):
            raise UsageError(
                f"model: its tokenizer joins the reply {probe.reply!r} to the text before it; "
                "leave its family out of families"
            )
        longest = max(longest, len(own))
    return longest


def process_results(
    doc: Mapping[str, Any], results: Iterable[tuple[float, bool]]
) -> dict[str, Any]:
    """What each option scores: the harness keeps it by metric, and asks for the figure at the end.

    `acc` is the share of rules whose option is likeliest as it is: not calibrated.
    """
    scores = [likelihood for likelihood, _ in results]
    if doc["spaced"]:
        *scores, space = scores
        scores = [score - space for score in scores]
    choice = {
        "compress": "none", "split": "test", "prompt": doc["prompt"], "family": doc["family"],
        "rank": doc["rank"], "option": doc["target"],
        "scores": [round(score, DIGITS) for score in scores],
    }  # fmt: skip
    found: dict[str, Any] = dict.fromkeys(("retention", "low", "high", "chance"), choice)
    if doc["target"] is not None:
        found["acc"] = float(np.argmax(scores) == doc["target"])
    return found


def _interval(rows: Iterable[Mapping[str, Any]]) -> Interval:
    choices = [Choice(**row) for row in rows]
    keys = keys_of(choices)
    judged, weights = Judged(choices, keys), resampled(len(keys))
    right, _ = judged.right(weights)
    if np.isnan(right[0]).all():
        # With so few prompts no option is scored without being stated.
        return Interval(np.nan, np.nan, np.nan)
    return interval(judged.by_prompt(right), weights.take(judged.prompts, 1))


def retention(rows: Iterable[Mapping[str, Any]]) -> float:
    """The share of rules followed, calibrated on all other prompts."""
    return _interval(rows).mean


def low(rows: Iterable[Mapping[str, Any]]) -> float:
    """The lower end of its interval over prompts."""
    return _interval(rows).low


def high(rows: Iterable[Mapping[str, Any]]) -> float:
    """The upper end of its interval over prompts."""
    return _interval(rows).high


def chance(rows: Iterable[Mapping[str, Any]]) -> float:
    """What a guess among the options gets right."""
    return float(np.mean([1 / len(row["scores"]) for row in rows if row["option"] is not None]))
