"""Files that a hostile or a clumsy user brings: plug-ins, sweeps, specs and folders."""

from pathlib import Path
from typing import Any

import tiny
from report_records import record

from rulekeep.records.store import Values, write_record
from rulekeep.running.building import resolve
from rulekeep.specs import RunSpec

_MODULE = "from torch import nn\nclass M(nn.Module):\n"
_TASK = "from rulekeep.tasks import Recite\nclass T(Recite):\n"
_SWEEP = "from rulekeep.specs import RunSpec\n"

TEXTS = {
    "a_file": "kept",
    "syntax.py": "class :\n",
    "module.py": f"{_MODULE}    def __init__(self, width): super().__init__()\n",
    "at_its_top.py": f"{_SWEEP}SPECS = [RunSpec(setps=3)]\ndef sweep(): return SPECS\n",
    "task_raises.py": f"{_TASK}    def __init__(self, options): raise ValueError('no\\nluck')\n",
    "task_exits.py": f"{_TASK}    def __init__(self, options): raise SystemExit(3)\n",
    "number.py": "sweep = 3\n",
    "unknown_key.toml": "widht = 64\n",
}


def bring(folder: Path) -> None:
    """Puts them there, and folders of runs: one whole, others with something amiss."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    (folder / "no_records" / "a").mkdir(parents=True)
    (folder / "no_records" / "a" / "plan.json").write_text("{}")
    hollow(folder / "whole", tiny.tiny())


def hollow(folder: Path, spec: RunSpec | Values, **changes: Any) -> Path:
    """The folder of a run that says it is done, without having been made."""
    path = folder / "made-up"
    path.mkdir(parents=True)
    made = {**record(), "id": path.name, "source": "0"}
    if isinstance(spec, RunSpec):
        code = resolve(spec)
        made |= {"source": code.source, "versions": {**code.versions}, "asked": code.asked}
        made["spec"] = spec.model_dump(mode="json")
    else:
        made["spec"] = spec
    made |= changes
    write_record(path / "record.json", made)
    return path
