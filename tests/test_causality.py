"""Answers told at once are those read token by token, in every evaluation: see `causality`."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import leaks
import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from rulekeep.article.cell import run as run_cell
from rulekeep.article.models import published_model
from rulekeep.checks.mixers import screen
from rulekeep.mixers import MIXERS
from rulekeep.mixers.base import Mixer, MixerError, Outside, start_step
from rulekeep.records.store import RunFolder
from rulekeep.running.building import resolve_cell
from rulekeep.running.causality import AnswerCheck
from rulekeep.running.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    ModelPredictor,
    OutsideReader,
    Predictor,
    PredictorError,
    Question,
    answering,
    evaluate_samples,
)
from rulekeep.running.model import LanguageModel
from rulekeep.running.predicting import check
from rulekeep.running.predicting import run as score
from rulekeep.running.trained import kept_model, resolve_done
from rulekeep.specs import ArticleCell, PredictorSpec, RunSpec
from rulekeep.sweeps.planning import resolve_any
from rulekeep.tasks import Recall, Recite
from rulekeep.tasks.article import Article

TASK = Recite()
WORDS = len(TASK.vocabulary)
START = TASK.sample("test", 64, 1).answer_start
FAILED = r"causality check failed at 64 tokens: \d+ of \d+ teacher-forced answers differ"


class Logits(LogitsPredictor):
    """What a function makes of tokens, the next of which it can see where there is one."""

    def __init__(self, of: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.of, self.calls = of, 0

    def logits(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        after = nn.functional.pad(tokens, (0, 1))[:, 1:]
        return self.of(tokens, nn.functional.one_hot(after, WORDS).float())


def counts(tokens: Tensor) -> Tensor:
    return nn.functional.one_hot(tokens, WORDS).float().cumsum(1)


def inside_the_answer(tokens: Tensor, after: Tensor) -> Tensor:
    made = counts(tokens)
    made[:, START + 1 :] += 30 * after[:, START + 1 :]
    return made


class LateLogits(Logits):
    """Honest while it is tried."""

    def logits(self, tokens: Tensor) -> Tensor:
        made = super().logits(tokens)
        return made if self.calls > 20 else counts(tokens)


def masked(tokens: Tensor, after: Tensor, mask: float) -> Tensor:
    """A word that cannot be, by a finite number, beside which all others are alike."""
    made = counts(tokens) + 30 * after
    made[..., 0] = mask
    return made


LEAKS = {
    "a mask of -1e9": Logits(partial(masked, mask=-1e9)),
    "a mask of -1e4": Logits(partial(masked, mask=-1e4)),
    "a large batch": Logits(
        lambda tokens, after: counts(tokens) + 30 * after * (len(tokens) > 2)
    ),
    "after the check": LateLogits(lambda tokens, after: counts(tokens) + 30 * after),
    "inside the answer": Logits(inside_the_answer),
    # Every word is all but as likely, so no probability is another.
    "a word in a tie": Logits(lambda tokens, after: 0.01 * after),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_an_outside_model_that_sees_the_answer_is_not_scored(name: str) -> None:
    predictor = LEAKS[name]
    if name in ("a large batch", "after the check", "a word in a tie"):
        check(predictor, TASK, 64, 1)
    with pytest.raises(PredictorError, match=FAILED) as error:
        evaluate_samples(predictor, TASK, "test", 64, 100, 1)
    assert "\n" not in str(error.value)


class Remembers(LogitsPredictor):
    """Says what it has seen after the same prompt, as soon as it has seen an answer to it."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, ...], list[int]] = {}

    def logits(self, tokens: Tensor) -> Tensor:
        made = counts(tokens)
        for row, text in enumerate(tokens.tolist()):
            seen = self.seen.setdefault(tuple(text[:START]), text)
            self.seen[tuple(text[:START])] = seen = max(seen, text, key=len)
            for place in range(START, min(len(text) + 1, len(seen))):
                made[row, place - 1, seen[place]] += 30
        return made


