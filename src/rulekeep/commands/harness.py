"""`rulekeep harness`: what the harnesses that others wrote read of rulekeep."""

import difflib
from importlib.resources import files
from pathlib import Path

from rulekeep.console import tell
from rulekeep.harness import needs
from rulekeep.printable import pasted
from rulekeep.records.folders import make_folder
from rulekeep.records.store import write_text
from rulekeep.specs import UsageError

_PATCH = "rulekeep.patch"
# What a line of kvpress's registry begins with, and what is put before it.
_REGISTERED = {
    "from benchmarks.zero_scrolls.": (
        "from benchmarks.rulekeep.calculate_metrics import calculate_metrics as rulekeep_scorer"
    ),
    '    "zero_scrolls": "': '    "rulekeep": "benchmarks/rulekeep/data",',
    '    "zero_scrolls": zero': '    "rulekeep": rulekeep_scorer,',
}


def lm_eval() -> int:
    """Print the folder of tasks for lm-evaluation-harness: lm_eval run --include_path FOLDER."""
    needs("lm-eval", "0.4.13", "[hf]")
    tell(str(files("rulekeep").joinpath("harness", "lm_eval")))
    return 0


def kvpress(folder: str, /) -> int:
    """Write the benchmark `rulekeep` into a checkout of kvpress, and its registry lines as a patch.

    Parameters
    ----------
    folder
        A checkout of github.com/NVIDIA/kvpress.
    """
    registry = Path(folder, "evaluation", "evaluate_registry.py")
    try:
        before = registry.read_text("utf-8").splitlines(keepends=True)
    except OSError as error:
        raise UsageError(
            f"{registry}: {error.strerror}; name a checkout of github.com/NVIDIA/kvpress"
        ) from None
    after = list[str]()
    for line in before:
        after += [f"{own}\n" for begins, own in _REGISTERED.items() if line.startswith(begins)]
        after.append(line)
    if "".join(after).count("rulekeep_scorer") != 2:
        raise UsageError(f"{registry}: names rulekeep already, or is no registry of kvpress 0.5; "
                         "name a clean checkout of it")  # fmt: skip
    target = Path(folder, "evaluation", "benchmarks", "rulekeep")
    make_folder(target)
    for shipped in files("rulekeep").joinpath("harness", "kvpress").iterdir():
        if shipped.is_file():
            write_text(target / shipped.name, shipped.read_text("utf-8"))
    place = "evaluation/evaluate_registry.py"
    patch = difflib.unified_diff(before, after, f"a/{place}", f"b/{place}")
    write_text(Path(folder, _PATCH), "".join(patch))
    tell(f"benchmark: {target}\nnow: git -C {pasted(folder)} apply {_PATCH}")
    return 0
