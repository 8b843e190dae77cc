"""Written replies: what follows a rule and what does not, by the check of each family."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rulekeep.language.families import Family, digest_of, digest_of_checks, read_families

SHIPPED = read_families("")
TABLE = tomllib.loads(Path(__file__).with_name("replies.toml").read_text(encoding="utf-8"))


class Written(NamedTuple):
    text: str
    option: int
    follows: bool


def written(family: Family, table: dict[str, list[str]]) -> Iterator[Written]:
    """Every reply of the table, with an option that is the rule and whether it is followed."""
    forms = table["right"] if isinstance(table["right"], dict) else {}
    for at, option in enumerate(family.options):
        rival = family.options[(at + 1) % len(family.options)]
        right, wrong = table["right"], table["wrong"]
        if forms:
            right = forms[option]
            wrong = wrong + [text for name in forms if name != option for text in forms[name]]
        for texts, follows in ((right, True), (wrong, False)):
            for text in texts:
                said = text if forms else text.replace("{rival}", rival).replace("{}", option)
                yield Written(said, at, follows)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_check_tells_right_replies_from_wrong_ones(name: str) -> None:
    family, table = SHIPPED[name], TABLE[name]
    forms = table["right"].values() if isinstance(table["right"], dict) else [table["right"]]
    assert sum(map(len, forms)) >= 10
    assert len(table["wrong"]) >= 10
    for one in written(family, table):
        alone = tuple(at == one.option for at in range(len(family.options)))
        assert (family.shown(one.text) == alone) == one.follows, one


FAMILY = """
[drink]
kind = "cued"
group = "content"
rule = "Recommend {}."
options = ["tea", "milk"]
request = "What shall I drink?"
prefix = "Drink"
"""


EMPHASISED = """
check = '_{}_'
replies = [" _tea_", " _milk_"]
"""


def read(folder: Path, lines: str = "") -> Family:
    path = folder / "rules.toml"
    path.write_text(FAMILY + lines)
    return read_families(str(path))["drink"]


def test_an_option_is_a_word_unless_a_check_says_otherwise(tmp_path: Path) -> None:
    assert read(tmp_path).shown("Tea, not steam.") == (True, False)
    assert read(tmp_path, r"check = '{}\Z'").shown("Milk or tea") == (True, False)
    assert read(tmp_path, EMPHASISED).shown("_Tea_, not milk") == (True, False)
    each = read(tmp_path, "check = ['[Tt]ea|cha', 'milk']")
    assert each.shown("Some cha.") == (True, False)
    assert each.named("Some cha.") == (False, False)


def test_a_list_of_words_is_matched_by_two_of_them_outside_code(tmp_path: Path) -> None:
    family = read(tmp_path, "check = [['drink', 'Tea', 'cup'], ['drink', 'milk', 'cow']]")
    assert family.shown("A cup of _tea_!") == (True, False)
    assert family.shown("Tea, tea, TEA!") == family.shown("`cup` of tea") == (False, False)
    assert family.shown("Tea?\n```\ncup") == (False, False)


def test_a_check_counts_for_written_replies_alone(tmp_path: Path) -> None:
    plain, checked = {"drink": read(tmp_path)}, {"drink": read(tmp_path, "check = '{}'")}
    assert digest_of(plain) == digest_of(checked)
    assert digest_of_checks(plain) != digest_of_checks(checked)
