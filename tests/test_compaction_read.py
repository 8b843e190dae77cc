"""A model that reads shortened histories: what is asked, and the figures made of it."""

from collections.abc import Sequence
from typing import Any

import pytest

from rulekeep.compaction import asking
from rulekeep.compaction.asking import Asker
from rulekeep.compaction.figures import readings
from rulekeep.compaction.history import made
from rulekeep.compaction.run import shortened
from rulekeep.language.chat import Message as Turn
from rulekeep.language.compressions import Compression
from rulekeep.language.contract import Probe
from rulekeep.language.families import is_stored, read_families
from rulekeep.language.resolving import resolve_compaction
from rulekeep.records import Record
from rulekeep.specs import CompactionSpec

SPEC = {"compactor": "keep_ends", "rounds": 2, "histories": 6, "tokens": 2000, "style": "chat"}


class Obedient:
    """Gives each reply whose option stands in what it has read, or in the request, five nats."""

    def __init__(self, text: str) -> None:
        self.text = text

    def scores(self, probes: Sequence[Probe]) -> list[float]:
        return [
            5.0 * is_stored(self._stated(f"{self.text}\n{probe.request}"), probe.reply.strip())
            for probe in probes
        ]

    def under(self, one: Compression) -> "Obedient":
        return self if one.amount == 1 else Obedient("")

    def _stated(self, text: str) -> str:
        # A list of names states nothing.
        return "\n".join(line for line in text.splitlines() if not line.startswith("Names seen"))


class Model:
    def opened(self, turns: Sequence[Turn], evictions: Sequence[str] = ()) -> Obedient:
        return Obedient("\n".join(turn.text for turn in turns))


def read(monkeypatch: pytest.MonkeyPatch, **more: Any) -> Record:
    monkeypatch.setattr(asking, "model_for", lambda *_: Model())
    resolved = resolve_compaction(CompactionSpec.parse(**SPEC, reader="model", **more))
    asker = Asker(resolved.spec, resolved.families)
    every = [shortened(resolved, number, asker) for number in range(resolved.spec.histories)]
    rules, rounds, choices = (
        [row for part in parts for row in part] for parts in zip(*every, strict=True)
    )
    return Record.read(
        {
            "id": "0", "kind": "compaction", "status": "done", "versions": {}, "asked": {},
            "spec": resolved.spec.as_recorded, "rules": [row._asdict() for row in rules],
            "rounds": [row._asdict() for row in rounds], "choices": choices,
        }
    )  # fmt: skip


def test_a_model_that_obeys_what_it_reads_is_between_floor_and_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = read(monkeypatch)
    first, last = readings(record)
    assert (first.called, last.called) == ("round 1", "round 2")
    for one in (first, last):
        assert one.bound is not None
        assert one.bound.mean == pytest.approx(1, abs=0.02)
        assert one.floor == pytest.approx(1 / 6)
        # What is lost is guessed: ties are shared among six.
        assert one.obeyed.mean == pytest.approx(one.stored + (1 - one.stored) / 6, abs=0.05)
        assert one.effective == pytest.approx(one.stored, abs=0.06)
        assert one.said is not None
        assert one.tempted is not None
    families = read_families("agents")
    asked = {row.family for row in record.choices if row.how == "tempted"}
    assert asked == {row.family for row in record.choices if families[row.family].breaks}
    # What is quoted or withdrawn stands in the text, so it says nothing of an option by itself.
    spec = CompactionSpec.parse(**SPEC, reader="model")
    for number in range(spec.histories):
        others = {
            row.family for row in record.choices if row.prompt == number and row.option is None
        }
        assert others
        assert not others & {rule.family for rule in made(families, spec, number).rules}


def test_where_no_rule_is_stated_a_model_is_at_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(monkeypatch, control="no_rules")
    for one in readings(whole):
        assert one.stored == 0
        assert one.obeyed.mean == pytest.approx(1 / 6, abs=0.01)


def test_the_whole_history_is_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPEC, "compactor", "everything")
    (one,) = readings(read(monkeypatch))
    assert (one.called, one.bound, one.effective) == ("none", None, None)
    # The fake takes a revised rule and its former version for two.
    assert one.obeyed.mean == pytest.approx(6.5 / 7, abs=0.01)


def test_what_a_compressed_cache_has_lost_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPEC, "compactor", "everything")
    whole, kept, lost = readings(read(monkeypatch, compress=("knorm@1", "h2o@0.1")))
    assert (whole.called, kept.called, lost.called) == ("none", "knorm@1", "h2o@0.1")
    assert kept.obeyed == whole.obeyed
    # Floor and bound lie apart, though it is at the bound.
    assert kept.effective == pytest.approx(1, abs=0.02)
    assert lost.obeyed.mean == pytest.approx(1 / 6, abs=0.01)
    assert lost.bound is not None
    assert lost.bound.mean == pytest.approx(1, abs=0.02)
