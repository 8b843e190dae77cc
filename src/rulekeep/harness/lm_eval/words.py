"""Made tasks as words for lm-evaluation-harness, for a model that was trained on such texts.

    <bos> rule-1 filler-22 … <go> rule-7 rule-5 item-2

A document for each first use of a rule has the answer so far in its context: `retention` is the
share of them that the model would say. One more asks for the whole answer: `exact_match` is what
greedy generation gets right. Nothing is generated: is each token the likeliest after the others?
Beside them stand chance, and the best of the certificate's readers without memory.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rulekeep.checks.certificate import certify
from rulekeep.harness.lm_eval.asking import Document, Reader, documents
from rulekeep.registry import make
from rulekeep.tasks import TASKS

# What `--metadata` may say beside the task's own options.
USUAL = {"context": 256, "examples": 200, "seed": 1}


def custom_dataset(task: str, **settings: Any) -> dict[str, Any]:
    """Test examples of a task, in words."""
    options = (*USUAL, *TASKS.find(task).options_type.model_fields)
    return documents(_rows, options, task, settings)


def _rows(name: str, reader: Reader, given: Document) -> Iterator[dict[str, Any]]:
    asked = {**USUAL, **given}
    context, examples, seed = (asked.pop(key) for key in USUAL)
    cls: Any = TASKS.find(name)
    task = make(f"task {name!r}", cls, cls.options_type.parse(**asked))
    reader.check_words(task.vocabulary)
    sample = task.sample("test", context, examples, seed=seed)
    # So many take readers without memory seconds, and tell chance to a hundredth.
    readings = certify(task, context, examples=1000, seed=seed).readings
    without = max(one.retention for one in readings if one.local)
    start, tables = sample.answer_start, (sample.tokens, sample.first_mention, sample.chance)
    for tokens, first, chance in zip(*tables, strict=True):
        uses = [(start + at, start + at + 1, chance[at]) for at in np.flatnonzero(first)]
        for begin, end, guess in [(start, None, np.prod(chance)), *uses]:
            text, target = task.words(tokens[:begin]), f" {task.words(tokens[begin:end])}"
            reader.check(text, target)
            yield {
                "text": text, "target": target, "whole": end is None, "chance": float(guess),
                "without_memory": without,
            }  # fmt: skip


def process_results(doc: Document, results: Iterable[tuple[float, bool]]) -> dict[str, Any]:
    """Whether the model would say what is right, and what chance is of that."""
    ((_, is_said),) = results
    if doc["whole"]:
        return {"exact_match": float(is_said), "exact_chance": doc["chance"]}
    beside = {key: doc[key] for key in ("chance", "without_memory")}
    return {"retention": float(is_said), **beside}
