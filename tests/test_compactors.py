"""Compactors by hand: what stays of five messages under odd budgets, and in which order."""

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rulekeep.language.chat import Message
from rulekeep.language.compactors import Shorter, compact
from rulekeep.language.compressions import Compression
from rulekeep.language.families import is_stored
from rulekeep.specs import UsageError

# As lines they have 3, 2, 4, 2 and 3 words: 14.
CHAT = (
    Message("system", "a a"), Message("user", "b"), Message("assistant", "c c c"),
    Message("user", "d"), Message("assistant", "e e"),
)  # fmt: skip
LINES = [f"{one.role}: {one.text}" for one in CHAT]
LEFT = "You are a helpful assistant.\nThe conversation so far, shortened:\n"


class Words:
    """A model that counts words, and writes what it is told to."""

    def __init__(self, tokens: Callable[[str], list[str]] = str.split, reply: str = "") -> None:
        self.tokens, self.reply = tokens, reply
        self.asked: list[tuple[Sequence[Message], int]] = []

    def written(self, messages: Sequence[Message], tokens: int) -> str:
        self.asked.append((messages, tokens))
        return self.reply


def breaks_too(text: str) -> list[str]:
    """Words and line breaks."""
    return re.findall(r"\n|\S+", text)


def shortened(
    name: str, budget: int, model: Any = None, chat: tuple[Message, ...] = CHAT
) -> Shorter:
    """A conversation shortened to so many tokens."""
    model = model or Words()
    whole = len(model.tokens("\n".join(f"{one.role}: {one.text}" for one in chat)))
    share = 1.0 if budget == whole else (budget + 0.5) / whole
    return compact(chat, Compression("compactor", name, share), model)


@pytest.mark.parametrize(
    ("share", "budget"), [(0.01, 1), (0.29, 4), (0.5, 7), (0.99, 13), (1.0, 14)]
)
def test_a_budget_is_a_share_of_the_tokens_rounded_down_and_one_at_least(
    share: float, budget: int
) -> None:
    model = Words(reply="e")
    compact(CHAT, Compression("compactor", "summary", share), model)
    ((_, tokens),) = model.asked
    assert tokens == budget


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (2, []), (3, [4]), (4, [4]), (5, [3, 4]),
        # The third from the end has four words: the two before it would fit, and are not taken.
        (8, [3, 4]), (9, [2, 3, 4]), (10, [2, 3, 4]), (11, [1, 2, 3, 4]), (13, [1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_the_last_messages_that_fit_stay(budget: int, kept: list[int]) -> None:
    model = Words()
    made = shortened("keep_last", budget, model)
    assert made.text == "\n".join(LINES[at] for at in kept)
    said = f"{LEFT}{made.text}" if kept else "You are a helpful assistant."
    assert made.messages == (Message("system", said),)


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        # Half for the beginning, rounded down; half for the end.
        (2, []), (3, []), (5, [4]), (6, [0, 4]), (7, [0, 4]), (8, [0, 4]), (9, [0, 3, 4]),
        (10, [0, 1, 3, 4]), (12, [0, 1, 3, 4]), (13, [0, 1, 3, 4]),
    ],
)  # fmt: skip
def test_both_ends_stay_and_the_middle_is_cut(budget: int, kept: list[int]) -> None:
    assert shortened("keep_ends", budget).text == "\n".join(LINES[at] for at in kept)


@pytest.mark.parametrize(
    ("name", "budget", "kept"),
    [
        # A break is a token: the last two lines have six.
        ("keep_last", 5, [4]), ("keep_last", 6, [3, 4]), ("keep_last", 10, [3, 4]),
        ("keep_last", 11, [2, 3, 4]),
        # Six for each end are two lines with a break; one more break joins both ends.
        ("keep_ends", 12, [0, 1, 4]), ("keep_ends", 13, [0, 1, 3, 4]),
        ("keep_ends", 14, [0, 1, 3, 4]),
    ],
)  # fmt: skip
def test_line_breaks_are_paid_for_where_they_are_tokens(
    name: str, budget: int, kept: list[int]
) -> None:
    made = shortened(name, budget, Words(breaks_too))
    assert made.text == "\n".join(LINES[at] for at in kept)
    assert len(breaks_too(made.text)) <= budget


@pytest.mark.parametrize("name", ["keep_last", "keep_ends", "extract"])
def test_what_keeps_all_leaves_the_messages_as_they_are(name: str) -> None:
    assert shortened(name, 14) == Shorter(CHAT, "\n".join(LINES))


TALK = (
    Message("user", "Cats eat fish. Do dogs bark?"),
    Message("assistant", "Cats eat birds. Yes! Cats eat fish and birds\nand mice."),
)
SENTENCES = [
    "user: Cats eat fish.", "Do dogs bark?", "assistant: Cats eat birds.", "Yes!",
    "Cats eat fish and birds", "and mice.",
]  # fmt: skip


