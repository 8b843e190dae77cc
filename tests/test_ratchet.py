"""The house keeps its ceilings, and a ceiling only falls."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from scripts import script

ratchet = script("ratchet")
FIGURES = {"src": 100, "tests": 90, "studies": 80, "batch": 20, "row": 10}


@pytest.fixture
def ceilings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pyproject.toml with ceilings that the figures just reach."""
    pyproject = tmp_path / "pyproject.toml"
    rows = [f"{name} = {figure}" for name, figure in FIGURES.items()]
    pyproject.write_text("\n".join(["[tool.rulekeep.ratchet]", *rows, ""]))
    monkeypatch.setattr(ratchet, "PYPROJECT", pyproject)
    monkeypatch.setattr(ratchet, "raised", list)
    monkeypatch.setattr("sys.argv", ["ratchet.py"])
    monkeypatch.delenv("CI", raising=False)
    return pyproject


def test_a_figure_above_its_ceiling_fails(
    ceilings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ratchet, "figures", lambda: {**FIGURES, "batch": 21})
    assert ratchet.main() == 1
    assert "first batch: 21, more than 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "fails"),
    [
        ("Ceiling of src raised to 31,500: compaction.", False),
        ("Ceiling of src raised to 31,500: rivals.", True),
        ("Ceiling of src raised to 31,500: comfort.", True),
        ("", True),
    ],
)
def test_a_capability_raises_a_ceiling_by_its_budget_at_most(
    line: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"PYPROJECT": "[tool.rulekeep.ratchet]\nsrc = 31500\n", "CHANGELOG": line}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(ratchet, name, tmp_path / name)
    history = SimpleNamespace(stdout="+src = 30000\n")
    monkeypatch.setattr(ratchet.subprocess, "run", lambda *_, **__: history)
    assert bool(ratchet.raised()) == fails


@pytest.mark.docs
@pytest.mark.slow
def test_the_house_keeps_its_ceilings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ratchet.py"])
    monkeypatch.setenv("CI", "1")
    assert ratchet.main() == 0, capsys.readouterr().out
