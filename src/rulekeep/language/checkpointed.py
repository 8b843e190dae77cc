"""A cell made prompt by prompt, or history by history, from its checkpoint if there is one."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from rulekeep.records.identity import Identified
from rulekeep.records.store import RunFolder, Values, text_bytes, write_bytes
from rulekeep.specs import CompactionSpec, LanguageSpec, UsageError

CHECKPOINT_SECONDS = 20.0


def checkpointed(
    resolved: Identified[LanguageSpec] | Identified[CompactionSpec],
    folder: RunFolder,
    progress: Callable[[int], None],
    start: Mapping[str, Any],
    step: Callable[[dict[str, Any], int], None],
) -> tuple[Values, dict[str, Any]]:
    """The common part of a record, and what `step` has added to `start` for each number."""
    known: dict[str, Any] = {**start, "done": 0, "seconds": 0.0}
    # What cannot be read is done anew, and so is what a former version has kept.
    with suppress(OSError, ValueError):
        kept = json.loads(folder.checkpoint.read_text(encoding="utf-8"))
        known = kept if known.keys() == kept.keys() else known

    def save() -> float:
        write_bytes(folder.checkpoint, text_bytes(json.dumps(known)))
        return time.monotonic()

    saved = time.monotonic()
    for number in range(known["done"], resolved.spec.steps):
        began = time.perf_counter()
        try:
            step(known, number)
        except UsageError:
            # What an endpoint or a compactor has done so far may have cost hours.
            save()
            raise
        known["done"] = number + 1
        known["seconds"] += time.perf_counter() - began
        progress(number + 1)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            saved = save()
    values: Values = {
        "status": "done", "reason": None, "spec": resolved.spec.as_recorded,
        "source": resolved.source, "history": [], "evaluations": [],
    }  # fmt: skip
    return values, known
