"""The digest of the source that a run records, and of the files of a plug-in."""

from pathlib import Path

import pytest

from rulekeep.records.identity import content_digest, plugin_closure, source_digest


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import json, numpy, near\nfrom rulekeep.kernels import chunks", ["near", "deeper"]),
        ("from near import x", ["near", "deeper"]),
        ("from . import near", ["near", "deeper"]),
        ("from .near import x", ["near", "deeper"]),
        ("def f():\n    try:\n        import near\n    except ImportError: pass",
         ["near", "deeper"]),
        ("import box.part", ["__init__", "part"]),
        ("from box import part", ["__init__", "part"]),
        ("import missing", []),
    ],
)  # fmt: skip
def test_a_plugin_counts_with_what_it_imports_from_its_folder(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    (tmp_path / "box").mkdir()
    for name in ("box/__init__", "box/part", "deeper"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "near.py").write_text("import deeper\nx = 1\n")
    path = tmp_path / "mine.py"
    path.write_text(text)
    files = plugin_closure(path)
    assert [file.stem for file in files] == ["mine", *names]
    for file in files:
        before = content_digest(path)
        file.write_text(f"{file.read_text()}\ny = 2\n")
        assert content_digest(path) != before


def test_a_plugin_of_a_package_counts_with_what_it_imports_of_the_package(tmp_path: Path) -> None:
    for name, text in {
        "__init__": "", "near": "x = 1\n", "inside/__init__": "",
        "inside/mine": "from ..near import x\nimport pack.other\n", "other": "x = 1\n",
    }.items():  # fmt: skip
        path = tmp_path / "pack" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    files = plugin_closure(tmp_path / "pack/inside/mine.py")
    assert [file.stem for file in files] == ["mine", "near", "__init__", "other"]


def test_package_code_that_changes_under_a_running_process_is_not_what_it_says_it_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = source_digest()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"x = 1\n")
    assert source_digest() == before
