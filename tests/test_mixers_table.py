"""docs/mixers.md is what the code says and measures."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import script

from rulekeep.mixers import MIXERS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("mixers")


def test_the_committed_page_is_the_one_that_the_code_makes(table: ModuleType) -> None:
    made = table.page().splitlines()
    kept = (ROOT / "docs/mixers.md").read_text().splitlines()
    assert made == kept, "python tools/mixers.py > docs/mixers.md"


def test_a_mixer_whose_file_does_not_say_what_it_cannot_do_is_named(
    table: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[MIXERS["delta"].__module__]
    monkeypatch.setattr(module, "__doc__", module.__doc__.replace("It cannot", "It can"))
    with pytest.raises(AssertionError, match=r"rulekeep\.mixers\.delta: its docstring lacks"):
        table.described("delta", MIXERS["delta"])
