"""The digest of the source that a run records: the code that its figures come out of."""

import importlib
import sys
from pathlib import Path

import pytest

from rulekeep.records.provenance import digest, plugin_closure

CODE = """
import math


class Mixer:
    rate = 0.5

    def forward(self, x):
        return x * self.rate
"""
SAID = """
# Why it is so.
import math  # of the library


class Mixer:
    '''What it is.

    And for what.
    '''

    rate = 0.5

    def forward(self, x):
        '''What it does.'''

        # And how.
        return x * self.rate
"""


def of(folder: Path, content: str) -> str:
    path = folder / "mine.py"
    path.write_text(content)
    return digest([path])


def test_comments_and_docstrings_do_not_count(tmp_path: Path) -> None:
    assert of(tmp_path, SAID) == of(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "0.25"),
        ("return x", "return -x"),
        ("        return", "        x = 'a # b'\n        return"),
        ("math", "cmath"),
    ],
)
def test_every_other_change_counts(tmp_path: Path, old: str, new: str) -> None:
    assert of(tmp_path, CODE.replace(old, new)) != of(tmp_path, CODE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 'a # b'", "x = 'a # c'"),
        ("x = '''a\n\nb'''", "x = '''a\nb'''"),
        ("x = '''a  \nb'''", "x = '''a\nb'''"),
        ("def f(): 'a'", "def f(): 'b'"),
        ("def f():\n    'a'; return 1", "def f():\n    'a'; return 2"),
        ("if x:\n    y = 1", "if x:\n  y = 1\nz = 2"),
    ],
)
def test_what_stands_in_a_value_or_beside_code_counts(tmp_path: Path, one: str, other: str) -> None:
    assert of(tmp_path, one) != of(tmp_path, other)


def test_a_plugin_counts_with_what_it_imports_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kept_parts.py").write_text("import kept_deeper\n")
    (tmp_path / "kept_deeper.py").write_text("x = 1\n")
    path = tmp_path / "plugin.py"
    path.write_text(
        "import json\nimport numpy\nimport kept_parts\nfrom rulekeep.kernels import chunks\n"
    )
    importlib.import_module("kept_parts")
    try:
        files = plugin_closure([path])
        assert [file.name for file in files] == ["plugin.py", "kept_parts.py", "kept_deeper.py"]
        before = digest([path])
        (tmp_path / "kept_deeper.py").write_text("x = 2\n")
        assert digest([path]) != before
    finally:
        for name in ("kept_parts", "kept_deeper"):
            sys.modules.pop(name, None)


def test_a_plugin_of_a_package_counts_with_what_it_imports_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kept_pack").mkdir()
    texts = {
        "__init__": "", "near": "x = 1\n", "nearer": "from . import near\n",
        "mine": "from .nearer import near\nfrom rulekeep.kernels import chunks\n",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / "kept_pack" / f"{name}.py").write_text(text)
    path = Path(str(importlib.import_module("kept_pack.mine").__file__))
    try:
        files = plugin_closure([path])
        assert [file.name for file in files] == ["mine.py", "nearer.py", "__init__.py", "near.py"]
    finally:
        for name in [one for one in sys.modules if one.startswith("kept_pack")]:
            del sys.modules[name]


def test_what_a_plugin_imports_later_counts_whether_it_is_loaded_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "late_pack").mkdir()
    for name in ("late_one", "late_pack/__init__", "late_pack/part"):
        (tmp_path / f"{name}.py").write_text("KEEP = 1\n")
    path = tmp_path / "plugin.py"
    path.write_text(
        "def f():\n    from late_one import KEEP\n    from late_pack.part import KEEP\n"
        "    import late_missing\n    import numpy.linalg\n"
    )
    names = ["plugin.py", "late_one.py", "part.py", "__init__.py"]
    assert [file.name for file in plugin_closure([path])] == names
    assert not {"late_one", "late_pack"} & {*sys.modules}
    importlib.import_module("late_pack.part")
    try:
        assert [file.name for file in plugin_closure([path])] == names
    finally:
        del sys.modules["late_pack"], sys.modules["late_pack.part"]


def test_what_a_plugin_imports_in_a_try_or_an_if_counts_and_for_types_alone_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ["kept_tried", "kept_else", "kept_types", "kept_box", "kept_box.part"]
    (tmp_path / "kept_box").mkdir()
    for name in names:
        path = tmp_path / name.replace(".", "/")
        (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).write_text("x = 1\n")
        importlib.import_module(name)
    path = tmp_path / "plugin.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "try:\n    import kept_tried\nexcept ImportError:\n    kept_tried = None\n"
        "if TYPE_CHECKING:\n    import kept_types\nelse:\n    import kept_else\n"
        "import kept_box.part\n"
    )
    try:
        files = plugin_closure([path])
        assert [file.name for file in files] == [
            "plugin.py", "kept_tried.py", "kept_else.py", "part.py", "__init__.py",
        ]  # fmt: skip
    finally:
        for name in names:
            del sys.modules[name]


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfx = 1\n", "# coding: latin-1\nx = 'd\u00e9j\u00e0'\n".encode("latin-1")],
    ids=["byte order mark", "coding cookie"],
)
def test_a_plugin_is_read_as_python_reads_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(content)
    assert len(digest([path])) == 64


def test_a_comment_after_an_odd_separator_does_not_count(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "plugin.py", tmp_path / "b" / "plugin.py"
    for path, comment in ((one, "first"), (other, "other, longer")):
        path.parent.mkdir()
        path.write_text(f"x = 'a\u2028b\x0c'\ny = 1  # {comment}\nz = 2\n")
    assert digest([one]) == digest([other])


def test_package_code_that_changes_under_a_running_process_is_not_what_it_says_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"x = 1\n")
    assert digest() == before
    # A plug-in is imported anew by the process that makes the run: it counts as it is now.
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    changed = digest([path])
    monkeypatch.undo()
    assert digest([path]) != changed
