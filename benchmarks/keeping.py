"""How the scripts here write what they measured; itself no script."""

import json
import sys
from pathlib import Path

from rulekeep.costs import environment
from rulekeep.store import write_text


def keep(path: Path, **figures: object) -> None:
    """Writes figures as JSON, with the command that made them and where it ran."""
    said = {"command": "python " + " ".join(sys.argv), "environment": environment()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is given comes later, and may say more of the environment.
    write_text(path, json.dumps(said | figures, indent=1) + "\n")
