"""A system prompt of a user's own: its rules are found and drawn, and all else stays as it is."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny_chat
from conftest import Command

from rulekeep.language import figures
from rulekeep.language.chat import Conversation, converse
from rulekeep.language.families import read_families
from rulekeep.language.resolving import resolve_language
from rulekeep.language.system import read_system
from rulekeep.records.store import read_runs
from rulekeep.reporting import language as shown
from rulekeep.specs import LanguageSpec, UsageError

SHIPPED = read_families("")
# A prompt as a user writes it, with <family> for each rule of it, and what stands there.
TEXT = (
    "# Shop \u00e9\r\n\r\nYou sell  tools in Paris.\t\r\n"
    "- <name>  \r\n  * <new_region>\n- Never lie.\n12. <sport>\n"
    "{ {{nothing here}} } Note: <closing_words> Then stop.\n- <dish> Really.\n - <mood>"
)
WRITTEN = {
    "name": "Your name is Nora.",
    "new_region": "Deploy everything to the region Oregon.  From now on\n    deploy to the region "
    "Mumbai instead",
    "sport": "WHEN asked about exercise, suggest running",
    "closing_words": "{{closing_words}}",
    "dish": "{{ dish }}",
    "mood": "{{mood}}",
}
# Those above, without the lines of bullets that say nothing else.
BARE = (
    "# Shop \u00e9\r\n\r\nYou sell  tools in Paris.\t\r\n- Never lie.\n"
    "{ {{nothing here}} } Note:  Then stop.\n-  Really.\n"
)


def filled(sentences: dict[str, str], text: str = TEXT) -> str:
    for name, said in sentences.items():
        text = text.replace(f"<{name}>", said)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.saved(tmp_path_factory.mktemp("chat_model"), positions=20_000)


@pytest.fixture
def path(tmp_path: Path) -> str:
    place = tmp_path / "prompt.md"
    place.write_bytes(filled(WRITTEN).encode())
    return str(place)


def spec(**values: Any) -> LanguageSpec:
    usual = {"model": "none", "families": [*WRITTEN], "rules_at_once": len(WRITTEN), "distance": 0}
    return LanguageSpec.parse(**{**usual, **values})


def conversation(path: str, number: int, **values: Any) -> Conversation:
    chosen = {name: SHIPPED[name] for name in WRITTEN}
    prompt = read_system(path, SHIPPED)
    return converse(chosen, spec(**values), "test", number, len, system=prompt)


def test_bullets_and_marks_are_rules_and_every_other_byte_stays(path: str) -> None:
    for number in range(20):
        found = conversation(path, number)
        assert [one.family for one in found.asked] == [*WRITTEN]
        said = dict(zip(WRITTEN, found.rules, strict=True))
        assert found.messages[0] == ("system", filled(said))
        for one in found.asked:
            assert SHIPPED[one.family].named(said[one.family])[one.option]


def test_every_option_of_every_rule_is_drawn(path: str) -> None:
    drawn = Counter(
        (one.family, one.option)
        for number in range(100)
        for one in conversation(path, number).asked
    )
    assert len(drawn) == sum(len(SHIPPED[name].options) for name in WRITTEN)
    assert all(10 <= count <= 45 for count in drawn.values())


def test_without_rules_their_bullets_and_marks_are_left_out(path: str) -> None:
    found = conversation(path, 0, control="no_rules")
    assert (found.messages[0].text, found.rules) == (BARE, ())
    assert found.asked == conversation(path, 0).asked


def test_a_rival_is_told_where_rules_are_swapped(path: str) -> None:
    plain, swapped = (conversation(path, 0, control=one) for one in ("none", "swapped"))
    assert plain.asked == swapped.asked
    assert all(one != other for one, other in zip(plain.rules, swapped.rules, strict=True))
    assert swapped.messages[0].text == filled(dict(zip(WRITTEN, swapped.rules, strict=True)))


def test_a_prompt_counts_by_what_is_read_of_it(path: str, folder: Path) -> None:
    given = {"model": str(folder), "system": path}
    before = resolve_language(spec(**given)).id
    for text, is_other in (
        (filled(WRITTEN).replace("Nora", "Felix"), False),
        (filled(WRITTEN).replace("Never lie", "Never cheat"), True),
        (filled({**WRITTEN, "name": WRITTEN["dish"], "dish": "{{name}}"}), True),
    ):
        Path(path).write_bytes(text.encode())
        assert (resolve_language(spec(**given)).id != before) == is_other
    with pytest.raises(UsageError, match="give these families, and rules_at_once 6"):
        resolve_language(spec(**given, rules_at_once=2))


TWO = """
[town]
kind = "asked"
group = "content"
rule = "You live in {}."
options = ["Oslo", "Rome"]
request = "Where?"
[name]
kind = "asked"
group = "content"
rule = "You live in {}."
options = ["Rome", "Bonn", "Lima"]
request = "Who?"
"""


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (None, "", "No such file or directory; name a text file"),
        (b"\xff", "", "is no UTF-8; save it as UTF-8"),
        (b"Your name is Nora.", "", "names no rule; write one rule of a family a bullet, or {{fam"),
        (b"- Your name is Noras.", "", "families are name, secret_word, "),
        (b"{{nmae}}", "", "{{nmae}} is no family asked for; did you mean name?"),
        (b"- {{name}}\n- Your name is Nora.", "", "says name 2 times; leave one"),
        (b"- {{name}}\nYour name is Nora.", "", "says name 2 times; leave one"),
        (b"{{first_word}} {{reply_language}}", "", "reply_language show in the same words"),
        (b"- You live in Rome.", "--rules two.toml", "town and name show in the same words"),
        (b"- {{town}}", "--rules two.toml", "town: has two options, and every prompt states"),
        (b"- {{name}}", "--placement middle", "placement middle: a system prompt of yours"),
        (b"- {{name}}", "--rules-at-once 2", "states name; give these families, and rules_at_once"),
        (b"- {{name}}", "--families home", "{{name}} is no family asked for; did you mean home"),
        (b"- {{name}}", "--families name,home", "states name; give these families"),
    ],
)  # fmt: skip
def test_a_prompt_that_cannot_be_measured_is_one_line_and_exit_2(
    folder: Path, tmp_path: Path, run: Command,
    text: bytes | None, options: str, said: str,
) -> None:  # fmt: skip
    if text is not None:
        (tmp_path / "prompt.md").write_bytes(text)
    (tmp_path / "two.toml").write_text(TWO)
    command = f"language --model {folder} --system prompt.md --out runs {options}".split()
    code, _, error = run(*command)
    *notes, last = error.splitlines()
    assert (code, last.startswith("rulekeep: ")) == (2, True), error
    assert said in last
    assert all(note.startswith("system prompt: ") for note in notes)
    assert not (tmp_path / "runs").exists()


def test_the_command_asks_for_the_rules_of_a_prompt(
    folder: Path, tmp_path: Path, run: Command
) -> None:
    (tmp_path / "prompt.md").write_text("Sell maps of Paris.\n- You live in London.\n- {{name}}\n")
    command = f"language --model {folder} --system prompt.md --distances 0 --mentions none"
    more = "--prompts 8 --compress none,knorm+rules@0.5,keep_last@0.5 --out runs"
    code, _, error = run(*command.split(), *more.split())
    assert code == 0, error
    notes = (
        "system prompt: measured of prompt.md: home, name",
        "system prompt: Paris of home stands beside its rules too",
    )
    assert error.startswith("\n".join(notes))
    (found,) = read_runs(tmp_path / "runs").records
    assert found.notes == notes
    assert {row.split for row in found.choices} == {"test"}
    assert {row.family for row in found.choices} == {"home", "name"} == {*found.spec.families}
    assert figures.left_out(found).rules == 0
    assert len(figures.cell(found)) == 3
    ((place, _),) = shown.cells([found]).items()
    assert (place.families, place.rules) == ("2 of prompt.md", 2)