def test_an_outside_model_has_seen_no_answer_before_it_gives_its_own() -> None:
    with pytest.raises(PredictorError, match=FAILED):
        evaluate_samples(Remembers(), TASK, "test", 64, 40, 1)


def noisy(tokens: Tensor, _: Tensor, scale: float = 1.0) -> Tensor:
    """As in bfloat16, by a kernel that adds up another batch or length in another order."""
    stream = torch.Generator().manual_seed(1000 * len(tokens) + tokens.shape[1])
    made = 20 + scale * counts(tokens)
    return (made + 0.06 * torch.randn(made.shape, generator=stream)).bfloat16()


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_an_outside_model_of_low_precision_is_scored(scale: float) -> None:
    """Without a sure word every other answer turns by rounding; as many right as wrong."""
    row = evaluate_samples(Logits(partial(noisy, scale=scale)), TASK, "test", 64, 500, 1)
    assert row["n"] == 500


def model(make: Callable[[], Mixer], words: int = WORDS) -> LanguageModel:
    return LanguageModel(
        words, [make] * 2, width=16, hidden=24, added_positions="none", context=128, seed=1
    )


@pytest.mark.parametrize("mixer", [leaks.SeesFromTheFifth, leaks.SeesInLargeBatches])
def test_a_model_that_sees_the_end_of_an_answer_is_not_scored(mixer: type[leaks.Honest]) -> None:
    """It errs before it sees, so its own answers tell nothing: those along true tokens do."""
    task = Recite(Recite.options_type.parse(rules=8))
    made = model(lambda: Outside(mixer(16)), len(task.vocabulary))
    sees = ModelPredictor(made)
    said = (
        r"^Causality check failed at 128 tokens: \d+ of \d+ teacher-forced answers differ from the "
        r"same answers read token by token\. The mixer is non-causal, inconsistent with its state, "
        r"or random; run `rulekeep check`$"
    )
    with pytest.raises(MixerError, match=said):
        evaluate_samples(sees, task, "validation", 128, 200, 1)
    # Where all words are about as likely, another word is another answer too.
    with torch.no_grad():
        made.head.weight.mul_(0.02)
        made.head.bias.zero_()
    with pytest.raises(MixerError, match=said):
        evaluate_samples(sees, task, "validation", 128, 200, 1)


# Answers that stand among words that are given, over most of the text.
ZOOLOGY = Recall(Recall.options_type.parse(layout="zoology"))


@pytest.mark.parametrize(
    ("name", "task"), [*((name, TASK) for name in MIXERS), ("sparse_delta", ZOOLOGY)]
)
def test_every_mixer_is_scored_and_the_check_changes_no_figure(name: str, task: Any) -> None:
    predictor = ModelPredictor(model(partial(MIXERS[name], 16), len(task.vocabulary)))
    sample = task.sample("validation", 96, 40, seed=1)
    answers = AnswerCheck(name, exact=True)
    one, other = predictor.read(sample), predictor.read(sample, answers)
    assert one.loss == other.loss
    assert np.array_equal(one.predictions, other.predictions)
    assert np.array_equal(one.generated, other.generated)
    assert answers.fault() is None


def run_of(name: str) -> RunSpec:
    return RunSpec.parse(
        mixer=f"{leaks.__file__}:{name}", width=16, layers=1, context=64, steps=4,
        warmup_steps=0, batch_size=4, validation_examples=64, test_examples=64,
        task_options={"rules": 8},
    )  # fmt: skip


def test_a_leak_at_the_length_of_an_answer_is_found_before_the_run() -> None:
    with pytest.raises(MixerError, match="it sees later tokens"):
        screen(resolve_any(run_of("SeesFromTheFifthOfNine")))


