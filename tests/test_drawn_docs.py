"""The examples that docs/tasks.md draws are examples."""

import re
from pathlib import Path

import pytest
from reading import ALL_BUT_RECALL

from rulekeep.commands.tasks import make_task
from rulekeep.tasks import Article

PAGE = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text()


def drawn(task: str, layout: str = "") -> list[str]:
    """The pieces of a task's drawn example between `…`, each of which stands as it is."""
    blocks = re.findall(rf"## `{task}`\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1, f"draw an example under ## `{task}` in docs/tasks.md"
    (block,) = blocks
    if layout:
        (block,) = re.findall(rf"^{layout}:(.*)$", block, re.MULTILINE)
    return [" ".join(piece.replace("|", " ").split()) for piece in block.split("…")]


def shown(task: str, layout: str = "") -> str:
    """The example that the page's own command shows last, in words."""
    (line,) = re.findall(rf"^`rulekeep show {task} .*--n \d+`$", PAGE, re.MULTILINE)
    asked = [dict(re.findall(r"--([\w-]+) ([\w.]+)", part)) for part in line.split(" and ")]
    (options,) = [one for one in asked if not layout or one.get("layout", "exam") == layout]
    start = int(options.pop("n")) - 1
    made = make_task(task, {name.replace("-", "_"): value for name, value in options.items()})
    return made.words(made.sample("test", 128, 1, seed=0, start=start).tokens[0])


def stand_in_order(pieces: list[str], text: str) -> bool:
    pattern = r"\b.* ".join(re.escape(piece) for piece in pieces if piece)
    # What ends with `…` goes on.
    return re.fullmatch(pattern if pieces[-1] else rf"{pattern}\b.*", text) is not None


def test_the_articles_example_is_its_first() -> None:
    tokens = Article().examples("train", 64).tokens[0]
    assert stand_in_order(drawn("article"), Article().words(tokens))


DRAWN = [*((kind.name, "") for kind in ALL_BUT_RECALL), ("recall", "exam"), ("recall", "zoology")]


@pytest.mark.parametrize(("task", "layout"), DRAWN)
def test_an_example_is_drawn_as_the_command_under_it_shows_it(task: str, layout: str) -> None:
    assert stand_in_order(drawn(task, layout), shown(task, layout))
