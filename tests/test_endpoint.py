"""A model behind an endpoint: replies, scores, and an endpoint that fails."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from chat_server import SHIPPED, TEMPLATE, Server, likelihoods, serving, tokens

from rulekeep.language import endpoint, figures, run
from rulekeep.language.chat import Message
from rulekeep.language.contract import EMPTY, Probe
from rulekeep.language.endpoint import Endpoint
from rulekeep.language.resolving import resolve_language
from rulekeep.records import Record
from rulekeep.records.store import RunFolder, read_runs
from rulekeep.specs import LanguageSpec, UsageError

KEY = "sk-very-secret"
# None shows in a reply's first or last word: one reply can follow several. Three share a request.
FAMILIES = ("address", "color", "code_language", "home", "sport", "weekday", "employer", "mood")
CHAT = (Message("system", "Your name is Nora."), Message("user", "Hello."))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    with serving() as one:
        yield one


def spec(server: Server, **values: Any) -> LanguageSpec:
    asked = {
        "model": "m", "endpoint": server.url, "replies": "written",
        "distance": 0, "prompts": 4, "families": FAMILIES, **values,
    }  # fmt: skip
    return LanguageSpec.parse(**asked)


def rules(folder: Path) -> str:
    """A file of some of the shipped families."""
    path = folder / "some.toml"
    every = files("rulekeep.language").joinpath("rules.toml").read_text().split("\n\n[")
    path.write_text("".join(f"[{one}\n" for one in every if one.split("]")[0] in FAMILIES))
    return str(path)


def made(one: LanguageSpec, folder: Path) -> Record:
    """The record of a cell, run in this process."""
    resolved = resolve_language(one)
    folder.mkdir(exist_ok=True)
    values = run.run(resolved, RunFolder(folder), lambda _: None, lambda *_: None)
    head = {"id": resolved.id, "kind": one.kind}
    head |= {"asked": resolved.asked, "versions": resolved.versions}
    return Record.read(json.loads(json.dumps({**head, **values})))


def test_written_replies_are_checked(server: Server, tmp_path: Path) -> None:
    record = made(spec(server, compress=("none", "keep_last@0.1")), tmp_path / "run")
    found = figures.cell(record)
    assert found["none"].retention.mean == 1.0
    assert found["none"].gain is None
    assert found["keep_last@0.1"].retention.mean == found["keep_last@0.1"].all_rules.mean == 0.0
    assert {one.judged for one in record.choices} == {"written"}
    assert all(one.reply for one in record.choices)
    assert record.cache_bytes == {}
    left = record.tokens_left
    assert left["none"] == round(record.costs["tokens_per_prompt"]) > left["keep_last@0.1"] > 0
    # One reply serves the rules that share a request.
    requests = {SHIPPED[one.family].request for one in record.choices if one.prompt == 0}
    firsts = [one for one in server.asked if one["messages"][-1]["content"] in requests]
    assert len(firsts) < len(record.choices) / 2
    assert {one["temperature"] for one in server.asked} == {0}


def test_scores_are_the_sum_over_the_tokens_of_a_reply(server: Server) -> None:
    model = Endpoint(server.url, "m", TEMPLATE)
    probes = [Probe("Who are you?", "My name is", f" {name} Smith.") for name in ("Nora", "Felix")]
    asked = model.text([*CHAT, Message("user", "Who are you?")]) + "My name is"
    expected = [
        sum(score or 0 for score in likelihoods(asked + one.reply)[len(tokens(asked)) :])
        for one in probes
    ]
    assert model.opened(CHAT).scores(probes) == expected == [-3.5, -6.0]
    # The beginning that replies share is asked for once.
    assert len(server.asked) == 3


def test_scored_replies_need_no_cache_and_no_torch(server: Server, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    one = spec(
        server, replies="scored", template=str(tmp_path / "chat.jinja"),
        prompts=4, families=("home", "sport"), rules_at_once=2,
    )  # fmt: skip
    found = figures.cell(made(one, tmp_path / "run"))["none"]
    assert found.retention.mean == 1.0
    assert found.gain is not None


# What a server reads of a prompt that is too long for it.
CUT = {"end": slice(-150, None), "beginning": slice(150)}


@pytest.mark.parametrize("reads", CUT.values(), ids=CUT)
@pytest.mark.parametrize("replies", ["scored", "written"])
@pytest.mark.parametrize("placement", ["start", "middle"])
def test_an_endpoint_that_does_not_read_a_whole_prompt_is_refused(
    server: Server, tmp_path: Path, reads: slice, replies: str, placement: str
) -> None:
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    scored = {"template": str(tmp_path / "chat.jinja")}
    one = spec(
        server, replies=replies, distance=300, prompts=6, placement=placement,
        **(scored if replies == "scored" else {}),
    )  # fmt: skip
    whole = made(one, tmp_path / "whole")
    assert figures.cell(whole)["none"].retention.mean == 1.0
    server.reads = reads
    with pytest.raises(UsageError, match=r"^--endpoint \S+: reads .*\d.*longer context") as caught:
        made(one, tmp_path / "cut")
    assert "\n" not in str(caught.value)


def test_a_prompt_longer_than_those_that_were_read_whole_is_checked_anew(server: Server) -> None:
    server.reads = slice(-150, None)
    model = Endpoint(server.url, "m")
    model.opened(CHAT).reply("Who are you?")
    turn = (Message("user", "word " * 40), Message("assistant", "I see."))
    with pytest.raises(UsageError, match=r"reads 150 of the \d+ tokens of a prompt"):
        model.opened((*CHAT[:1], *4 * turn)).reply("Who are you?")


@pytest.mark.parametrize("mode", ["no usage", "right"])
def test_the_record_says_where_an_endpoint_does_not_count_its_prompt(
    server: Server, mode: str
) -> None:
    server.mode = mode
    model = Endpoint(server.url, "m")
    model.opened(CHAT).reply("Who are you?")
    assert ("prompts" in model.libraries) == (mode == "no usage")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("slow", "Request timed out."),
        ("loading", "model is still loading"),
        ("down", "Connection error."),
        ("no logprobs", "answered without the prompt's log-probabilities"),
        ("locked", "OPENAI_API_KEY"),
    ],
)
def test_an_endpoint_that_fails_is_named_in_one_line_without_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, mode: str, said: str
) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT_SECONDS", 0.2 if mode == "slow" else 20.0)
    server.mode = mode
    url = "http://127.0.0.1:9/v1" if mode == "down" else server.url
    if mode == "locked":
        server.key = "another"
    opened = Endpoint(url, "m", TEMPLATE).opened(CHAT)
    asks: list[Callable[[], Any]] = [lambda: opened.scores([Probe("Who?", "I am", " Nora")])]
    if mode not in ("no logprobs", "no usage"):
        asks.append(lambda: opened.reply("Who are you?"))
    for ask in asks:
        with pytest.raises(UsageError) as caught:
            ask()
        text = str(caught.value)
        assert text.startswith(f"--endpoint {url}: ")
        assert said in text
        assert "\n" not in text
        assert KEY not in text


def test_a_cell_goes_on_where_its_endpoint_failed(server: Server, tmp_path: Path) -> None:
    one = spec(server)
    whole = made(one, tmp_path / "whole")
    count = len(server.asked)

    class Failing(list):  # type: ignore[type-arg]
        def append(self, body: Any) -> None:
            super().append(body)
            server.mode = "failing" if len(self) == count // 2 else "right"

    server.asked = Failing()
    with pytest.raises(UsageError, match="Error code: 400"):
        made(one, tmp_path / "part")
    assert made(one, tmp_path / "part").choices == whole.choices
    # What was kept is not asked again; the prompt that failed is.
    assert count < len(server.asked) < 2 * count


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (lambda said: f"<think>Nora or Felix?</think>\n\n{said}", "My name is Nora."),
        (lambda said: f"<think>\nIs it {said}", ""),
        (lambda said: [{"type": "text", "text": said[:5]}, {"type": "text", "text": said[5:]}],
         "My name is Nora."),
        (lambda said: [{"type": "thinking", "thinking": "Felix?"}, {"type": "text", "text": said}],
         "My name is Nora."),
        (lambda said: None, ""),
    ],
)  # fmt: skip
def test_an_endpoints_reply_is_its_text_without_the_thought(
    server: Server, content: Callable[[str], Any], reply: str
) -> None:
    server.content = lambda said: content("My name is Nora.")
    model = Endpoint(server.url, "m")
    assert model.opened(CHAT).reply("Who are you?") == reply
    assert model.written([*CHAT, Message("user", "Who are you?")], 9) == reply
    assert (EMPTY in model.libraries) == (not reply)


@pytest.mark.slow
def test_no_key_comes_into_a_record(server: Server, tmp_path: Path) -> None:
    server.key = KEY
    options = f"--model m --endpoint {server.url} --distances 0 --mentions none --prompts 2"
    options += f" --rules {rules(tmp_path)}"
    # A process of its own: workers have the environment of the first one that asked for them.
    command = [sys.executable, "-m", "rulekeep", "language", *options.split(), "--out", "runs"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    shown, error = ended.stdout, ended.stderr.decode()
    assert ended.returncode == 0, error
    assert b"1.000 (0.158 to 1.000)" in shown
    kept = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(read_runs(tmp_path / "runs").records) == 2
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]
    assert KEY not in error
    assert KEY.encode() not in shown
