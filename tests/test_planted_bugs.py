"""Every planted bug of tools/mutations.py can be planted, and its tests are there.

It plants none of them: `python tools/mutations.py` does, and takes minutes.
"""

import ast
import importlib
from collections import Counter
from functools import cache
from typing import Any

import pytest
from conftest import KIND_OF, KINDS
from scripts import ROOT, script

MUTATIONS = script("mutations").MUTATIONS


def named(test: str) -> Any:
    """The function that a test names; a module where it names all tests of a file."""
    path, _, function = test.partition("::")
    assert (ROOT / path).is_file(), f"{path}: there is no such file"
    module = importlib.import_module(path.removeprefix("tests/").removesuffix(".py"))
    return getattr(module, function.partition("[")[0]) if function else module


def is_core(function: Any) -> bool:
    """Whether `pytest -m core` runs it."""
    kinds = {mark.name for mark in getattr(function, "pytestmark", ())} & KINDS.keys()
    name = getattr(function, "__module__", function.__name__)
    return (kinds or {KIND_OF.get(name, "core")}) == {"core"}


def cases(function: Any) -> list[str]:
    """The ids of a test with parameters, as far as they are texts."""
    (mark,) = [one for one in function.pytestmark if one.name == "parametrize"]
    return [str(one) for one in mark.kwargs.get("ids") or mark.args[1]]


@cache
def program(text: str) -> str:
    """What Python makes of a file: most have several bugs."""
    return ast.dump(ast.parse(text))


@pytest.mark.parametrize("bug", MUTATIONS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_one_edit_and_its_tests_are_there(bug: Any) -> None:
    text = (ROOT / "src" / "rulekeep" / bug.file).read_text()
    assert text.count(bug.before) == 1, f"{bug.file} has its text {text.count(bug.before)} times"
    changed = text.replace(bug.before, bug.after)
    # What is no Python, or the same program, tells nothing of the tests.
    assert ast.dump(ast.parse(changed)) != program(text)
    assert bug.tests
    for test in bug.tests:
        function = named(test)
        assert is_core(function), f"{test}: not of the core"
        _, is_case, case = test.partition("[")
        assert not is_case or case.removesuffix("]") in cases(function), f"{test}: no such case"


def test_no_two_planted_bugs_have_one_name() -> None:
    assert [
        name for name, count in Counter(bug.name for bug in MUTATIONS).items() if count > 1
    ] == []
