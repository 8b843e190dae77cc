"""Trains the cheapest run of each source digest again, and says how far it gives its record.

    git checkout ae423a6                         # the last commit of the first edition
    python migration_reruns.py --out reruns.jsonl [--part 0 --of 2]
    python migration_reruns.py --articles --out reruns.jsonl

A record that this kind of processor made is trained to its end. Another processor rounds
otherwise, and training makes much of little: such a run ends at the first look where the two part,
and how far apart the losses are there is what is compared. Of the published experiment it is the
cheapest cell of each folder and model. It needs the code of the first edition, whose runs it makes.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rulekeep.article.cell import run_cell
from rulekeep.records.store import RunFolder, read_record
from rulekeep.running import costs
from rulekeep.running import run as running
from rulekeep.running.resolving import described, resolve
from rulekeep.specs import ArticleCell, RunSpec

RESULTS = Path("results")
TIMES = ("train_seconds", "elapsed_seconds")


class PartedError(Exception):
    """The run differs from its record: nothing more can be compared."""


def cheapest() -> dict[str, tuple[Path, dict[str, Any], int]]:
    """By digest: of this processor's runs the cheapest, else of all; and how many there are."""
    here = costs.environment()["cpu"]
    found: dict[str, list[tuple[bool, float, Path, dict[str, Any]]]] = {}
    for path in sorted(RESULTS.glob("*/*/record.json")):
        record = read_record(path)
        key = (record["environment"]["cpu"] != here, record["costs"]["train_seconds"], path, record)
        found.setdefault(record["source"], []).append(key)
    return {
        source: (*min(rows, key=lambda row: row[:2])[2:], len(rows))
        for source, rows in found.items()
    }


def again(path: Path, record: dict[str, Any], count: int) -> dict[str, Any]:
    spec = RunSpec.parse_json(record["spec"])
    same_processor = record["environment"]["cpu"] == costs.environment()["cpu"]
    looks = {row["step"]: row for row in record["history"]}
    compared, parted, gap = 0, None, 0.0
    begun = time.monotonic()

    def log(step: int, row: Any) -> None:
        nonlocal compared, parted, gap
        if parted is not None:
            return
        recorded = {name: value for name, value in looks[step].items() if value is not None}
        if relative(recorded, dict(row)):
            # Scores go in steps of one answer: how far apart two trainings are, losses say.
            parted = step
            gap = max(relative(recorded[name], row[name]) for name in ("train_loss", "val_loss"))
            if not same_processor:
                raise PartedError
        else:
            compared = step

    made = None
    with tempfile.TemporaryDirectory() as folder, suppress(PartedError):
        made = running.run(spec, RunFolder(Path(folder)), lambda _: None, log)
    tests = None
    if made is not None:
        tests = max(
            (
                relative(old, new)
                for old, new in zip(record["evaluations"], made["evaluations"], strict=True)
            ),
            default=0.0,
        )
    same = parted is None and tests == 0
    verdict = "same bits" if same else "within 1e-4" if gap <= 1e-4 else "not"
    return {
        "digest": record["source"],
        "digest_now": resolve(spec).source,
        "records": count,
        "run": record["id"],
        "folder": path.parent.parent.name,
        "task": spec.task,
        "mixer": spec.mixer,
        **machines(record),
        "steps": record["history"][-1]["step"],
        "same_until": compared,
        "parted_at": parted,
        "gap_there": gap,
        "gap_of_evaluations": tests,
        "verdict": verdict,
        "seconds": round(time.monotonic() - begun, 1),
    }


def articles() -> Iterator[dict[str, Any]]:
    """The same of the published experiment, whose cells have a digest each."""
    groups: dict[tuple[str, str], list[tuple[int, int, ArticleCell, dict[str, Any]]]] = {}
    for path in sorted(RESULTS.glob("article*/records.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            # Records of version 0.1 have another form.
            said = record.get("spec") or record["cell"]
            known = {key: one for key, one in said.items() if key in ArticleCell.model_fields}
            cell = ArticleCell.parse_json(known)
            row = (cell.context, cell.seed, cell, record)
            groups.setdefault((path.parent.name, cell.model), []).append(row)
    for (folder, model), rows in groups.items():
        _, _, cell, record = min(rows, key=lambda row: row[:2])
        begun = time.monotonic()
        made = run_cell(cell, RunFolder(Path()), lambda _: None, lambda *_: None)
        compared, parted, gap = 0, None, 0.0
        for old, new in zip(record["history"], made["history"], strict=True):
            if relative(old, new):
                parted = old["step"]
                gap = max(relative(old[name], new[name]) for name in ("train_loss", "val_loss"))
                break
            compared = old["step"]
        yield {
            "digest": record["source"],
            "digests": sorted({row[3]["source"] for row in rows}),
            "digest_now": described(cell)[1],
            "records": len(rows),
            "run": record.get("id") or cell.label,
            "folder": folder,
            "task": "article",
            "mixer": model,
            **machines(record),
            "steps": cell.steps,
            "same_until": compared,
            "parted_at": parted,
            "gap_there": gap,
            "gap_of_evaluations": None,
            "verdict": "same bits" if parted is None else "within 1e-4" if gap <= 1e-4 else "not",
            "seconds": round(time.monotonic() - begun, 1),
        }


def machines(record: dict[str, Any]) -> dict[str, Any]:
    """What the record was made on, and what it is compared on."""
    then, now = record["environment"], costs.environment()
    return {
        "processor": then["cpu"],
        "processor_now": now["cpu"],
        "torch": then["torch"],
        "torch_now": now["torch"],
        "commit_now": now["commit"],
    }


def relative(old: Any, new: Any) -> float:
    """The largest relative difference between figures of two rows; infinite where names differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        if set(old) - set(TIMES) != set(new) - set(TIMES):
            return math.inf
        return max((relative(old[k], new[k]) for k in old if k not in TIMES), default=0.0)
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return math.inf
        return max((relative(a, b) for a, b in zip(old, new, strict=True)), default=0.0)
    if isinstance(old, float) and isinstance(new, float):
        if old == new:
            return 0.0
        return abs(old - new) / max(abs(old), abs(new))
    return 0.0 if old == new else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    parser.add_argument("--articles", action="store_true")
    asked = parser.parse_args()
    if asked.articles:
        with asked.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in articles())
        return
    done = set()
    if asked.out.exists():
        done = {json.loads(line)["digest"] for line in asked.out.read_text().splitlines()}
    todo = sorted(cheapest().items(), key=lambda pair: pair[1][1]["costs"]["train_seconds"])
    for number, (source, (path, record, count)) in enumerate(todo):
        if number % asked.of == asked.part and source not in done:
            row = again(path, record, count)
            with asked.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
