"""The scripts of tools/ and studies/ as modules: they are files, and no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
# Where a script finds the others, as it does when it is run.
sys.path.append(str(ROOT / "tools"))


def script(name: str, folder: str = "tools") -> ModuleType:
    """A script, loaded anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
