"""Validation of kept models at four times the trained length: for section 3 of `apart`.

    python studies/longer_validation.py RUNS results/every-rate/longer-validation.json

A row for each run by its id, as an evaluation of a record. What stands in the file is not read
again, so that weights are needed once.
"""

import json
import sys
from pathlib import Path

from rulekeep.records.store import run_folders, write_text
from rulekeep.running.model_figures import LONG_CONTEXT, row_of
from rulekeep.running.trained import kept_model, resolve_done


def add(runs: Path, out: Path) -> None:
    """Validate each run of a folder whose weights were kept, and write the file after each."""
    rows = json.loads(out.read_text()) if out.exists() else {}
    for folder in run_folders(runs):
        if folder.id in rows or not folder.weights.exists():
            continue
        record = folder.load()
        if record and record.has_model:
            resolved = resolve_done(folder, record)
            model = kept_model(folder, record, resolved).model
            examples = resolved.spec.validation_examples
            rows[folder.id] = row_of(model, resolved, "validation", LONG_CONTEXT, examples)
            write_text(out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    add(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