def nearest_first(sentences: Sequence[str]) -> list[int]:
    """Sentences by their product with the mean of all, of words weighed by how rare they are."""
    words = [re.findall(r"\w+", sentence.lower()) for sentence in sentences]
    n = len(sentences)
    within = Counter(word for row in words for word in {*row})
    rows = []
    for row in words:
        weights = {
            word: count * (math.log((1 + n) / (1 + within[word])) + 1)
            for word, count in Counter(row).items()
        }
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        rows.append({word: weight / length for word, weight in weights.items()})
    centre = {word: sum(row.get(word, 0.0) for row in rows) / n for word in within}
    near = [sum(weight * centre[word] for word, weight in row.items()) for row in rows]
    return sorted(range(n), key=lambda at: -near[at])


def test_the_sentences_nearest_to_the_centroid_stay_in_the_order_of_the_text() -> None:
    order = nearest_first(SENTENCES)
    # The longest has most in common with the others; then those that name cats.
    assert order[:3] == [4, 0, 2]
    sizes = [len(sentence.split()) for sentence in SENTENCES]
    for budget in range(4, sum(sizes)):
        taken, room = [], budget
        for at in order:
            room -= sizes[at]
            if room < 0:
                break
            taken.append(at)
        made = shortened("extract", budget, chat=TALK).text
        assert made == "\n".join(SENTENCES[at] for at in sorted(taken))


def test_a_summary_is_asked_for_in_words_after_the_conversation_and_cut_to_its_budget() -> None:
    model = Words(reply="Keep it short and kind.")
    made = shortened("summary", 3, model)
    (((*before, asked), tokens),) = model.asked
    assert (tuple(before), tokens) == (CHAT, 3)
    # Three tokens are two words and a quarter.
    assert asked.role == "user"
    assert "at most 2 words" in asked.text
    assert "Keep every rule that I gave you." in asked.text
    assert made == Shorter((Message("system", f"{LEFT}Keep it short"),), "Keep it short")
    # A word that is too long by itself is cut inside; of one token a word may be asked for.
    letters = Words(list, "incomprehensible")
    assert shortened("summary", 1, letters).text == "i"
    assert "at most 1 words" in letters.asked[0][0][-1].text
    # A summary is one at a share of 1 as well.
    assert shortened("summary", 14, Words(reply="short")).messages == (
        Message("system", f"{LEFT}short"),
    )  # fmt: skip


def test_a_compactor_from_outside_gets_the_whole_text_and_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def last(text, budget):\n    return ' '.join(text.split()[-budget:])\n"
        "def counts(text, budget, count):\n    return f'{count(text)} {budget}'\n"
        "def more(text, budget):\n    return ' '.join(text.split()[: budget + 1])\n"
        "def same(text, budget):\n    return text + '\\n'\n"
    )
    assert shortened("mine.py:last", 4).text == "d assistant: e e"
    assert shortened("mine.py:counts", 5, Words(breaks_too)).text == "18 5"
    with pytest.raises(UsageError, match="returned 5 tokens where 4 are allowed"):
        shortened("mine.py:more", 4)
    # What comes back whole is read as it was.
    assert shortened("mine.py:same", 14).messages == CHAT
    script = tmp_path / "command"
    script.write_text(f"#!{sys.executable}\nimport json, sys\n"
                      "given = json.load(sys.stdin)\n"
                      "print(given['budget'], 'of', len(given['messages']))\n")  # fmt: skip
    script.chmod(0o755)
    assert shortened("./command", 6).text == "6 of 5"


def test_messages_that_are_left_are_read_as_messages(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("def compact(messages): return [messages[0], messages[-1]]\n")
    made = shortened(f"{tmp_path}/ends.py:compact", 9)
    assert made.text == "system: a a\nassistant: e e"
    assert made.messages == (CHAT[0], Message("user", "Go on."), CHAT[4])


@pytest.mark.parametrize(
    ("text", "option", "stored"),
    [
        ("Your name is NORA!", "Nora", True), ("Nora's rule", "Nora", True), ("", "Nora", False),
        ("Noras and Eleonora", "Nora", False), ("in __Nora__ and", "Nora", True),
        ("see nora_docs", "Nora", False), ("from New York.", "New York", True),
        ("from New\nYork.", "New York", False), ("write C++, not C", "C++", True),
        ("write C, not D", "C++", False), ("9 to 5", "5", True), ("at 15:00", "5", False),
    ],
)  # fmt: skip
def test_an_option_is_stored_as_words_of_its_own(text: str, option: str, stored: bool) -> None:
    assert is_stored(text, option) == stored
