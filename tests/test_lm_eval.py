"""The tasks for lm-evaluation-harness: the scores of `rulekeep language`, and chance over words."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import astuple
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rulekeep.commands.language import language
from rulekeep.language.figures import cell
from rulekeep.records.record import Record
from rulekeep.records.store import results
from rulekeep.specs.language import LanguageCommon
from rulekeep.tasks import Recite

if find_spec("lm_eval") is None and not os.environ.get("CI"):
    pytest.skip("needs pip install 'rulekeep[lm-eval]'", allow_module_level=True)

from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from rulekeep.harness.lm_eval import rules, words

# What the harness and its libraries warn of is not ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]

FOLDER = Path(rules.__file__).parent
# Two of them have no prefix, and a template that ends in white space before it.
FAMILIES = ("name", "region", "letters", "voice", "mood")
CELL: dict[str, Any] = {"distance": 16, "prompts": 8, "rules_at_once": 2, "seed": 3}
SPACED = tiny_chat.TEMPLATE.replace("<assistant>{% endif %}", "<assistant>\n{% endif %}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a token that ends a text, which the harness asks for."""
    made = tiny_chat.saved(tmp_path_factory.mktemp("model"))
    return saved(made, lambda tokenizer: None)


def saved(made: Path, change: Callable[[Any], None], to: Path | None = None) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.eos_token, tokenizer.chat_template = "Ā", SPACED
    change(tokenizer)
    tokenizer.save_pretrained(to or made)
    return to or made


def loaded(name: str, **metadata: Any) -> Any:
    """A task as the harness loads it."""
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False, metadata=metadata)
    return manager.load(name)["tasks"][name]


def evaluated(name: str, model: Any, **metadata: Any) -> Any:
    """What the harness says of a task: its figures, and a row for each document."""
    if isinstance(model, Path):
        metadata["pretrained"] = str(model)
        model = HFLM(pretrained=str(model), dtype="float32", device="cpu")
    tasks = {"tasks": {name: loaded(name, **metadata)}, "groups": {}, "group_map": {}}
    found = evaluate(model, tasks)
    return found["results"][name], found["samples"][name]


