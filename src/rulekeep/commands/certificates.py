"""Certificates of `rulekeep certify`: a table per context to show, a record per run to keep."""

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rulekeep.checks.certificate import LEVEL, MOST_EXCESS, Certificate
from rulekeep.console import command_line
from rulekeep.printable import markdown_table
from rulekeep.records.identity import code_of_file
from rulekeep.registry import source_of
from rulekeep.tasks import Article, SampledTask, Task

# Who scores what is shown of the article: no reader of as much can do better.
LEAK_READER = "last 6, best of all readers (exact enumeration)"
_VERDICTS = {True: "yes", False: "NO", None: "need not"}


def table(made: Certificate) -> str:
    """The readings as a Markdown table."""
    header = ["reader", "retention", "chance", "excess", "upper bound", "pass"]
    body = [
        [
            one.reader, f"{one.retention:.4f}", f"{one.chance:.4f}", f"{one.excess:.3f}",
            f"{one.bound:.4f}", _VERDICTS[one.passed],
        ]
        for one in made.readings
    ]  # fmt: skip
    return markdown_table(header, body)


def verdict(made: Certificate) -> str:
    """One line: whether it passes, and which reader it fails by."""
    if made.passed:
        line, best = f"passes: every local reader's bound is at most {MOST_EXCESS}", made.so_far
        if made.is_chance_out_of_reach:
            line += (
                f"; but chance is stated as {best.chance:.3f}, and no reader of the answer so far "
                f"is right more than {best.retention:.3f} of the time: is it too high?"
            )
        return line
    worst = max((one for one in made.readings if one.passed is False), key=lambda one: one.excess)
    few = "; so few examples show nothing: give more" if made.too_few else ""
    return (
        f"FAILS: {worst.reader} is {worst.excess:.3f} above chance "
        f"(bound {worst.bound:.3f}, at most {MOST_EXCESS}){few}"
    )


def begun(named: str, task: Task, seed: int) -> dict[str, Any]:
    """The record of a task before anything is drawn: its file may be edited in the meantime."""
    place = Path(named.rpartition(":")[0])
    is_file = place.suffix == ".py"
    return {
        "kind": "certificate", "task": task.name, "named": named,
        "options": task.options.model_dump(mode="json"),
        **({"notes": [*task.notes], "seed": seed, "level": LEVEL}
           if isinstance(task, SampledTask) else {"notes": [LEAK_READER]}),
        # So that a report can tell when they have changed.
        **({"file": str(place.absolute()), "file_code": code_of_file(place)} if is_file else {}),
        "most_excess": MOST_EXCESS,
        "source": source_of([named])[:12],
        "environment": {
            "python": platform.python_version(), "platform": platform.platform(),
            **{name: version(name) for name in ("rulekeep", "numpy", "scipy", "scikit-learn")},
        },
        "command": command_line(),
    }  # fmt: skip


def at_context(context: int, made: Certificate) -> dict[str, Any]:
    """What a record holds of one context."""
    readings = [{**reading._asdict(), "passed": reading.passed} for reading in made.readings]
    return {
        "context": context, "passed": made.passed, "examples": made.examples,
        "data_hash": made.data_hash, "readings": readings,
    }  # fmt: skip


def article_at_context(context: int) -> dict[str, Any]:
    """The same of the article's leak, by exact enumeration of its test split."""
    from rulekeep.article.leak import leak_scores

    scores, sample = leak_scores(context), Article().examples("test", context)
    chance = float(sample.chance[sample.first_mention].mean())
    return {
        "context": context, "passed": scores["retention"] - chance <= MOST_EXCESS,
        "chance": chance, "data_hash": hashlib.sha256(sample.tokens.tobytes()).hexdigest(),
        **scores,
    }  # fmt: skip


def ended(record: Mapping[str, Any], contexts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The record with what was found at each context."""
    return {**record, "contexts": contexts, "passed": all(one["passed"] for one in contexts)}


def file_name(record: Mapping[str, Any]) -> str:
    """A readable name that differs for different questions."""
    asked = [
        record["named"], record["options"], record.get("seed"),
        [(one["context"], one.get("examples")) for one in record["contexts"]],
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    kind = [record["options"].get(option) for option in ("layout", "placement")]
    # A task of a user's own may be called anything, and so may its options.
    name = "-".join([record["task"], *(str(part) for part in kind if part)])
    return f"{re.sub(r'[^a-zA-Z0-9_.-]', '_', name)[:100]}-{key}.json"
