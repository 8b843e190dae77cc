"""How the tools here write what they measured; itself no tool."""

import json
import sys
from pathlib import Path

from rulekeep.records.store import write_text
from rulekeep.running.building import environment


def keep(path: Path, **figures: object) -> None:
    """Writes figures as JSON, with the command that made them and where it ran."""
    said = {"command": "python " + " ".join(sys.argv), "environment": environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is given comes later, and may say more of the environment.
    write_text(path, json.dumps(said | figures, indent=1) + "\n")
