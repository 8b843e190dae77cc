"""`rulekeep check`: rows and exit codes for names, files, modules and adapters; what it refuses."""

import re
from pathlib import Path

import pytest

FADING = Path(__file__).parent.parent / "examples" / "outside_mixer.py"
BROKEN = """
from torch import nn
from rulekeep.mixers import Stateless
class Peeks(Stateless):
    def __init__(self, width):
        super().__init__(nn.Sequential(nn.Linear(width, width), Back()))
class Back(nn.Module):
    def forward(self, x):
        return x.flip(1).cumsum(1).flip(1)
"""


@pytest.fixture
def check(run, tmp_path, monkeypatch):
    """The command in a folder that holds `mine.py`: exit code, output, errors."""
    (tmp_path / "mine.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        code, output, errors = run("check", *arguments)
        return code, output.decode(), errors

    return command


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["slots"], "constant: 256 bytes at 64 to 16,384 tokens"),
        ([f"{FADING}:Fading", "--mixer-options.half-life", "3"], "left after 3 random tokens"),
    ],
)
def test_a_mixer_that_holds_prints_its_rows_and_exits_with_0(check, arguments, fact) -> None:
    code, output, errors = check(*arguments, "--width", "8")
    lines = output.splitlines()
    assert (code, errors) == (0, "")
    skipped = sum(line.startswith("skip") for line in lines)
    assert lines[-1] == f"{arguments[0]}: all hold{f', {skipped} skipped' if skipped else ''}"
    assert {line[:4] for line in lines[:-2]} <= {"pass", "skip"}
    assert len(lines) == 19 + 2
    assert fact in output


@pytest.mark.parametrize("place", ["mine.py", "mine"])
def test_a_broken_one_exits_with_1_and_says_where(check, place: str) -> None:
    code, output, errors = check(f"{place}:Peeks", "--width", "8")
    assert (code, errors) == (1, "")
    assert "\nFAIL  causal " in output
    # Its last output sees nothing but itself.
    assert "\nFAIL  gradient reaches token 0 " in output
    assert output.count("\nskip") == 6
    assert output.splitlines()[-1] == f"{place}:Peeks: 2 of 13 properties fail, 6 skipped"


# What it refuses stands in test_bad_inputs.py.
def test_the_layer_of_the_readme_holds_as_it_stands_there(check, monkeypatch, tmp_path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (layer,) = re.findall(r"```python\n(import torch\n.*?)```", readme, re.DOTALL)
    assert "rulekeep check mine.py:Fading" in readme
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(layer)
    code, output, errors = check("mine.py:Fading", "--width", "8")
    assert (code, errors) == (0, ""), output