@pytest.mark.process
def test_a_leak_that_the_screen_does_not_meet_ends_the_run_at_its_first_look(
    tmp_path: Path,
) -> None:
    spec = run_of("SeesOfNineInLargeBatches")
    screen(resolve_any(spec))
    (record,) = tiny.made([spec], tmp_path / "runs")
    assert record.status == "failed"
    assert re.search(r"MixerError: Causality check failed at 64 tokens: \d+ of", record.reason)


def test_a_mixer_that_sees_later_tokens_wins_no_contest_of_the_article(tmp_path: Path) -> None:
    spec = ArticleCell(context=64, model=f"{leaks.__file__}:SeesInWholeBatches", seed=7, steps=1)
    resolved = resolve_cell(spec)
    screen(resolved)
    with pytest.raises(MixerError, match="Causality check failed at 64 tokens: 64 of 64"):
        run_cell(resolved, RunFolder(tmp_path), lambda _: None, lambda *_: None)


@pytest.mark.process
def test_dropout_is_off_where_answers_are_read_and_on_again_in_training(tmp_path: Path) -> None:
    (record,) = tiny.made([run_of("Drops")], tmp_path / "runs")
    assert record.status == "done", record.reason


@pytest.mark.process
def test_the_weights_that_are_kept_are_those_that_were_tested(tmp_path: Path) -> None:
    (record,) = tiny.made([run_of("ScaledByWhatItTrainedOn")], tmp_path)
    assert record.status == "done", record.reason
    folder = RunFolder(tmp_path / record.id)
    assert kept_model(folder, record, resolve_done(folder, record)).differences == {}


def test_each_part_of_a_model_is_left_in_the_mode_that_it_was_in() -> None:
    made = model(lambda: Outside(leaks.Drops(16)))
    start_step(made, 1)
    made.blocks[1].eval()
    modes = [module.training for module in made.modules()]
    assert len(set(modes)) == 2
    with answering(made):
        assert not any(module.training for module in made.modules())
    assert [module.training for module in made.modules()] == modes
    sample = TASK.sample("validation", 64, 8, seed=1)
    assert ModelPredictor(made).read(sample).loss == ModelPredictor(made).read(sample).loss
    assert [module.training for module in made.modules()] == modes


def changed_by_eval(made: nn.Module, tokens: Tensor) -> bool:
    def logits() -> Tensor:
        torch.manual_seed(0)
        given = made(tokens)
        return given[0] if isinstance(given, tuple) else given

    with torch.no_grad():
        trains = logits()
        with answering(made):
            return not torch.equal(logits(), trains)


def test_of_the_catalogue_and_the_article_no_model_answers_otherwise_for_eval() -> None:
    """The golden of that: figures of committed records are those of training mode too."""
    tokens = torch.from_numpy(TASK.sample("validation", 64, 4, seed=1).tokens)
    made = {name: model(partial(kind, 16)) for name, kind in MIXERS.items()}
    made["one with dropout"] = model(lambda: Outside(leaks.Drops(16)))
    start_step(made["one with dropout"], 1)
    changed = [name for name, one in made.items() if changed_by_eval(one, tokens)]
    words = tokens % len(Article.vocabulary)
    for name in ("attention", "compressed"):
        torch.manual_seed(0)
        changed += [name] if changed_by_eval(published_model(name, 64), words) else []
    assert changed == ["one with dropout"]


class Writes(GeneratingPredictor):
    """Writes to what it is given, in one of two ways."""

    def __init__(self, force: bool) -> None:
        self.force = force

    def generate(self, prompts: np.ndarray, given: np.ndarray, is_given: np.ndarray) -> np.ndarray:
        for table in (prompts, given, is_given):
            if self.force:
                table.flags.writeable = True
            table[...] = 0
        return np.zeros_like(given)


def test_what_a_predictor_is_given_cannot_be_written_to() -> None:
    sample = TASK.sample("test", 64, 4, seed=1)
    with pytest.raises(ValueError, match="read-only"):
        OutsideReader(Writes(force=False), WORDS).read(sample)


