"""What is said of compaction in tables and in the terminal: numbers by hand."""

from dataclasses import replace

import pytest

from rulekeep.analysis.summary import Interval
from rulekeep.commands import compact
from rulekeep.compaction.figures import Place, Survival, survival
from rulekeep.records.record import Kept, Round
from rulekeep.reporting import compaction

# Of two histories, what is left of each rule after two rounds: a limit and a fact in each.
LAST = {"limit": ("verbatim", "lost"), "fact": ("verbatim", "verbatim")}
RESTATED = {"limit": ("verbatim", "verbatim"), "fact": ("verbatim", "reworded")}
PLACES = {"limit": "first", "fact": "system"}


def rows(left: dict[str, tuple[str, str]], facts: int) -> tuple[list[Kept], list[Round]]:
    """Rules and rounds of two histories that are alike; a withdrawn rule is gone in both."""
    rules = [
        Kept(history, group, group, PLACES[group], "x", verdicts, ("user", "user"), ("", ""))
        for history in (0, 1)
        for group, verdicts in left.items()
    ]
    gone = ("lost", "lost"), ("", ""), ("", "")
    rules += [Kept(history, "other", "fact", "withdrawn", "x", *gone) for history in (0, 1)]
    values = {
        "before": 1000, "budget": 250, "left": 200, "own": 0, "facts": facts, "unpaired": 0,
        "changed": False, "seconds": 0.01, "failure": "",
    }  # fmt: skip
    rounds = [Round(history=history, round=at, **values) for history in (0, 1) for at in (1, 2)]
    return rules, rounds


def place(guard: str, compactor: str = "keep_last") -> Place:
    return Place(compactor, "", 0.25, guard, "agent", 1000, "none", "")


@pytest.fixture
def found() -> dict[Place, Survival]:
    return {
        place("none"): survival(*rows(LAST, 5)), place("restate"): survival(*rows(RESTATED, 10)),
    }  # fmt: skip


def test_figures_of_two_histories_stand_in_the_tables(found: dict[Place, Survival]) -> None:
    tables = {table.key: table for table in compaction.tables(found)}
    ranked = tables["compaction"]
    assert ranked.header[:5] == ("compactor", "guard", "after 2", "facts", "of budget")
    # The unit is a history, whose two rules count half each: of one guard both are left.
    shown = [[cell.text.split(" (")[0] for cell in row[1:6]] for row in ranked.rows]
    assert shown == [
        ["rules restated", "1.00", "1.00", "0.80", "1.00"], ["", "0.50", "0.50", "0.80", "1.00"],
    ]  # fmt: skip
    # What says nothing is left out, and so is what was asked for alike.
    assert not {"misled", "failed", "unpaired", "budget", "tokens"} & {*ranked.header}
    first = tables["first"]
    assert first.header == ("rule", "round 1", "round 2")
    assert [[cell.text for cell in row] for row in first.rows] == [
        ["fact", "1.00", "1.00"], ["limit", "1.00", "0.00"],
        ["stated at the start", "1.00", "0.00"], ["stated in the system prompt", "1.00", "1.00"],
    ]  # fmt: skip
    answers = compaction.answers(found)
    assert "the kind limit (1.00 → 0.00) and rules stated at the start" in answers[1].said[0]
    kept = {at: of for at, of in found.items() if at.guard == "restate"}
    assert "no kind and no place goes before another" in compaction.answers(kept)[1].said[0]
    assert "rules restated, with 0.80 of the budget and 1.00 of the" in answers[2].said[0]
    # What keeps the rules in a fifth of the budget, and two of ten facts, is no help.
    rules, rounds = rows(RESTATED, 2)
    short = survival(rules, [one._replace(left=50) for one in rounds])
    helps = compaction.answers({**found, place("restate", "nothing"): short})[2].said[0]
    assert "rules restated, with 0.80 of the budget and 1.00 of the" in helps


def test_a_gate_on_what_misleads_is_of_the_last_round(found: dict[Place, Survival]) -> None:
    shares = [Interval(share, share, share) for share in (0.0, 0.5)]
    worse = {at: replace(of, misled=shares) for at, of in found.items()}
    for case in compact._cases(worse, {}, {"misled": 0.1}, confident=False):
        assert ("misled is 0.50" in case.failure) == (case.what == "misled")
