"""Moves the records of the first edition to declared versions, and packs them.

    python tools/migration.py OLD_RESULTS        # the folder `results` as the first edition left it

An id of the first edition hashed source text. Here each source digest is mapped to the versions of
now, since its cheapest run was trained again and came out alike (results/migration/README.md).
Where it did not, the versions are 0. A record keeps all it says, its former id and its source
digest; only its id, kind and versions are new.
"""

import json
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import read_record, write_bytes, write_text
from rulekeep.running.resolving import resolve_any
from rulekeep.specs import ArticleCell, RunSpec
from rulekeep.tasks import FewCombinationsWarning

RESULTS = Path(__file__).parent.parent / "results"
TABLE = RESULTS / "migration"
# Folders whose files are named after the runs that they are about.
ABOUT_RUNS = ("evictions", "quantised")
HEAD = """# From source digests to declared versions

Made by `python tools/migration.py`, out of `reruns.jsonl` (`tools/migration_reruns.py`) and
`controls.jsonl` (`tools/migration_controls.py`) beside it.

{runs} of {records} runs were trained again, the cheapest of each source digest: {said}. {controls}
of them were begun with the code of their own commit too, beside the last code of the first edition:
{same} gave the same bits. Records now: {versions}.

- *Against the record, same bits*: every look at dev and every test is equal to the last bit.
- *Within 1e-4*: another processor made the record, and rounds otherwise. The run ended at the first
  look where the two part; there the losses differ by less than 1e-4.
- *Not*: they differ by more at that look. Training makes much of little, and looks are 25 to 900
  steps apart. What counts there is the last column.
- *Against its commit*: the code that made the record and the last of the first edition, on one
  processor, up to the step that is named. That code and the code of now are held together by
  `tests/goldens`.

A digest is of version 1 where the record or its commit shows the same. The article's cells have a
digest each; one row stands for a model of a folder.
"""


def verdicts() -> dict[str, dict[str, Any]]:
    """What came of training the cheapest run of each source digest again."""
    found = {}
    for row in rows_of("reruns"):
        for digest in row.get("digests", [row["digest"]]):
            found[digest] = row
    return found


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of a file beside the table."""
    path = TABLE / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def moved(values: dict[str, Any], spec: RunSpec | ArticleCell, same: bool) -> dict[str, Any]:
    """A record under its new id."""
    made = resolve_any(spec)
    if not same:
        made = made._replace(versions=dict.fromkeys(made.versions, 0))
    head = {"id": made.id, "former_id": values["id"], "kind": spec.kind, "asked": made.asked}
    head["versions"] = dict(made.versions)
    return {**head, **{key: value for key, value in values.items() if key != "id"}}


def run_records(folder: Path, known: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The records of a folder of runs, and what explains them."""
    for path in sorted(folder.glob("*/record.json")):
        values = read_record(path)
        made = moved(values, RunSpec.parse_json(values["spec"]), is_same(known[values["source"]]))
        yield made
        if (about := path.with_name("explain.json")).exists():
            yield {**read_record(about), "run": made["id"]}


