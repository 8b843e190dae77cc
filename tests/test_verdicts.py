"""What is left of a rule: texts judged by a reader, and one text made worse step by step."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from rulekeep.compaction.history import Fact, Rule
from rulekeep.compaction.verdicts import KEPT, facts_kept, given_rule, own_sentences, standing
from rulekeep.language.families import read_families

FAMILIES = read_families("agents")
# Texts by others, judged by who wrote them: notes/log.md says how often each set agreed when it was
# read for the first time.
JUDGED = {
    path.stem: tomllib.loads(path.read_text())["text"]
    for path in sorted((Path(__file__).parent / "judged").glob("*.toml"))
}
# Shares of verdicts, and of kept or not. The checks were not mended by the last two sets: these say
# how they do on texts of others.
AT_MOST_WRONG = {"typical-3": (0.05, 0.04), "typical-4": (0.07, 0.02), "typical-5": (0.13, 0.07)}
PLACES = {"holds": "first", "revised": "revised", "withdrawn": "withdrawn", "quoted": "tool"}
NAME = "commit_branch"


def rule(family: str, option: str, place: str = "first", former: str = "") -> Rule:
    """A rule in every way that its family has to say it."""
    of = FAMILIES[family]
    texts = tuple(way.replace("{}", option) for way in (of.rule, *of.wordings))
    return Rule(family, place, option, texts, former, of.rule.replace("{}", former))


def verdict(of: Rule, text: str, role: str = "user") -> str:
    return standing(of, FAMILIES[of.family], [{"role": role, "content": text}]).verdict


@pytest.mark.parametrize("name", JUDGED)
def test_verdicts_agree_with_a_reader(name: str) -> None:
    wrong, judged = Counter[str](), Counter[str]()
    for text in JUDGED[name]:
        of = rule(text["family"], text["option"], PLACES[text["place"]], text.get("former", ""))
        read, told = verdict(of, text["text"], text["role"]), text["verdict"]
        judged[told] += 1
        differs = read != told
        wrong["verdict"] += differs
        wrong["but for weakened or lost"] += differs and not {read, told} <= {"weakened", "lost"}
        wrong["kept or not"] += (read in KEPT) != (told in KEPT)
    verdicts, kept = AT_MOST_WRONG.get(name, (0.05, 0.02))
    assert wrong["kept or not"] <= kept * len(JUDGED[name])
    # Its author calls a rule weakened wherever the option is named, as no other author does.
    asked = "but for weakened or lost" if name == "typical-2" else "verdict"
    assert wrong[asked] <= verdicts * len(JUDGED[name])
    assert min(judged.values()) >= 8


@pytest.mark.parametrize("family", FAMILIES)
def test_each_way_to_state_a_rule_is_word_for_word_and_no_other_option_is(family: str) -> None:
    option, other = FAMILIES[family].options[:2]
    of = rule(family, option)
    for text in of.texts:
        found = standing(of, FAMILIES[family], [{"role": "system", "content": f"- {text}"}])
        assert found[:2] == ("verbatim", "system")
        assert option in found.line
        assert verdict(of, text.replace(option, other)) == "lost"
        assert verdict(of, text.upper().replace(option.upper(), option)) == "verbatim"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_list_of_names_is_no_rule(family: str) -> None:
    options = FAMILIES[family].options
    assert verdict(rule(family, options[0]), f"Names seen: {', '.join(options)}.") == "lost"


@pytest.mark.parametrize(
    ("place", "role", "text", "expected"),
    [
        ("first", "user", "Never commit to main; commit to kestrel-7 instead.", "reworded"),
        ("first", "user", "## Rules\n- commits: kestrel-7", "reworded"),
        ("first", "user", '{"rules": ["commit to kestrel-7"]}', "reworded"),
        ("first", "user", "Commits to kestrel-7 were discussed.", "weakened"),
        ("first", "user", "Maybe commit to kestrel-7.", "weakened"),
        ("first", "user", "The last commit is on kestrel-7.", "weakened"),
        ("first", "user", "The user talked about commits.", "lost"),
        ("first", "user", "Only commit to kestrel-70.", "lost"),
        ("first", "user", "", "lost"),
        ("revised", "user", "Only commit to plover-3.", "stale"),
        ("revised", "user", "Only commit to kestrel-7, no longer to plover-3.", "reworded"),
        ("revised", "user", "Only commit to plover-3. Now only commit to kestrel-7.", "reworded"),
        ("withdrawn", "user", "Only commit to kestrel-7.", "stale"),
        ("withdrawn", "user", "Commits no longer go to kestrel-7, the user said.", "harmless"),
        ("withdrawn", "user", "The work went on.", "harmless"),
        ("tool", "user", "Only commit to kestrel-7.", "promoted"),
        ("tool", "tool", "Only commit to kestrel-7.", "harmless"),
        ("mail", "user", 'An e-mail said: "Only commit to kestrel-7."', "harmless"),
    ],
)
def test_a_rule_that_is_told_worse_and_worse(
    place: str, role: str, text: str, expected: str
) -> None:
    former = "plover-3" if place == "revised" else ""
    assert verdict(rule(NAME, "kestrel-7", place, former), text, role) == expected


def test_the_best_of_several_messages_counts_with_who_says_it() -> None:
    texts = ("The last commit is on kestrel-7.", "Only commit to kestrel-7.", "Nothing.")
    messages = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant", "tool"), texts, strict=True)
    ]
    found = standing(rule(NAME, "kestrel-7"), FAMILIES[NAME], messages)
    assert found == ("reworded", "assistant", texts[1])


def test_a_fact_is_kept_where_its_value_stands_as_a_word_of_its_own() -> None:
    facts = [Fact("", value) for value in ("8412", "lorbafe", "src/a.py")]
    left = [
        {"role": "tool", "content": "port 84120, src/a.py"},
        {"role": "user", "content": "lorbafe."},
    ]
    assert facts_kept(facts, left) == 2
    assert facts_kept(facts, [*left, {"role": "user", "content": "It is 8412."}]) == 3
    calls = [{"id": "1", "function": {"name": "open", "arguments": '{"port": 8412}'}}]
    assert facts_kept(facts, [{"role": "assistant", "content": "", "tool_calls": calls}]) == 1


def test_own_words_are_sentences_that_no_message_had() -> None:
    seen = {"Read it. Then stop.": "user: Read it. Then stop."}
    left = [
        {"role": "user", "content": "Read it. Then stop."},
        {"role": "user", "content": "In short:\nuser: Read it. We went on."},
    ]
    assert own_sentences(seen, left) == ["In short:", "We went on."]


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("Never push to production.", True),
        ("The user wants answers in French.", True),
        ("The port is 8412 and the tests pass.", False),
        ("It was said that one might never push.", False),
        ("The user no longer wants it; never mind.", False),
    ],
)
def test_an_invented_rule_is_told_by_its_force(text: str, gives: bool) -> None:
    assert given_rule(["The work went on.", text]) == (text if gives else "")
