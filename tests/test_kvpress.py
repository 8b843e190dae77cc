"""`rulekeep harness kvpress`: its files, rows and scores; presses there and evictions here."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat
import torch
from conftest import Command
from pyarrow import parquet

from rulekeep.harness.kvpress.calculate_metrics import calculate_metrics
from rulekeep.language.families import read_families
from rulekeep.language.intervals import of_shares

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "kvpress_presses.py"
FAMILIES = read_families("")
REGISTRY = """\
from benchmarks.zero_scrolls.calculate_metrics import calculate_metrics as zero_scrolls_scorer

DATASET_REGISTRY = {
    "ruler": "simonjegou/ruler",
    "zero_scrolls": "simonjegou/zero_scrolls",
}

SCORER_REGISTRY = {
    "ruler": ruler_scorer,
    "zero_scrolls": zero_scrolls_scorer,
}
"""
ADDED = """\
from benchmarks.rulekeep.calculate_metrics import calculate_metrics as rulekeep_scorer
    "rulekeep": "benchmarks/rulekeep/data",
    "rulekeep": rulekeep_scorer,
"""


@pytest.fixture
def checkout(tmp_path: Path, run: Command) -> Path:
    folder = tmp_path / "kvpress"
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "evaluate_registry.py").write_text(REGISTRY)
    code, output, _ = run("harness", "kvpress", "kvpress")
    assert (code, output.decode().splitlines()[-1]) == (
        0, "now: git -C kvpress apply rulekeep.patch"
    )  # fmt: skip
    return folder


Rows = list[dict[str, Any]]


@pytest.fixture
def rows(checkout: Path) -> Rows:
    benchmark = checkout / "evaluation" / "benchmarks" / "rulekeep"
    script = [sys.executable, benchmark / "create_huggingface_dataset.py"]
    options = ["--distances", "0,200", "--prompts", "3"]
    subprocess.run([*script, *options], check=True, capture_output=True)
    assert parquet.read_table(benchmark / "data" / "0" / "test.parquet").num_rows == 36
    table = parquet.read_table(benchmark / "data" / "200" / "test.parquet")
    found: Rows = table.to_pylist()
    return found


@pytest.mark.process
def test_the_patch_adds_two_registry_lines_and_an_import(checkout: Path) -> None:
    subprocess.run(["git", "apply", "rulekeep.patch"], cwd=checkout, check=True)
    text = (checkout / "evaluation" / "evaluate_registry.py").read_text()
    added = [line for line in text.splitlines() if line not in REGISTRY]
    assert added == ADDED.splitlines()
    assert "\n".join(line for line in text.splitlines() if line not in added) + "\n" == REGISTRY
    compile(text, "evaluate_registry.py", "exec")


@pytest.mark.process
def test_rows_are_those_that_kvpress_can_ask(rows: Rows) -> None:
    assert [*rows[0]] == [
        "context", "question", "answer_prefix", "answer", "max_new_tokens", "task", "family",
        "prompt",
    ]  # fmt: skip
    # kvpress takes the first prefix and length of a context for all its questions.
    assert {(row["answer_prefix"], row["max_new_tokens"]) for row in rows} == {("", 256)}
    assert {row["task"] for row in rows} == {"binding", "floor", "bound"}
    for row in rows:
        family = FAMILIES[row["family"]]
        rule = family.rule.replace("{}", row["answer"]).partition("{old}")[0]
        assert (rule in row["context"]) == (row["task"] != "floor")
        assert (rule in row["question"]) == (row["task"] == "bound")
        assert row["question"].endswith(family.request)
        # Every option stands in the chat.
        assert all(f'I read "{option}" on a wall.' in row["context"] for option in family.options)


@pytest.mark.core
def test_a_reply_counts_if_it_shows_the_right_option_alone(rows: Rows) -> None:
    pd = pytest.importorskip("pandas")

    def replied(say: Callable[[Any, int], str]) -> dict[str, float]:
        for row in rows:
            family = FAMILIES[row["family"]]
            at = family.options.index(row["answer"])
            row["predicted_answer"] = say(family, at)
        return {
            task: one["followed"] for task, one in calculate_metrics(pd.DataFrame(rows)).items()
        }

    tasks = ("binding", "floor", "bound")

    def own(family: Any, at: int) -> str:
        return f"{family.prefix}{family.continuations[at]}"

    assert replied(own) == dict.fromkeys(tasks, 1)
    thought = "<think>A rival?</think>"
    assert replied(lambda *of: thought + own(*of)) == dict.fromkeys(tasks, 1)
    assert replied(lambda family, at: own(family, at - 1)) == dict.fromkeys(tasks, 0)
    assert replied(lambda *_: "") == dict.fromkeys(tasks, 0)

    def every_option(family: Any, _: int) -> str:
        return " and ".join(own(family, at) for at in range(len(family.options)))

    assert replied(every_option) == dict.fromkeys(tasks, 0)
    # One rule of three prompts with four each.
    rows[0]["predicted_answer"] = own(
        FAMILIES[rows[0]["family"]], FAMILIES[rows[0]["family"]].options.index(rows[0]["answer"])
    )
    found = calculate_metrics(pd.DataFrame(rows))["binding"]
    assert found["followed"] == pytest.approx(1 / 12, abs=1e-4)
    assert found["by_family"][rows[0]["family"]] > 0
    # The interval is over three prompts, not over their twelve rules.
    ends = of_shares(np.array([0.25, 0, 0]))
    assert found["prompts"] == 3
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high), abs=1e-4)


@pytest.mark.core
@pytest.mark.slow
def test_evictions_of_both_sides_cut_a_cache_alike(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    kvpress = pytest.importorskip("kvpress", reason="needs pip install kvpress")
    from transformers import DynamicCache

    from rulekeep.language.chat import Message
    from rulekeep.language.contract import Probe
    from rulekeep.language.evictions import evicted
    from rulekeep.language.models import load_model

    chat = load_model(str(tiny_chat.saved(tmp_path_factory.mktemp("chat_model"))))
    messages = [Message("system", "Be kind. Your name is Nora." * 6)]
    probes = [Probe("Who are you?", "I am", " Nora")]
    press_of_ours: Any = runpy.run_path(str(EXAMPLE))["RulekeepPress"]
    theirs = {"keydiff": kvpress.KeyDiffPress, "lagkv": kvpress.LagKVPress, "cur": kvpress.CURPress}
    ours = ["snapkv", "tova", "h2o", "expected_attention", "knorm", "streaming_llm"]
    read = chat.opened(messages, [*ours, *(f"{EXAMPLE}:{name}" for name in theirs)])
    pairs = {f"{EXAMPLE}:{name}": press(0.5) for name, press in theirs.items()}
    pairs |= {name: press_of_ours(0.5, name) for name in ours}
    for name, press in pairs.items():
        with press(chat.model):
            pressed = chat.opened(messages)
        assert isinstance(pressed.cache, DynamicCache)
        assert pressed.left == read.left // 2
        cut = evicted(read.cache, read.seen[name], 0.5)
        for layer, other in zip(cut.layers, pressed.cache.layers, strict=True):
            torch.testing.assert_close(
                layer.keys.sort(dim=2).values, other.keys.sort(dim=2).values, msg=name
            )
        assert pressed.scores(probes) == pytest.approx(
            type(read)(**{**vars(read), "cache": cut}).scores(probes), abs=1e-4
        )


@pytest.mark.docs
def test_the_page_has_the_figures_of_the_record() -> None:
    page = (ROOT / "docs" / "kvpress.md").read_text()
    runs = json.loads((ROOT / "results" / "kvpress.json").read_text())["runs"]
    assert [one["press"] for one in runs] == ["no_press", "snapkv", "streaming_llm"]
    for one in runs:
        each = (one["metrics"][task] for task in ("binding", "floor", "bound"))
        said = [f"{m['followed']:.2f} ({m['low']:.2f} to {m['high']:.2f})" for m in each]
        assert f"| `{one['press']}` | {' | '.join(said)} |" in page
        assert f"--press_name {one['press']}" in one["command"]
