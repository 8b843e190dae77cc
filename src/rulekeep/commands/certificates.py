"""Certificates of `rulekeep certify`: a table per context to show, a record per run to keep."""

import hashlib
import inspect
import json
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rulekeep.checks.certificate import LEVEL, MOST_EXCESS, Certificate
from rulekeep.console import command_line, tell
from rulekeep.printable import markdown_table
from rulekeep.records.identity import code_of_file, content_digest, source_digest
from rulekeep.records.store import write_record
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
    failing = (reading for reading in made.readings if reading.passed is False)
    worst = max(failing, key=lambda reading: reading.excess)
    few = "; so few examples show nothing: give more" if made.too_few else ""
    return (
        f"FAILS: {worst.reader} is {worst.excess:.3f} above chance "
        f"(bound {worst.bound:.3f}, at most {MOST_EXCESS}){few}"
    )


def task_record(
    name: str,
    task: SampledTask,
    made: Mapping[int, Certificate],
    seed: int,
    code: Mapping[str, str],
) -> dict[str, Any]:
    """The record of a sampled task's certificates, one for each context; `code` is `of_file`'s."""
    contexts = [
        {
            "context": context,
            "passed": one.passed,
            "examples": one.examples,
            "data_hash": one.data_hash,
            "readings": [
                {**reading._asdict(), "passed": reading.passed} for reading in one.readings
            ],
        }
        for context, one in made.items()
    ]
    options = task.options.model_dump(mode="json")
    own = {"options": options, "notes": list(task.notes), "seed": seed, "level": LEVEL, **code}
    return _record(type(task), task.name, name, contexts, own)


def article_record(contexts: Sequence[int]) -> dict[str, Any]:
    """The record of the article's leak, by exact enumeration of its test split."""
    from rulekeep.article.leak import leak_scores

    made = [_leak(context, leak_scores(context)) for context in contexts]
    own = {"options": {}, "notes": [LEAK_READER]}
    return _record(Article, Article.name, Article.name, made, own)


def _leak(context: int, scores: Mapping[str, float]) -> dict[str, Any]:
    sample = Article().examples("test", context)
    chance = float(sample.chance[sample.first_mention].mean())
    return {
        "context": context,
        "passed": scores["retention"] - chance <= MOST_EXCESS,
        "chance": chance,
        "data_hash": hashlib.sha256(sample.tokens.tobytes()).hexdigest(),
        **scores,
    }


def _record(
    kind: type[Task],
    task: str,
    named: str,
    contexts: list[dict[str, Any]],
    own: Mapping[str, Any],
) -> dict[str, Any]:
    packages = ("rulekeep", "numpy", "scipy", "scikit-learn")
    return {
        "kind": "certificate",
        "task": task,
        "named": named,
        **own,
        "most_excess": MOST_EXCESS,
        "passed": all(one["passed"] for one in contexts),
        "contexts": contexts,
        "source": _source(kind),
        "environment": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            "platform": platform.platform(),
        },
        "command": command_line(),
    }


def write(folder: Path, record: Mapping[str, Any]) -> bool:
    """Keep a record in its folder; whether it passes."""
    path = folder / file_name(record)
    write_record(path, dict(record))
    tell(f"record: {path}")
    return bool(record["passed"])


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


def of_file(name: str) -> dict[str, str]:
    """The file and code of a task, so that a report can tell when they have changed."""
    place = Path(name.rpartition(":")[0])
    if place.suffix != ".py":
        return {}
    return {"file": str(place.absolute()), "file_code": code_of_file(place)}


def _source(task: type[Task]) -> str:
    """A hash of the code behind a certificate: this package and the file of the task."""
    is_own = task.__module__.partition(".")[0] == "rulekeep"
    file = None if is_own else inspect.getsourcefile(task)
    return source_digest([content_digest(Path(file))] if file else [])[:12]
