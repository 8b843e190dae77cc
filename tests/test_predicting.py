"""Outside models: what is scored, and what is refused before anything is scored. 10 s."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reading import make

from rulekeep.evaluation import GeneratingPredictor, LogitsPredictor, Predictor
from rulekeep.predicting import PredictorError, check
from rulekeep.registry import find_class
from rulekeep.store import read_record
from rulekeep.tasks import Recall, Recite

EXAMPLE = Path(__file__).parent.parent / "examples" / "outside_model.py"
TASK = make(Recite)
WORDS = len(TASK.vocabulary)


LOOKS_AHEAD = """
import torch
from rulekeep.evaluation import LogitsPredictor
class LooksAhead(LogitsPredictor):
    def __init__(self, task):
        self.words = len(task.vocabulary)
    def logits(self, tokens):
        return torch.nn.functional.one_hot(tokens, self.words).float().roll(-1, dims=1)
"""


class Logits(LogitsPredictor):
    """What a function makes of tokens."""

    def __init__(self, of) -> None:
        self._of = of

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._of(tokens)


class Says(GeneratingPredictor):
    """What a function makes of what is given."""

    def __init__(self, of) -> None:
        self._of = of

    def generate(self, prompts: np.ndarray, given: np.ndarray, is_given: np.ndarray) -> np.ndarray:
        return self._of(given)


def bag(tokens: torch.Tensor, shift: int = 0) -> torch.Tensor:
    """Counts of the words so far, or with a shift of those that follow too."""
    counts = torch.nn.functional.one_hot(tokens, WORDS).float().cumsum(dim=1)
    return counts.roll(-shift, dims=1)


def noisy(tokens: torch.Tensor) -> torch.Tensor:
    """As bfloat16 does, another rounding at another length."""
    return bag(tokens) * (1 + 0.004 * (tokens.shape[1] % 3))


def impossible(tokens: torch.Tensor) -> torch.Tensor:
    made = bag(tokens)
    made[..., 0] = -torch.inf
    return made


HONEST = {
    "counts": Logits(bag),
    "uniform": Logits(lambda tokens: torch.zeros(*tokens.shape, WORDS)),
    "more words than the task": Logits(lambda tokens: torch.zeros(*tokens.shape, WORDS + 9)),
    "low precision": Logits(noisy),
    "half precision": Logits(lambda tokens: bag(tokens).bfloat16()),
    "words that cannot be": Logits(impossible),
    "whole numbers": Says(lambda given: given.astype(np.int16)),
}


@pytest.mark.parametrize("predictor", HONEST.values(), ids=HONEST)
def test_honest_predictors_are_taken(predictor: Predictor) -> None:
    check(predictor, TASK, 64, 1)


WRONG = {
    "knows the next token": (
        Logits(lambda tokens: bag(tokens, shift=1)),
        r"at token \d+ changes by up to .* only earlier ones may count",
    ),
    "knows the whole": (Logits(lambda tokens: bag(tokens).flip(1)), "only earlier ones"),
    "knows how long it is": (
        Logits(lambda tokens: bag(tokens) * tokens.shape[1]), "only earlier ones"
    ),
    "knows what cannot be": (
        Logits(lambda tokens: torch.where(bag(tokens, shift=1) > 0, 0.0, -torch.inf)),
        "changes by up to inf",
    ),
    "draws": (
        Logits(lambda tokens: torch.rand(*tokens.shape, WORDS, generator=STREAM)),
        "nothing at random",
    ),
    "no time": (
        Logits(lambda tokens: torch.zeros(len(tokens), WORDS)),
        rf"Logits.logits gave \(2, {WORDS}\) for tokens \(2, 63\): give \[batch, time, vocab",
    ),
    "few words": (
        Logits(lambda tokens: torch.zeros(*tokens.shape, 5)), rf"here \(2, 63, {WORDS}\)"
    ),
    "an array": (Logits(lambda tokens: bag(tokens).numpy()), "gave a ndarray: give a torch tensor"),
    "nan": (Logits(lambda tokens: bag(tokens) * torch.nan), "gave NaN"),
    "fractions": (Says(lambda given: given + 0.5), "Says generated float64: give token ids"),
}  # fmt: skip
STREAM = torch.Generator()


@pytest.mark.parametrize(("predictor", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_scored_is_refused_in_one_line(predictor: Predictor, message: str) -> None:
    with pytest.raises(PredictorError, match=message) as error:
        check(predictor, TASK, 64, 1)
    assert "\n" not in str(error.value)


def test_scattered_answers_are_checked_as_well() -> None:
    task = make(Recall, layout="zoology")
    words = len(task.vocabulary)

    def one_hot(tokens: torch.Tensor, shift: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(tokens, words).float().roll(-shift, dims=1)

    check(Logits(lambda tokens: one_hot(tokens, 0)), task, 64, 1)
    with pytest.raises(PredictorError, match="only earlier ones"):
        check(Logits(lambda tokens: one_hot(tokens, 1)), task, 64, 1)


def test_the_example_file_holds() -> None:
    for name in ("Uniform", "ReadsTheHead"):
        kind = find_class(f"{EXAMPLE}:{name}", {}, Predictor, "predictor")
        check(kind(TASK), TASK, 64, 1)


def test_the_command_scores_the_example_and_says_why_it_refuses(run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOOKS_AHEAD)
    arguments = ["run", "--task", "recite", "--test-contexts", "64,96", "--test-examples", "50"]
    code, output, errors = run(*arguments, "--predictor", f"{EXAMPLE}:ReadsTheHead", "--out", "r")
    assert code == 0, errors
    assert [line.split()[:4] for line in output.decode().splitlines()[1:3]] == [
        ["64", "1.000", "0.033", "1.000"], ["96", "1.000", "0.033", "1.000"],
    ]  # fmt: skip
    (path,) = (tmp_path / "r").glob("*/record.json")
    record = read_record(path)
    assert record["notes"] == [
        "only generates: every score is of its own text, none is teacher-forced"
    ]
    code, _, errors = run(*arguments, "--predictor", "own.py:LooksAhead", "--out", "s")
    assert code == 1
    assert "failed: PredictorError: LooksAhead.logits at token" in errors
    (path,) = (tmp_path / "s").glob("*/record.json")
    assert read_record(path)["evaluations"] == []
