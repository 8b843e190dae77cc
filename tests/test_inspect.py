"""Tasks of Inspect: what they score, of strategies and models made here, without a network."""

import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("inspect_ai") is None and not os.environ.get("CI"):
    pytest.skip("needs pip install 'rulekeep[inspect]'", allow_module_level=True)

from inspect_ai import eval as evaluate
from inspect_ai import model as ai
from inspect_ai.log import EvalLog

from rulekeep.compaction.history import HOLDING
from rulekeep.inspect import task
from rulekeep.language.families import read_families

# Inspect leaves its streams to the collector, and asks tenacity as before.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unclosed <Memory:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning"),
]
SMALL: dict[str, Any] = {"histories": 2, "tokens": 1000}
RULES = read_families("agents")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever asks for an address fails: a tokenizer cannot be had."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    yield
    # What is left open is collected here, where its warning is let pass.
    gc.collect()


Run = Callable[..., EvalLog]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(asked: Any, model: Any = "mockllm/model") -> EvalLog:
        (log,) = evaluate(asked, model=model, log_dir=str(tmp_path), display="none")
        assert log.status == "success", log.error
        return log

    return run


def figures(log: EvalLog, of: str = "mean") -> dict[str, float]:
    assert log.results is not None
    return {score.name: score.metrics[of].value for score in log.results.scores}


def said(messages: list[ai.ChatMessage]) -> str:
    return "\n".join(message.text for message in messages)


def reader(answer: Callable[[str, str], str]) -> ai.Model:
    """A mock whose reply is a function of what it has read, and of the last message."""

    def reply(messages: list[ai.ChatMessage], *_: Any) -> ai.ModelOutput:
        return ai.ModelOutput.from_content("mock", answer(said(messages[:-1]), messages[-1].text))

    return ai.get_model("mockllm/model", custom_outputs=reply, memoize=False)


def obeying(read: str, request: str) -> str:
    """What follows the rule that stands in the text; the first rule that is its request's."""
    for family in RULES.values():
        if family.request in request:
            for option, reply in zip(family.options, family.continuations, strict=True):
                ways = [way.replace("{}", option) for way in (family.rule, *family.wordings)]
                if any(way in read or way in request for way in ways):
                    return family.prefix + reply
    return "Done."


def test_a_model_that_obeys_what_it_reads_obeys_what_is_stored(run: Run) -> None:
    found = figures(run(task.compaction(strategy="trim", **SMALL), reader(obeying)))
    assert found["floor"] == 0
    assert found["bound"] == 1
    assert found["stored"] == found["obeyed"] < 1
    assert found["stored"] == pytest.approx(
        sum(found[f"stored {place}"] for place in HOLDING) / len(HOLDING)
    )


def test_rule_and_floor_are_asked_for_after_the_last_round(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = set[str]()

    async def rounds(*_: Any) -> list[tuple[list[ai.ChatMessage], bool]]:
        return [([ai.ChatMessageUser(content=f"round {at}")], True) for at in (1, 2)]

    def answer(before: str, _: str) -> str:
        read.add(before)
        return "Done."

    monkeypatch.setattr(task, "_rounds", rounds)
    run(task.compaction(strategy="trim", rounds=2, **SMALL), reader(answer))
    assert read == {"round 2"}


@pytest.mark.parametrize("strategy", ["summary", "trim"])
def test_the_system_prompt_and_the_first_request_stay_and_later_rules_go(
    run: Run, strategy: str
) -> None:
    found = figures(run(task.compaction(strategy=strategy, rounds=3, **SMALL)))
    assert found["stored system"] == found["stored first"] == 1
    assert found["stored middle"] == found["stored file"] == 0


def test_edit_drops_what_tools_have_read_and_nothing_else(run: Run) -> None:
    found = figures(run(task.compaction(strategy="edit", rounds=2, **SMALL)))
    assert {place: found[f"stored {place}"] for place in HOLDING} == {
        place: float(place != "file") for place in HOLDING
    }


@ai.modelapi(name="holding")
def holding() -> type[ai.ModelAPI]:
    class Holding(ai.ModelAPI):
        """A provider that compacts by itself, into what nobody can read."""

        async def generate(self, *_: Any, **__: Any) -> ai.ModelOutput:
            return ai.ModelOutput.from_content("holding", "Done.")

        async def compact(self, *_: Any, **__: Any) -> Any:
            return [ai.ChatMessageUser(content=[ai.ContentData(data={"sealed": "x"})])], None

    return Holding


@pytest.mark.parametrize("strategy", ["native", "auto"])
def test_what_a_provider_keeps_is_not_said_to_be_lost(run: Run, strategy: str) -> None:
    log = run(task.compaction(strategy=strategy, placement="system", **SMALL), "holding/x")
    assert log.samples is not None
    assert log.results is not None
    stored = next(score for score in log.results.scores if score.name == "stored")
    assert (stored.scored_samples, stored.unscored_samples) == (0, 2)
    assert [message.role for message in log.samples[0].messages] == ["system", "user"]


def test_rules_in_words_have_a_floor_without_them_and_a_bound(run: Run) -> None:
    shipped, read = read_families(""), []

    def knowing(before: str, request: str) -> str:
        read.append((before, request))
        for family in shipped.values():
            for at, reply in enumerate(family.continuations):
                said = {family.said(at, old) for old in range(len(family.options))}
                # Only what is restated is known.
                if request in {f"{one} {family.request}" for one in said}:
                    return family.prefix + reply
        return "Done."

    log = run(task.language(prompts=3, distance=64), reader(knowing))
    assert figures(log) == {"obeyed": 0, "floor": 0, "bound": 1}
    assert log.samples is not None
    for one in log.samples:
        rules = [row["rule"] for row in one.metadata["rules"]]
        told = [before for before, _ in read if all(rule in before for rule in rules)]
        bare = [before for before, _ in read if not any(rule in before for rule in rules)]
        restated = [request for _, request in read if any(rule in request for rule in rules)]
        # Each of four rules is asked for as it stands, without any, and restated.
        assert (len(told), len(restated)) == (8, 4)
        assert len(bare) >= 4


@pytest.mark.cli
def test_the_tasks_are_found_by_name(tmp_path: Path) -> None:
    options = ["-T", "strategy=native", "--model", "mockllm/model", "--display", "plain"]
    command = [sys.executable, "-m", "inspect_ai", "eval", "rulekeep/compaction", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.strip() == "strategy native: mockllm/model has none; give auto"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.docs
@pytest.mark.slow
@pytest.mark.parametrize(("column", "strategy"), [(1, "summary"), (2, "trim"), (3, "edit")])
def test_the_page_has_what_a_run_gives(run: Run, column: int, strategy: str) -> None:
    page = (Path(__file__).parents[1] / "docs/inspect.md").read_text(encoding="utf-8")
    table = page.partition("| `summary` | `trim` | `edit` |")[2].split("\n\n")[0]
    shown = [float(row.split(" | ")[column].strip(" |")) for row in table.splitlines()[2:]]
    log = run(task.compaction(strategy=strategy))
    places = ("system", "first", "file", "middle", "late", "several", "revised")
    assert shown == [round(figures(log)[f"stored {place}"], 2) for place in places]
    if strategy == "trim":
        metrics = ("mean", "stderr", "ci_wilson_lower", "ci_wilson_upper")
        ends = [figures(log, of)["stored middle"] for of in metrics]
        block = page.partition("```text\n")[2].partition("```")[0]
        assert [line.split()[-1] for line in block.splitlines()[1:]] == [
            f"{end:.3f}" for end in ends
        ]
