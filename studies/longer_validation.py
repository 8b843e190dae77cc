"""Validation of kept models at four times the trained length: for section 3 of `apart`.

    python studies/longer_validation.py RUNS results/every-rate/longer-validation.json

A row for each run by its id. What stands in the file is not read again: weights are needed once.
"""

import json
import sys
from pathlib import Path

from rulekeep.records.store import run_folders, write_text
from rulekeep.running.model_figures import LONG_CONTEXT, row_of
from rulekeep.running.trained import kept_model, resolve_done

FIGURES = ("split", "context", "n", "retention", "exact", "val_loss")


def add(runs: Path, out: Path) -> None:
    """Validate each run of a folder whose weights were kept, and write the file after each."""
    rows = json.loads(out.read_text()) if out.exists() else {}
    for folder in run_folders(runs):
        is_new = folder.id not in rows and folder.weights.exists()
        if not (is_new and (record := folder.load()) and record.has_model):
            continue
        resolved = resolve_done(folder, record)
        model = kept_model(folder, record, resolved).model
        row = row_of(model, resolved, "validation", LONG_CONTEXT, resolved.spec.validation_examples)
        rows[folder.id] = {name: row[name] for name in FIGURES}
        write_text(out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    add(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
