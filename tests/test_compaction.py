"""Compactors and histories: fakes that keep all, nothing or one place; by hand; bad output."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rulekeep as rk
from rulekeep.compaction import compactors, run
from rulekeep.compaction.figures import compare, share_of, survival
from rulekeep.compaction.history import HOLDING, PLACES, History, made
from rulekeep.compaction.messages import (
    Message,
    text_of,
    tokens_of,
    unpaired,
    word_count,
)
from rulekeep.language import checkpointed
from rulekeep.language.families import read_families
from rulekeep.language.resolving import resolve_compaction
from rulekeep.records.record import Kept, Round
from rulekeep.records.store import RunFolder
from rulekeep.specs import CompactionSpec, UsageError
from rulekeep.specs.compaction import GUARDS, STYLES

FAMILIES = read_families("agents")
GOLDEN = json.loads((Path(__file__).parent / "goldens" / "histories.json").read_text())
FEW: dict[str, Any] = {"histories": 3, "rounds": 2}


def history(number: int = 0, **options: Any) -> History:
    return made(FAMILIES, CompactionSpec.parse(compactor="everything", **options), number)


def said(role: str, text: str = "a b", **more: Any) -> Message:
    return {"role": role, "content": text, **more}


def call(*ids: str) -> Message:
    calls = [{"id": one, "function": {"name": "run", "arguments": "{}"}} for one in ids]
    return said("assistant", "", tool_calls=calls)


def result(key: str) -> Message:
    return said("tool", tool_call_id=key)


@pytest.mark.parametrize("style", STYLES)
def test_what_keeps_all_scores_1_and_what_keeps_nothing_0(style: str) -> None:
    for name, share in (("everything", 1.0), ("nothing", 0.0)):
        left = rk.survives(name, style=style, **FEW)
        parts = [left.kept, *left.by_group.values(), *left.by_place.values()]
        assert {of.mean for every in parts for of in every} == {share}
        assert left.facts == [share, share]
        assert {of.mean for of in left.misled} == {0.0}
        assert left.unpaired == left.failed == left.own == [0.0, 0.0]
        assert {*left.by_place} == {*HOLDING}


@pytest.mark.parametrize("place", HOLDING)
def test_a_rule_is_lost_with_what_states_it_and_no_other_is(place: str) -> None:
    texts = [
        text
        for number in range(3)
        for rule in history(number).rules
        for text in rule.texts
        if rule.place == place
    ]

    def without(messages: list[Message]) -> list[Message]:
        return [{**one, "content": _cut(one["content"], texts)} for one in messages]

    left = rk.survives(without, **FEW)
    lost = {name for name, every in left.by_place.items() if every[0].mean == 0}
    assert lost == {place}
    assert {every[0].mean for name, every in left.by_place.items() if name != place} == {1.0}
    assert left.verdicts.get("stale", [0.0])[0] == pytest.approx(1 / 7 if place == "revised" else 0)


def _cut(text: str, parts: list[str]) -> str:
    for part in parts:
        text = text.replace(part, "")
    return text


def test_rules_that_do_not_hold_mislead_where_a_user_says_them() -> None:
    texts = [
        rule.texts[0] for number in range(3) for rule in history(number).rules if not rule.holds
    ]

    def says_all(messages: list[Message]) -> str:
        whole = "\n".join(text_of(one) for one in messages)
        return "\n".join(f"- {text}" for text in texts if text in whole)

    assert rk.survives(says_all, **FEW).misled[0].mean == 1.0


@pytest.mark.parametrize(
    ("guard", "places"),
    [
        ("none", []), ("system", ["system"]), ("reread", ["file"]),
        ("ends", ["system", "file", "first"]), ("restate", HOLDING), ("rules", HOLDING),
    ],
)  # fmt: skip
def test_a_guard_keeps_its_places_where_the_compactor_keeps_nothing(
    guard: str, places: list[str]
) -> None:
    left = rk.survives("nothing", guard=guard, **FEW)
    shares = {place: every[-1].mean for place, every in left.by_place.items()}
    assert shares == {place: float(place in places) for place in HOLDING}
    assert left.unpaired[-1] == 0


@pytest.mark.parametrize("guard", ["system", "rules"])
def test_what_is_pinned_is_paid_for(guard: str) -> None:
    asked, of = list[int](), history()

    def compact(messages: list[Message], budget: int) -> list[Message]:
        asked.append(budget)
        return messages[:0]

    guarded = compactors.guarded(guard, compactors.Compactor.of(compact, "own"), of)
    pinned = guarded(messages=of.messages, budget=2000, count=word_count)
    assert asked == [2000 - tokens_of(pinned)]


@pytest.mark.parametrize("budget", range(100, 2000, 100))
def test_both_ends_never_begin_with_an_assistant(budget: int) -> None:
    made = history(1)
    compact = compactors.guarded("ends", compactors.find("nothing"), made)
    left = compact(messages=made.messages, budget=budget, count=word_count)
    said = [one["role"] for one in left if one["role"] != "system"]
    assert said[:1] in ([], ["user"])


@pytest.mark.parametrize("name", sorted(compactors.OURS))
def test_no_rule_is_found_where_none_was_stated(name: str) -> None:
    model = {"model": "copying"} if name == "summary" else {}
    for guard in GUARDS:
        left = rk.survives(name, guard=guard, control="no_rules", **model, **FEW)
        assert [of.mean for of in left.kept] == [0.0, 0.0]
        assert left.failed == left.invented == [0.0, 0.0]


def test_stand_ins_are_a_bracket_and_reached_says_what_a_model_could_keep() -> None:
    low, high = (rk.survives("summary", model=model, **FEW) for model in ("deaf", "copying"))
    assert low.kept[-1].mean < 0.3 < 0.9 < high.kept[-1].mean
    assert low.reached is not None
    assert low.reached[0] > 0.5

    def trimmed(messages: list[Message], model: Callable[[str], str]) -> str:
        return model(text_of(messages[-1]))

    left = rk.survives(trimmed, model="copying", **FEW)
    assert left.reached == [0.0, 0.0]

    def once(messages: list[Message], model: Callable[[str], str], state: dict[str, Any]) -> str:
        state["round"] = state.get("round", 0) + 1
        return model("\n".join(map(text_of, messages)) if state["round"] == 1 else "")

    # What a model was given in the first round has not reached it in the second.
    left = rk.survives(once, model="deaf", **FEW)
    assert left.reached == [1.0, 0.0]


def test_own_words_that_give_a_rule_are_invented_where_none_was_stated() -> None:
    def inventing(messages: list[Message]) -> list[Message]:
        return [*messages[-3:], said("user", "You must never touch the queue.")]

    assert rk.survives(inventing, control="no_rules", **FEW).invented == [1.0, 0.0]
    assert rk.survives(inventing, **FEW).invented is None
    assert rk.survives(inventing, **FEW).own[0] == word_count("You must never touch the queue.")


@pytest.mark.parametrize("name", GOLDEN)
def test_a_history_is_a_function_of_its_name(name: str) -> None:
    style, number, control = name.split("/")
    of = history(int(number), style=style, control=control)
    whole = json.dumps([of.messages, of.fresh, of.rules, of.facts])
    assert hashlib.sha256(whole.encode()).hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("style", STYLES)
def test_a_history_is_as_it_was_asked_for(style: str) -> None:
    for tokens in (2000, 20_000):
        of, other = history(3, style=style, tokens=tokens), history(4, style=style, tokens=tokens)
        assert tokens <= tokens_of(of.messages) < tokens + 1500
        assert of.messages != other.messages
        assert unpaired([one for block in (of.messages, *of.fresh) for one in block]) == 0
        assert [rule.place for rule in of.rules] == [*PLACES]
        assert history(3, style=style, tokens=tokens, budget=0.5).messages == of.messages
        bare = history(3, style=style, tokens=tokens, control="no_rules")
        whole = "\n".join(map(text_of, bare.messages))
        assert not any(text in whole for rule in of.rules for text in rule.texts)
        assert (bare.rules, bare.facts, bare.fresh) == (of.rules, of.facts, of.fresh)
        # Chat goes on for as much as a compaction has freed.
        assert all(0.75 * tokens <= tokens_of(block) for block in of.fresh)


def test_own_histories_keep_their_system_prompt_and_their_calls() -> None:
    turn = [said("user", "a " * 40), call("1"), result("1"), said("assistant", "b " * 40)]
    own = [said("system", "You are mine."), *turn * 60]
    spec = CompactionSpec.parse(compactor="everything", tokens=1000, rounds=2, histories=1)
    of = made(FAMILIES, spec, 0, word_count, [own])
    assert of.messages[0]["content"] == f"You are mine.\n{of.rules[0].texts[0]}"
    assert unpaired(of.messages) == 0
    assert sum(len(one.get("tool_calls", ())) for one in of.messages) > 10
    with pytest.raises(UsageError, match="give fewer --tokens or --rounds"):
        made(FAMILIES, spec, 0, word_count, [own[:50]])


@pytest.mark.parametrize(
    ("messages", "lone"),
    [
        ([call("1"), result("1")], 0),
        ([call("1", "2"), result("2"), result("1")], 0),
        ([call("1", "2"), result("1")], 1),
        ([call("1"), said("user"), result("1")], 2),
        ([result("1")], 1),
        ([call("1")], 1),
        ([call("1"), result("1"), result("1")], 1),
        ([call("1"), call("2"), result("2"), result("3")], 2),
    ],
)
def test_calls_and_results_that_are_alone(messages: list[Message], lone: int) -> None:
    assert unpaired(messages) == lone


CHAT = [said("system"), said("user"), call("1"), result("1"), said("assistant"), said("user", "c")]
# Their tokens: 2, 2, 3 (run {}), 2, 2, 1.


@pytest.mark.parametrize(
    ("name", "budget", "kept"),
    [
        ("keep_last", 0, ()), ("keep_last", 1, (5,)), ("keep_last", 4, (4, 5)),
        # The result alone would fit, but not with its call.
        ("keep_last", 7, (4, 5)), ("keep_last", 8, (2, 3, 4, 5)), ("keep_last", 12, range(6)),
        ("keep_ends", 6, (0, 4, 5)), ("keep_ends", 8, (0, 1, 4, 5)), ("keep_ends", 1, (5,)),
    ],
)  # fmt: skip
def test_what_fits_stays_and_no_call_loses_its_result(
    name: str, budget: int, kept: Sequence[int]
) -> None:
    assert tokens_of(CHAT) == 12
    left = compactors.OURS[name](CHAT, budget, word_count)
    assert left == [CHAT[at] for at in kept]


def test_tool_results_are_cleared_the_oldest_first_until_the_rest_fits() -> None:
    messages = [result("1"), said("user"), {**result("2"), "content": "a b c d e"}]
    cleared = {**messages[0], "content": "[cleared]"}
    assert compactors.clear_tools(messages, 9, word_count) == messages
    assert compactors.clear_tools(messages, 8, word_count)[0] == cleared
    assert compactors.clear_tools(messages, 8, word_count)[2]["content"] == "[cleared]"


@pytest.mark.parametrize("error", [ValueError("no key"), SystemExit(3)])
def test_a_failure_ends_its_history_alone_and_says_why(error: BaseException) -> None:
    first = text_of(history(1).messages[1])

    def failing(messages: list[Message], state: dict[str, Any]) -> list[Message]:
        state["rounds"] = state.get("rounds", 0) + 1
        if state["rounds"] == 2 and text_of(messages[1]) == first:
            raise error
        return messages

    left = rk.survives(failing, histories=2, rounds=3)
    assert [of.mean for of in left.kept] == [1.0, 0.5, 0.5]
    assert left.failed == [0.0, 0.5, 0.5]
    assert left.failure.startswith(f"{type(error).__name__}: {error}")


def test_what_a_function_asks_for_it_gets_and_what_it_changes_is_a_copy(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def compact(messages: list[Message], budget: int, count: Any, **rest: Any) -> str:
        sys.stdout.write("noise\n")
        assert not rest
        assert budget == int(0.25 * tokens_of(messages, count))
        messages.clear()
        return "a b c"

    left = rk.survives(compact, histories=2, rounds=1)
    assert (left.changed, left.failed, left.failure) == ([1.0], [0.0], "")
    assert capfd.readouterr() == ("", "noise\n" * 2)
    with pytest.raises(UsageError, match="takes history; a compactor takes messages, budget"):
        rk.survives(lambda history: history)


def test_a_command_reads_and_writes_json_or_text(tmp_path: Path) -> None:
    file = tmp_path / "compact.py"
    file.write_text(
        "import json, sys\ngiven = json.load(sys.stdin)\n"
        "json.dump({'messages': given['messages'][:1] if given['budget'] else 0}, sys.stdout)"
    )
    left = rk.survives(f"{sys.executable} {file}", histories=1, rounds=1)
    assert {place for place, of in left.by_place.items() if of[0].mean} == {"system"}
    assert not rk.survives(r"printf '\377 text'", histories=1, rounds=1).failure
    broken = rk.survives("sh -c 'echo no key >&2; exit 3'", histories=1, rounds=1)
    assert broken.failure == "exit code 3: no key"
    cut = rk.survives("""sh -c 'echo "[{\\"role\\": "'""", histories=1, rounds=1)
    assert cut.failure.startswith("is broken JSON")
    assert cut.kept[0].mean == 0


def test_a_share_has_an_exact_interval_where_each_history_has_one_rule() -> None:
    exact = share_of([(history, 1.0) for history in range(20)])
    assert (exact.mean, round(exact.low, 2), exact.high) == (1.0, 0.83, 1.0)
    half = share_of([(0, 1.0), (0, 1.0), (0, 0.0), (1, 0.0)])
    # The history counts, not its rules: two thirds and nothing.
    assert half.mean == pytest.approx(1 / 3)
    assert half.low < 1 / 3 < half.high


def kept(history: int, place: str, *verdicts: str, group: str = "limit") -> Kept:
    return Kept(history, f"of {place}", group, place, "x", verdicts)


def test_figures_of_two_histories_by_hand() -> None:
    rows = [
        kept(0, "system", "verbatim", "reworded"), kept(0, "file", "weakened", "lost"),
        kept(1, "system", "reworded", "lost"), kept(1, "file", "stale", "failed"),
        kept(0, "tool", "promoted", "harmless"), kept(1, "withdrawn", "harmless", "stale"),
    ]  # fmt: skip
    rounds = [
        Round(0, 1, 100, 20, 30, 4, 5, 0, False, 0.5), Round(0, 2, 50, 20, 10, 0, 0, 2, False, 0.5),
        Round(1, 1, 100, 20, 10, 0, 10, 1, True, 1.5),
        Round(1, 2, 50, 20, 60, 0, 0, 0, False, 0.5, "x"),
    ]  # fmt: skip
    found = survival(rows, rounds)
    assert [of.mean for of in found.kept] == [0.5, 0.25]
    assert [of.mean for of in found.by_place["system"]] == [1.0, 0.5]
    assert [of.mean for of in found.misled] == [0.5, 0.5]
    assert found.verdicts["weakened"] == [0.25, 0.0]
    assert (found.facts, found.left, found.unpaired) == ([0.75, 0.0], [1.0, 1.75], [0.5, 0.5])
    assert (found.longer, found.changed, found.failed) == ([0.0, 0.5], [0.5, 0.0], [0.0, 0.5])
    assert (found.histories, found.rules, found.failure, found.reached) == (2, 4, "x", None)


def test_who_asks_for_a_model_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(messages: list[Message]) -> list[Message]:
        return time.sleep(0.05) or messages

    def asking(messages: list[Message], model: Any) -> list[Message]:
        return slow(messages)

    monkeypatch.setattr(compactors, "LIMIT_SECONDS", 0.01)
    found = [rk.survives(slow, histories=1, rounds=1)]
    found += [rk.survives(asking, model="deaf", histories=1, rounds=1)]
    assert [of.failed for of in found] == [[1.0], [0.0]]


def test_two_compactors_are_compared_by_history() -> None:
    first = [kept(n, place, "verbatim") for n in range(8) for place in ("system", "file")]
    second = [
        kept(n, place, "lost" if n < 4 and place == "file" else "verbatim")
        for n in range(8)
        for place in ("system", "file", "tool")
    ]
    found = compare(first, second)
    assert found is not None
    assert (found.first.mean, found.second.mean, found.difference.mean) == (1.0, 0.75, -0.25)
    assert found.difference.low < -0.25 < found.difference.high <= 0
    # Four histories of eight: one sign test of four, not of rules.
    assert (found.only_first, found.only_second, found.mcnemar) == (4, 0, 0.125)
    assert found.by_family == {"of file": -0.5, "of system": 0.0}
    assert compare(first, [kept(9, "file", "lost")]) is None
    np.testing.assert_equal(found.prompts, 8)


def test_a_run_that_was_stopped_gives_the_same_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointed, "CHECKPOINT_SECONDS", 0.0)
    resolved = resolve_compaction(CompactionSpec.parse(compactor="keep_ends", **FEW))
    (tmp_path / "a").mkdir()
    folder, seen = RunFolder(tmp_path / "a"), list[int]()

    def progress(done: int) -> None:
        seen.append(done)
        if seen == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(resolved, folder, progress, lambda *_: None)
    again = run.run(resolved, folder, progress, lambda *_: None)
    (tmp_path / "b").mkdir()
    whole = run.run(resolved, RunFolder(tmp_path / "b"), lambda _: None, lambda *_: None)
    for one in (*again["rounds"], *whole["rounds"]):
        one["seconds"] = 0
    assert seen == [1, 2, 2, 3]
    for key in ("rules", "rounds"):
        assert json.dumps(again[key]) == json.dumps(whole[key])


def test_an_id_is_of_what_is_run_wherever_it_stands(tmp_path: Path) -> None:
    def identity(compactor: str) -> str:
        return resolve_compaction(CompactionSpec.parse(compactor=compactor)).id

    for place in ("a", "b"):
        (tmp_path / place / "compacted").mkdir(parents=True)
    saved = [f"saved:{tmp_path / place}" for place in ("a", "b")]
    assert identity(saved[0]) == identity(saved[1])
    (tmp_path / "a/compacted/history-0000.round-1.json").write_text("[]")
    assert identity(saved[0]) != identity(saved[1])
    file = tmp_path / "shorten.sh"
    file.write_text("cat")
    before = identity(f"sh {file}")
    file.write_text("cat -")
    assert identity(f"sh {file}") != before


def sessions(path: Path, lengths: Sequence[int]) -> str:
    """A file of sessions with so many turns of 20 tokens, each of words of its own."""
    lines = [
        [
            said("system", f"prompt{at}"),
            *(said(role, f"s{at} " * 10) for _ in range(turns) for role in ("user", "assistant")),
        ]
        for at, turns in enumerate(lengths)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_each_session_of_ones_own_is_one_history_and_goes_on_after_each_round(
    tmp_path: Path,
) -> None:
    chat = sessions(tmp_path / "chat.jsonl", (60, 5, 40, 80))
    spec = CompactionSpec.parse(
        compactor="everything", chat=chat, histories=3, rounds=2, budget=0.5, tokens=1000
    )
    resolved = resolve_compaction(spec)
    # 50 turns are 1,000 tokens: the third session is shorter, and is whole. The second has too few.
    for number, (own, turns) in enumerate(((0, 50), (2, 40), (3, 50))):
        one = made(FAMILIES, spec, number, recorded=resolved.recorded)
        assert one.messages[0]["content"].startswith(f"prompt{own}")
        words = " ".join(text_of(message) for message in one.messages).split()
        assert {at: words.count(f"s{at}") for at in range(4) if f"s{at}" in words} == {
            own: turns * 20
        }
        for at, block in enumerate(one.fresh):
            assert tokens_of(block) == turns * 10
            # What is left of the session comes before the others.
            assert f"s{own} " in block[0]["content"] or at or own == 2
    for options, message in (
        ({"histories": 4}, "3 of 4 sessions have 10 turns of a user, and each is one history"),
        ({"rounds": 20}, "is too short for 20 rounds; each needs 500 new tokens"),
    ):
        with pytest.raises(UsageError, match=message):
            resolve_compaction(CompactionSpec.parse(**{**spec.model_dump(), **options}))