def article_records(folder: Path, known: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The cells of the published experiment, those of before there was a common form too."""
    shown = {}
    if (folder / "predictions.json").exists():
        for row in json.loads((folder / "predictions.json").read_text()):
            one = {key: row[key] for key in ("prefix", "target", "prediction")}
            shown.setdefault((row["benchmark"], row["model"], row.get("seed")), []).append(one)
    for line in (folder / PACKED).read_text().splitlines():
        values = json.loads(line)
        if "cell" in values:
            values = in_common_form(values)
        cell = ArticleCell.parse_json(
            {key: one for key, one in values["spec"].items() if key in ArticleCell.model_fields}
        )
        place = f"ctx{cell.context}", cell.model
        several = len({key[2] for key in shown}) > 1
        predictions = shown.get((*place, cell.seed if several else None), [])
        values = {**values, "spec": cell.as_recorded}
        if predictions:
            values["predictions"] = predictions
        yield moved(values, cell, is_same(known[values["source"]]))


def in_common_form(values: dict[str, Any]) -> dict[str, Any]:
    """A record of version 0.1, whose figures stood under `metrics`, as records are now."""
    cell = ArticleCell.parse_json(values["cell"])
    costs = values["costs"]
    return {
        "id": f"{cell.label}",
        "status": "done",
        "reason": None,
        "spec": cell.as_recorded,
        "source": values["source"],
        "history": values["history"],
        "evaluations": [{"split": "test", "context": cell.context, "n": 120, **values["metrics"]}],
        "costs": {
            **costs,
            "steps": cell.steps,
            "state_bytes": {str(cell.context): costs["state_bytes"]},
        },
        "environment": values["environment"],
        "notes": [],
        "attempt": 1,
    }


def about_runs(folder: Path, new_ids: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What was measured of a trained model's cache, by the run's new id."""
    for path in sorted(folder.glob("*.json")):
        values = json.loads(path.read_text())
        yield {
            "kind": folder.name,
            **values,
            "run": new_ids[values["run"]],
            "former_run": values["run"],
        }


def certificates(folder: Path) -> Iterator[dict[str, Any]]:
    """The certificates of a folder."""
    for path in sorted(folder.glob("*.json")):
        yield read_record(path)


def is_same(row: dict[str, Any]) -> bool:
    """Whether the code of now gives what a digest's code gave."""
    control = {one["digest"]: one["same_bits"] for one in rows_of("controls")}
    return row["verdict"] != "not" or control.get(row["digest"], False)


def table(counts: Counter[str]) -> str:
    """The mapping, a line a digest."""
    control = {one["digest"]: one for one in rows_of("controls")}
    rows = [row for row in rows_of("reruns") if row["task"] != "article"]
    cells = [row for row in rows_of("reruns") if row["task"] == "article"]
    orphans = [row for row in rows if row["digest"] != row["digest_now"]]
    outcomes = Counter(row["verdict"] for row in rows)
    said = ", ".join(f"{number} {verdict}" for verdict, number in outcomes.most_common())
    same = sum(one["same_bits"] for one in control.values())
    of_version = ", ".join(f"{number} of version {one}" for one, number in sorted(counts.items()))
    lines = [
        HEAD.format(
            runs=len(rows), records=f"{sum(row['records'] for row in rows):,}", said=said,
            controls=len(control), same=same, versions=of_version,
        ),
        "| source digest | records | run again | task | mixer | processor then | same until step "
        "| parted at | gap there | against the record | against its commit |",
        "|---|--:|---|---|---|---|--:|--:|--:|---|---|",
    ]  # fmt: skip
    for row in (*[one for one in rows if one not in orphans], *orphans, *cells):
        note = " (orphans: no code has it)" if row in orphans else ""
        looked = control.get(row["digest"])
        beside = "–"
        if looked:
            beside = f"{'same' if looked['same_bits'] else 'OTHER'} bits to {looked['looks'][-1]}"
        lines.append(
            f"| {row['digest'][:12]}{note} | {row['records']} | {row['run']} | {row['task']} | "
            f"{row['mixer']} | {row['processor'].replace('(R)', '')} | {row['same_until']} | "
            f"{row['parted_at'] or '–'} | {row['gap_there']:.1e} | {row['verdict']} | {beside} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    old, known = Path(sys.argv[1]), verdicts()
    warnings.simplefilter("ignore", FewCombinationsWarning)
    counts: Counter[str] = Counter()
    new_ids: dict[str, str] = {}
    folders: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted(path for path in old.iterdir() if path.is_dir()):
        if any(folder.glob("*/record.json")):
            folders[folder.name] = [*run_records(folder, known)]
        elif (folder / PACKED).exists():
            folders[folder.name] = [*article_records(folder, known)]
        elif folder.name == "certificates":
            folders[folder.name] = [*certificates(folder)]
    for values in (one for records in folders.values() for one in records):
        if "former_id" in values:
            new_ids.setdefault(values["former_id"], values["id"])
            counts[str(max(map(str, values["versions"].values())))] += 1
    for name in ABOUT_RUNS:
        folders[name] = [*about_runs(old / name, new_ids)]
    for name, records in folders.items():
        ids = Counter(one["id"] for one in records if "former_id" in one)
        for identity, number in ids.items():
            if number > 1:
                print(f"{name}: {number} records are one run now, {identity}")
        target = RESULTS / name
        for path in sorted(target.glob("*")):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix == ".json" and name in (*ABOUT_RUNS, "certificates"):
                path.unlink()
        write_bytes(target / PACKED, packed(records))
    write_text(TABLE / "README.md", table(counts))


if __name__ == "__main__":
    main()
