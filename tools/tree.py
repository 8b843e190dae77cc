"""Writes the file tree of CONTRIBUTING.md: every module with the first line of its docstring.

python tools/tree.py
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
FOLDERS = ("src/rulekeep", "studies", "examples", "tools")
_BLOCK = re.compile(r"(<!-- tree -->\n```text\n).*?(```\n<!-- end -->)", re.DOTALL)
_WIDTH = 92


def lines(folder: Path, depth: int = 0) -> Iterator[str]:
    """A line a module, those of a folder under it."""
    indent = "  " * depth
    for path in sorted(folder.iterdir(), key=lambda one: (one.is_dir(), one.name)):
        if path.is_dir() and any(path.rglob("*.py")):
            yield indent + short(f"{path.name}/ {about(path / '__init__.py')}")
            yield from lines(path, depth + 1)
        elif path.suffix == ".py" and not path.name.startswith("__"):
            yield indent + short(f"{path.name} – {about(path)}")


def short(text: str) -> str:
    """A line that fits a page."""
    return textwrap.shorten(text, _WIDTH, placeholder=" …")


def about(path: Path) -> str:
    """The first line of a module's docstring."""
    if not path.exists():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0].rstrip(":.")


def tree() -> str:
    """All folders."""
    parts = [f"{name}/\n" + "\n".join(lines(ROOT / name, 1)) for name in FOLDERS]
    return "\n".join(parts) + "\n"


def page() -> str:
    """CONTRIBUTING.md with the tree as it is now."""
    return _BLOCK.sub(lambda match: match[1] + tree() + match[2], PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
