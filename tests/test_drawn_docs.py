"""The examples that docs/tasks.md draws are examples."""

import re
from pathlib import Path

import pytest
from reading import make

from rulekeep.tasks import Article, Override

PAGE = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text()


def drawn(task: str) -> list[str]:
    """The pieces of a task's drawn example between `…`, each of which stands as it is."""
    (block,) = re.findall(rf"## `{task}`\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    return [" ".join(piece.replace("|", " ").split()) for piece in block.split("…")]


def stand_in_order(pieces: list[str], text: str) -> bool:
    pattern = r"\b.* ".join(re.escape(piece) for piece in pieces if piece)
    return re.fullmatch(rf"{pattern}", text) is not None


def test_the_articles_example_is_its_first() -> None:
    tokens = Article().examples("train", 64).tokens[0]
    assert stand_in_order(drawn("article"), Article().words(tokens))


def test_the_override_example_is_drawn_as_it_stands() -> None:
    task = make(Override, placement="early", outputs=2, revisions=1, decoy_rate=0.2)
    tokens = task.sample("test", 128, 1, seed=0, start=10).tokens[0]
    assert stand_in_order(drawn("override"), task.words(tokens))


@pytest.mark.parametrize("change", [("rule-22", "rule-23"), ("<none> shows", "shows")])
def test_another_word_would_be_noticed(change: tuple[str, str]) -> None:
    task = make(Override, placement="early", outputs=2, revisions=1, decoy_rate=0.2)
    text = task.words(task.sample("test", 128, 1, seed=0, start=10).tokens[0])
    assert not stand_in_order(drawn("override"), text.replace(*change))