def test_what_a_predictor_writes_reaches_nothing_that_is_scored() -> None:
    class WritesTokens(LogitsPredictor):
        def logits(self, tokens: Tensor) -> Tensor:
            tokens[...] = 0
            return torch.eye(WORDS)[0].expand(*tokens.shape, WORDS)

    for predictor in (Writes(force=True), WritesTokens()):
        row = evaluate_samples(predictor, TASK, "test", 64, 20, 1)
        assert (row["exact"], row["token_accuracy"]) == (0, 0)


def test_what_a_predictor_does_to_its_task_reaches_nothing_that_is_scored(tmp_path: Path) -> None:
    (tmp_path / "changes.py").write_text(
        "import numpy as np\n"
        "from rulekeep.running.evaluation import GeneratingPredictor\n\n\n"
        "class Changes(GeneratingPredictor):\n"
        "    def __init__(self, task):\n"
        "        draw = task.sample\n\n"
        "        def easy(*given, **named):\n"
        "            drawn = draw(*given, **named)\n"
        "            drawn.tokens[...] = 0\n"
        "            return drawn\n\n"
        "        task.sample = easy\n\n"
        "    def generate(self, prompts, given, is_given):\n"
        "        return np.zeros_like(given)\n"
    )
    spec = PredictorSpec(
        predictor=f"{tmp_path / 'changes.py'}:Changes", test_contexts=(64,), test_examples=20
    )
    made = score(resolve_any(spec), RunFolder(tmp_path), lambda _: None, lambda *_: None)
    assert [row["token_accuracy"] for row in made["evaluations"]] == [0]


def test_an_array_that_is_equal_to_anything_is_no_right_answer() -> None:
    class Equal(np.ndarray):
        def __eq__(self, other: object) -> Any:
            return np.ones(self.shape, dtype=bool)

    class Gives(Predictor):
        def read(self, question: Question) -> np.ndarray:
            return np.zeros_like(question.given).view(Equal)

    assert evaluate_samples(Gives(), TASK, "test", 64, 4, 1)["exact"] == 0


def test_a_question_holds_no_answer_that_is_asked_for() -> None:
    sample = ZOOLOGY.sample("test", 64, 4, seed=1)
    question = Question.of(sample)
    assert np.array_equal(question.is_given, ~sample.supervised)
    assert (question.given[sample.supervised] == 0).all()
    for table in vars(question).values():
        assert table.base is None
        assert not np.shares_memory(table, sample.tokens)


def logits_of(words: list[list[int]]) -> Tensor:
    return 30 * nn.functional.one_hot(torch.tensor(words), 10).float()


def test_one_answer_in_fifty_may_differ_and_no_more() -> None:
    """So many differ by rounding alone, between like scores."""
    answers = torch.ones(1000, 4, dtype=torch.long)
    everywhere = torch.ones(1000, 4, dtype=torch.bool)
    for others in (20, 21):
        own = answers.clone()
        own[:others, 2] = 9
        for exact in (True, False):
            one = AnswerCheck(exact=exact)
            told, read = logits_of(answers.tolist()), logits_of(own.tolist())
            one.add(told, read, answers, everywhere, whole=True)
            said = one.fault()
            assert (said is None) == (others == 20)
            assert said is None or said.startswith("21 of 1000 teacher-forced answers differ")


def test_only_places_where_both_saw_the_same_tokens_are_compared() -> None:
    answers = torch.tensor([[1, 2, 3, 4]] * 3)
    own = logits_of([[1, 2, 3, 9]] * 3)
    where = torch.tensor([[True, True, True, False]] * 3)
    one = AnswerCheck(exact=True)
    one.add(logits_of(answers.tolist()), own, answers, where, whole=False)
    assert one.fault() is None
    one.add(logits_of(answers.tolist()), own, answers, ~where, whole=False)
    assert one.fault() == (
        "3 of 6 teacher-forced answers differ from the same answers read token by token"
    )