@pytest.fixture(scope="module")
def cells(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The same cells by `rulekeep language`."""
    out = tmp_path_factory.mktemp("runs") / "language"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rulekeep", "language"])
        common = LanguageCommon(
            model=str(folder), families=FAMILIES, prompts=CELL["prompts"],
            rules_at_once=CELL["rules_at_once"], seed=CELL["seed"],
        )  # fmt: skip
        distances, control = (CELL["distance"],), ("none", "no_rules")
        assert not language(common=common, distances=distances, control=control, out=str(out))
    return results(out)


@pytest.mark.parametrize("name", ["retention", "binding", "floor"])
def test_the_harness_gives_the_scores_and_the_figures_of_rulekeep(
    name: str, folder: Path, cells: list[Record]
) -> None:
    want = {"control": "none", **rules.TASKS[name]}
    (record,) = (one for one in cells if want.items() <= one.spec.rest.items())
    figures, samples = evaluated(f"rulekeep_{name}", folder, families=list(FAMILIES), **CELL)
    known = {
        (row.prompt, row.family): (row.option, row.scores)
        for row in record.choices
        if row.how == "obeyed"
    }
    assert len(known) == len(samples) > CELL["prompts"] * CELL["rules_at_once"]
    for sample in samples:
        row = sample["retention"]
        option, scores = known[row["prompt"], row["family"]]
        assert row["option"] == option
        # Each option, not only the mean.
        np.testing.assert_allclose(row["scores"], scores, atol=1e-3)
    whole = cell(record)["none"]
    for key, value in zip(("retention", "low", "high"), astuple(whole.retention), strict=True):
        assert figures[f"{key},none"] == pytest.approx(value, abs=1e-6)
    assert figures["chance,none"] == whole.chance


def test_the_share_that_is_not_calibrated_has_a_standard_error(folder: Path) -> None:
    figures, samples = evaluated("rulekeep_retention", folder, families=list(FAMILIES), **CELL)
    rows = [row["retention"] for row in samples if row["retention"]["option"] is not None]
    right = [np.argmax(row["scores"]) == row["option"] for row in rows]
    assert figures["acc,none"] == np.mean(right)
    error = np.std(right, ddof=1) / math.sqrt(len(right))
    assert figures["acc_stderr,none"] == pytest.approx(error)
    assert figures["retention_stderr,none"] == "N/A"


def test_a_figure_of_too_few_prompts_is_not_a_number() -> None:
    row = {
        "prompt": 0, "family": "name", "rank": 0, "option": 1, "scores": [-1.0, -2.0],
    }  # fmt: skip
    assert math.isnan(rules.retention([row]))
    assert rules.chance([row]) == 0.5


@pytest.mark.docs
def test_the_page_has_the_figures_of_the_record() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "lm-eval.md").read_text()
    rows = json.loads((root / "results" / "lm_eval.json").read_text())
    assert len(rows) == 2
    for row in rows:
        said = [
            f"{one['retention']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
            for one in (row["lm_eval"], row["rulekeep"])
        ]
        assert said[0] == said[1]
        cells = [f"`{row['task']}`", *said, row["options"], row["largest_difference_nats"]]
        assert f"| {' | '.join(map(str, cells))} |" in page


# Words

WORDS = {"context": 64, "examples": 30}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer in which each word of a task is a token."""
    named = {word: i for i, word in enumerate(Recite().vocabulary)}
    made = Tokenizer(models.WordLevel(named, unk_token="<bos>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    place = tmp_path_factory.mktemp("words")
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>").save_pretrained(place)
    return str(place)


class Saying(LM):
    """A model that says what a function of the context does, whatever is likely."""

    def __init__(self, says: Callable[[str], str]) -> None:
        super().__init__()
        self.says = says

    def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
        return [(0.0, self.says(one.args[0]).split() == one.args[1].split()) for one in requests]

    def generate_until(self, requests: Any) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: Any) -> Any:
        raise NotImplementedError


def test_a_model_without_memory_scores_chance_and_one_that_knows_scores_one(
    vocabulary: str,
) -> None:
    task = Recite()
    sample = task.sample("test", 64, 30, seed=1)
    first = sample.answers[sample.first_mention]
    (common,) = {int(np.bincount(first).argmax())}
    found, _ = evaluated(
        "rulekeep_recite", Saying(lambda _: task.words([common])), tokenizer=vocabulary, **WORDS
    )
    assert found["retention,none"] == np.mean(first == common)
    assert found["chance,none"] == pytest.approx(sample.chance[sample.first_mention].mean())
    assert found["exact_match,none"] == 0
    assert abs(found["without_memory,none"] - found["chance,none"]) < 0.02

    answers = {
        task.words(row[: sample.answer_start]): task.words(row[sample.answer_start :])
        for row in sample.tokens
    }

    def knows(context: str) -> str:
        # The whole answer of a context alone, or the next word of it.
        for known, answer in answers.items():
            if context == known:
                return whole.pop(context, answer.split()[0])
            if context.startswith(known):
                return answer.split()[len(context.split()) - len(known.split())]
        raise AssertionError(context)

    whole = dict(answers)
    found, _ = evaluated("rulekeep_recite", Saying(knows), tokenizer=vocabulary, **WORDS)
    assert (found["retention,none"], found["exact_match,none"]) == (1, 1)


def test_options_of_a_task_are_metadata(
    vocabulary: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = words.custom_dataset("recite", tokenizer=vocabulary, **WORDS, rules=2, rule_words=32)
    assert len(made["test"]) == WORDS["examples"] * (1 + 2)
    assert "rulekeep_recite: 90 documents; " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        words.custom_dataset("recite", tokenizer=vocabulary, context=8)
    assert "context 8: must be from 49" in capsys.readouterr().err
    # Words that it lacks are one token to it: whoever says one of them would be right.
    with pytest.raises(SystemExit):
        words.custom_dataset("apply", tokenizer=vocabulary, **WORDS)
    assert "its tokenizer reads '<bos>' and '<ask>' alike" in capsys.readouterr().err
