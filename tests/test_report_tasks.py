"""The report's word on its tasks: certificates beside the runs."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from reading import make
from report_records import Values, read_runs, record

from rulekeep import cli
from rulekeep.records.identity import code_of_file
from rulekeep.records.store import packed_values
from rulekeep.reporting.certified import certificates
from rulekeep.tasks import Recite

APP = cli.app
RESULTS = Path(__file__).parent.parent / "results" / "certificates"
DEFAULTS = make(Recite).options.model_dump()


def rows(records: list[Values], proofs: list[Any], folder: str = "runs") -> list[list[str]]:
    table, _ = certificates(read_runs(records)[0], proofs, folder)
    return [[cell.text for cell in row] for row in table.rows]


def proof(passed: bool = True, context: int = 64, examples: int = 8000, **options: Any) -> Values:
    """A certificate with one local reader and one of the whole context."""
    bound = 0.01 if passed else 0.3
    local = {"reader": "last 1, bag", "local": True, "retention": 0.04, "chance": 0.03,
             "excess": bound / 2, "bound": bound, "passed": passed}  # fmt: skip
    whole = {**local, "reader": "whole", "local": False, "bound": 0.9, "passed": None}
    return {
        "kind": "certificate", "named": "recite", "options": {**DEFAULTS, **options}, "seed": 3,
        "source": "abc", "contexts": [
            {"context": context, "passed": passed, "examples": examples, "data_hash": "f" * 64,
             "readings": [whole, local]},
        ],
    }  # fmt: skip


def test_every_tested_context_is_certified_or_says_by_which_command_it_would_be() -> None:
    records = [record(task_options={"rules": 8, "placement": "marked"}), record(seed=2)]
    early, _, marked, other = rows(records, [proof()], "my runs")
    assert early == ["recite, placement early", "64", "passes", "last 1, bag", "0.0050", "0.0100",
                     "8,000", "3", "f" * 12, "abc"]  # fmt: skip
    command = (
        "rulekeep certify recite --context 64,256 --placement marked --rules 8 --out 'my runs'"
    )
    for row in (marked, other):
        assert row[0] == "recite, placement marked, rules 8"
        assert row[2] == f"no certificate: {command}"
    _, bound, _ = APP.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    assert bound.kwargs | {} == {
        "context": (64, 256), "out": "my runs", "placement": "marked", "rules": "8",
    }  # fmt: skip


def test_a_certificate_of_a_file_that_has_changed_since_certifies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, named = tmp_path / "mine.py", "mine.py:Mine"
    file.write_text("class Mine: ...\n")
    made = {
        **proof(),
        "named": named,
        "options": {},
        "file": str(file),
        "file_code": code_of_file(file),
    }
    runs = [record("delta", task=named, task_options={})]
    # A folder without the file tells nothing.
    for change in (lambda: None, file.unlink):
        change()
        assert rows(runs, [made])[0][2] == "passes"
    file.write_text("class Mine:\n    leaks = True\n")
    command = "rulekeep certify mine.py:Mine --context 64 --out runs"
    assert rows(runs, [made])[0][2] == f"passes, but {named} has changed since: {command}"
    table, _ = certificates(read_runs(runs)[0], [made], "")
    assert table.meaning.startswith("0 of ")
    anew = {**proof(examples=100), **{key: made[key] for key in ("named", "options", "file")}}
    anew["file_code"] = code_of_file(file)
    assert rows(runs, [made, anew])[0][2] == "passes"


def test_the_committed_certificates_are_found_and_the_articles_fails() -> None:
    proofs = packed_values(RESULTS, [])
    records = [
        record(task=task, task_options={"placement": placement}, retention={256: 0.5, 4096: 0.2})
        for task in ("recite", "apply", "override", "recall")
        for placement in ("early", "marked")
    ]
    found = rows([*records, record(task="article", retention={256: 0.5})], proofs)
    assert [row[2] for row in found if row[0] != "article"] == ["passes"] * 16
    (article,) = [row for row in found if row[0] == "article"]
    assert article[2:5] == ["FAILS", "last 6, best of all readers", "0.4444"]
