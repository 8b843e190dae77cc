"""The house keeps its ceilings, and a ceiling only falls."""

from pathlib import Path

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


def test_a_figure_that_falls_lowers_its_ceiling(
    ceilings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratchet, "figures", lambda: {**FIGURES, "src": 70})
    assert ratchet.main() == 0
    assert ratchet.ceilings(ceilings.read_text()) == {**FIGURES, "src": 70}


@pytest.mark.docs
@pytest.mark.slow
def test_the_house_keeps_its_ceilings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ratchet.py"])
    monkeypatch.setenv("CI", "1")
    assert ratchet.main() == 0, capsys.readouterr().out
