"""Conversations of a user's own: read from a file, cut to a distance, told apart in a report."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from report_records import of_language
from tiny_chat import spec, words

from rulekeep.language.chat import Message, converse
from rulekeep.language.families import read_families
from rulekeep.language.recorded import Recorded, read_chat
from rulekeep.language.resolving import resolve_language
from rulekeep.records import Record
from rulekeep.records.record import Choice
from rulekeep.reporting import language as shown
from rulekeep.reporting.language_charts import charts
from rulekeep.specs import UsageError

SHIPPED = read_families("")
ROLES = ("user", "assistant")
LONG = [(role, f"{role} {at} " + "word " * 9) for at in range(8) for role in ROLES]
PARTS = [{"type": "text", "text": "see this"}, {"type": "image_url"}]
MIXED = [
    ("system", "Be kind."), ("assistant", "welcome"), ("user", PARTS), ("user", "and this"),
    ("tool", "42"), ("assistant", None), ("assistant", "I see Paris"), ("user", "bye"),
]  # fmt: skip


def listed(turns: Any, role: str = "role", content: str = "content") -> list[dict[str, Any]]:
    return [{role: one, content: said} for one, said in turns]


def read(folder: Path, *lines: Any, name: str = "chat.jsonl") -> Recorded:
    place = folder / name
    place.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines))
    return read_chat(str(place))


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return read(tmp_path, {"messages": listed(LONG)}, listed(MIXED))


def test_turns_of_users_and_assistants_are_read(recorded: Recorded) -> None:
    long, mixed = recorded.conversations
    assert len(long) == 8
    assert mixed == (
        (Message("user", "see this\n\nand this"), Message("assistant", "I see Paris")),
    )
    assert recorded.named(SHIPPED) == {"home": ["Paris"]}


def test_forms_that_others_write_are_read(recorded: Recorded, tmp_path: Path) -> None:
    named = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}
    of_share = [(named[role], content) for role, content in MIXED]
    forms = [
        [json.dumps([{"messages": listed(LONG)}, listed(MIXED)], indent=1)],
        [{"id": 3, "conversations": listed(LONG)},
         {"conversations": listed(of_share, "from", "value")}],
        [listed(LONG), "", {"conversation": listed(MIXED)}],
        ["\ufeff" + json.dumps(listed(LONG)), listed(MIXED)],
    ]  # fmt: skip
    for form in forms:
        assert read(tmp_path, *form).conversations == recorded.conversations
    whole = read(tmp_path, json.dumps({"messages": listed(LONG)}, indent=1))
    assert whole.conversations == recorded.conversations[:1]


def test_turns_fill_the_distance_and_the_last_one_is_cut(recorded: Recorded) -> None:
    every = {turn for turns in recorded.conversations for turn in turns}
    one = spec(distance=60)
    for number in range(20):
        found = converse(SHIPPED, one, "test", number, words, recorded.turns)
        assert found == converse(SHIPPED, one, "test", number, words, recorded.turns)
        system, *said = found.messages
        assert 55 <= words(said) <= 60
        *whole, last = zip(said[::2], said[1::2], strict=True)
        assert {*whole} < every
        assert any(
            all(one.text.startswith(cut.text) for one, cut in zip(turn, last, strict=True))
            for turn in every
        )
        # The rules are those of the same prompt with small talk.
        assert system == converse(SHIPPED, one, "test", number, words).messages[0]
    with pytest.raises(UsageError, match="has 183 tokens, and distance 300 needs more"):
        converse(SHIPPED, spec(distance=300), "test", 0, words, recorded.turns)
    whole = converse(SHIPPED, spec(distance=183), "test", 0, words, recorded.turns)
    assert len(whole.messages) == 1 + 2 * len(every)


def test_a_prompt_begins_at_any_turn_alike(tmp_path: Path) -> None:
    short = [listed([("user", f"short {at}"), ("assistant", "yes")]) for at in range(2)]
    made = read(tmp_path, listed(LONG), *short)
    starts = Counter(
        converse(SHIPPED, spec(distance=9), "test", number, words, made.turns).messages[1].text[:8]
        for number in range(1000)
    )
    assert len(starts) == 10
    assert all(60 < count < 140 for count in starts.values())
    # And goes on with the others in any order: of four, 24.
    four = read(tmp_path, *(listed([("user", f"{at}"), ("assistant", "yes")]) for at in range(4)))
    orders = {
        tuple(one.text for one in converse(SHIPPED, spec(distance=8), "test", n, words, four.turns)
              .messages[1::2])
        for n in range(200)
    }  # fmt: skip
    assert len(orders) == 24


def test_a_file_counts_by_its_turns(recorded: Recorded, tmp_path: Path, chat_folder: Path) -> None:
    one = spec(model=str(chat_folder), chat=recorded.path)
    known = resolve_language(one)
    assert known.recorded == recorded
    assert known.id != resolve_language(spec(model=str(chat_folder))).id
    (tmp_path / "moved").write_bytes(b"\n" + Path(recorded.path).read_bytes())
    moved = spec(model=str(chat_folder), chat=str(tmp_path / "moved"))
    assert resolve_language(moved).id == known.id


def cell(name: str, digest: str, place: str, *compress: str, distance: int = 9) -> Record:
    rows = [
        Choice(one, split, prompt, "f", 0, prompt % 3, [float(prompt % 3 == at) for at in range(3)])
        for one in compress
        for split in ("validation", "test")
        for prompt in range(8)
    ]
    versions = {"chat": digest} if digest else {}
    values = of_language(
        rows, versions=versions, families=["f"], compress=[*compress], chat=place, distance=distance
    )
    return Record.read(values | {"id": name * 16})


def test_a_report_tells_files_apart_by_what_is_in_them() -> None:
    moved = cell("1", "aa11", "a/chat.jsonl", "none"), cell("2", "aa11", "new.jsonl", "knorm@0.5")
    ((place, (_, kept)),) = shown.cells(moved).items()
    assert ({*kept}, place.chat) == ({"none", "knorm@0.5"}, "chat.jsonl")
    two = moved[0], cell("3", "bb22", "b/chat.jsonl", "none")
    assert [at.chat for at in shown.cells(two)] == ["chat.jsonl (aa11)", "chat.jsonl (bb22)"]
    far = [cell(str(n), digest, "chat.jsonl", "none", distance=9 * n)
           for n, digest in ((4, "aa11"), (5, "bb22"))]  # fmt: skip
    near = cell("6", "", "", "none", distance=0)
    (chart,) = charts(shown.cells([*two, *far, near]))
    assert len(chart.panels) == 2
    assert [len(one.series[0].points) for one in chart.panels] == [3, 3]
