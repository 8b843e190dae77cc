"""Outside models: what is scored, and what is refused before anything is scored. 10 s."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from reading import make

from rulekeep.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    Predictor,
    Reading,
    evaluate_samples,
)
from rulekeep.predicting import PredictorError, _Held, check
from rulekeep.registry import find_class
from rulekeep.store import read_record
from rulekeep.tasks import Apply, Override, Recall, Recite, Sample

EXAMPLE = Path(__file__).parent.parent / "examples" / "outside_model.py"
KVPRESS = find_class(
    f"{EXAMPLE.with_name('language_model.py')}:Kvpress", {}, Predictor, "predictor"
)
# Without Hugging Face, which only makes the class in front of it.
LANGUAGE_MODEL = KVPRESS.__base__
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


LATE = """
import torch
from rulekeep.evaluation import LogitsPredictor
class Late(LogitsPredictor):
    def __init__(self, task):
        self.words = len(task.vocabulary)
    def logits(self, tokens):
        def bag(tokens):
            return torch.nn.functional.one_hot(tokens, self.words).float()
        return bag(tokens) if tokens.shape[1] < 70 else LATE
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


class Reads(Predictor):
    """What a function makes of a whole example."""

    def __init__(self, of) -> None:
        self._of = of

    def read(self, sample: Sample) -> Reading:
        return self._of(sample)


def right(sample: Sample) -> Reading:
    return Reading(0.0, sample.answers, None)


HONEST = {
    "counts": Logits(bag),
    "uniform": Logits(lambda tokens: torch.zeros(*tokens.shape, WORDS)),
    "more words than the task": Logits(lambda tokens: torch.zeros(*tokens.shape, WORDS + 9)),
    "low precision": Logits(noisy),
    "half precision": Logits(lambda tokens: bag(tokens).bfloat16()),
    "words that cannot be": Logits(impossible),
    "whole numbers": Says(lambda given: given.astype(np.int16)),
    "words that the task has not": Says(lambda given: np.full_like(given, -1)),
    "a gradient": Logits(lambda tokens: bag(tokens).requires_grad_()),
    "readings": Reads(right),
    "a filler where nothing is asked": Reads(
        lambda sample: right(sample)._replace(
            predictions=np.where(sample.supervised, sample.answers, -100)
        )
    ),
}


@pytest.mark.parametrize("predictor", HONEST.values(), ids=HONEST)
def test_honest_predictors_are_taken(predictor: Predictor) -> None:
    check(predictor, TASK, 64, 1)


def test_a_filler_is_taken_where_nothing_is_asked_and_not_elsewhere() -> None:
    task = make(Recall, layout="zoology")
    asked = task.sample("test", 64, 2, seed=1).supervised
    assert not asked.all()
    check(HONEST["a filler where nothing is asked"], task, 64, 1)
    fills = Reads(lambda sample: right(sample)._replace(predictions=sample.answers * 0 - 100))
    with pytest.raises(PredictorError, match="predictions has -100"):
        check(fills, task, 64, 1)


def test_one_example_is_tried_where_two_are_more_than_is_read_at_once() -> None:
    tried = []

    def counts(tokens: torch.Tensor) -> torch.Tensor:
        tried.append(tuple(tokens.shape))
        return torch.zeros(*tokens.shape, WORDS)

    check(Logits(counts), TASK, 40_000, 1)
    assert tried[0] == (1, 39_999)


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
    "nan": (Logits(lambda tokens: bag(tokens) * torch.nan), "gave NaN at 63 tokens"),
    "nothing finite": (Logits(lambda tokens: bag(tokens) - torch.inf), "no finite logit at 63 tok"),
    "complex": (Logits(lambda tokens: bag(tokens) * 1j), "gave complex numbers"),
    "fractions": (
        Says(lambda given: given + 0.5), "Says at 64 tokens: generated is float64: give token ids"
    ),
    "words": (Says(lambda given: given.astype(str)), "generated is <U21: give token ids"),
    "ids below": (Says(lambda given: np.full_like(given, -5)), "generated has -5: give token ids"),
    "ids above": (
        Says(lambda given: np.full_like(given, WORDS)), rf"has {WORDS}: .* to {WORDS - 1}, or -1"
    ),
    "no reading": (Reads(lambda sample: None), "read gave a NoneType: give Reading"),
    "nothing read": (Reads(lambda sample: Reading(None, None, None)), "nor generates"),
    "a list": (
        Reads(lambda sample: Reading(None, sample.answers.tolist(), None)), "predictions is a list"
    ),
    "few answers": (
        Reads(lambda sample: right(sample)._replace(predictions=sample.answers[:, 1:])),
        r"predictions is \(2, 4\): give answers, here \(2, 5\)",
    ),
    "a loss below 0": (Reads(lambda sample: right(sample)._replace(loss=-1.0)), "its loss is -1.0"),
    "a tensor": (
        Reads(lambda sample: right(sample)._replace(loss=torch.tensor(1.0))), "its loss is tensor"
    ),
}  # fmt: skip
STREAM = torch.Generator()


@pytest.mark.parametrize(("predictor", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_scored_is_refused_in_one_line(predictor: Predictor, message: str) -> None:
    with pytest.raises(PredictorError, match=message) as error:
        check(predictor, TASK, 64, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("late", "message"),
    [
        ("bag(tokens).roll(-1, dims=1)", r"only earlier ones may count, .* a GeneratingPredictor$"),
        ("bag(tokens) * torch.nan", "gave NaN at 95 tokens"),
        ("bag(tokens)[..., :5]", r"gave \(2, 95, 5\)"),
    ],
)
def test_what_is_wrong_at_the_longest_context_alone_is_refused(
    run, tmp_path: Path, late: str, message: str
) -> None:
    (tmp_path / "own.py").write_text(LATE.replace("LATE", late))
    code, _, errors = run(
        "run", "--task", "recite", "--test-contexts", "64,96", "--test-examples", "5",
        "--predictor", "own.py:Late", "--out", "s",
    )  # fmt: skip
    assert code == 1
    (path,) = (tmp_path / "s").glob("*/record.json")
    assert re.search(message, read_record(path)["reason"])
    assert "failed: PredictorError: Late.logits" in errors


def test_what_is_wrong_in_a_later_example_alone_is_no_wrong_answer() -> None:
    sample = TASK.sample("test", 64, 4, seed=1)
    seen = []

    def fades(tokens: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        return bag(tokens) * (torch.nan if len(tokens) > 2 else 1.0)

    check(Logits(fades), TASK, 64, 1)
    with pytest.raises(PredictorError, match=r"Logits at 64 tokens: its loss is nan: .* numbers\?"):
        _Held(Logits(fades), WORDS).read(sample)
    assert max(seen) == 4


def test_scattered_answers_are_checked_as_well() -> None:
    task = make(Recall, layout="zoology")
    words = len(task.vocabulary)

    def one_hot(tokens: torch.Tensor, shift: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(tokens, words).float().roll(-shift, dims=1)

    check(Logits(lambda tokens: one_hot(tokens, 0)), task, 64, 1)
    with pytest.raises(PredictorError, match="only earlier ones"):
        check(Logits(lambda tokens: one_hot(tokens, 1)), task, 64, 1)


class Understands(LANGUAGE_MODEL):
    """Replies by what the text says of itself: of its rules nothing else is known here."""

    def reply(self, text: str, question: str, so_far: str, words: int) -> str:
        how, _, text = text.rpartition("\n\nNow this text:\n")
        how, _, asked = question.removesuffix("\nAnswer:").rpartition("\n")
        self.asked = asked.split()
        kind = re.search(r"words that begin with (\w+-)", how)[1]
        count = int(re.search(r"the (?:first )?(\d+) words", how)[1])
        told = [word for word in text.split() if word in self.number]
        marked = "after the cue <rule>" in how
        places = [
            place
            for place, word in enumerate(told)
            if word.startswith(kind) and (not marked or told[place - 1] == "<rule>")
        ]
        places = places[:count]
        return " ".join(getattr(self, self.task.name)(told, places, marked, so_far.split())[:words])

    def recite(self, told: list[str], places: list[int], marked: bool, _: list[str]) -> list[str]:
        items = [p for p, word in enumerate(told) if word.startswith("item-")]
        items = [p for p in items if not marked or told[p - 1] == "<rule>"]
        return [*(told[place] for place in places), told[items[0]]]

    def recall(self, told: list[str], places: list[int], _: bool, so_far: list[str]) -> list[str]:
        return [next(told[place + 1] for place in places if told[place] == so_far[-1])]

    def apply(self, told: list[str], places: list[int], *_: object) -> list[str]:
        number = {told[place]: _number(told[place]) for place in places}
        return self._shown({r % len(places): f"shows-{r}" for r in number.values()}, len(places))

    def override(self, told: list[str], places: list[int], *_: object) -> list[str]:
        m = len(places) + len(places) // 2
        revised = [place + 1 for place, word in enumerate(told) if word == "<revise>"]
        shown = {a: f"default-{a}" for a in range(m)}
        for place in sorted({*places, *revised}):
            r = _number(told[place])
            shown[r % m] = "<none>" if r < m else f"shows-{r}"
        return self._shown(shown, m)

    def _shown(self, shown: dict[int, str], m: int) -> list[str]:
        said = []
        for item in self.asked[1:-1]:
            said.append(item)
            said += [shown[a] for a in range(m) if a % 2 == _number(item) % 2]
        return said


def _number(word: str) -> int:
    return int(word.rpartition("-")[2])


@pytest.mark.parametrize("placement", ["early", "marked"])
@pytest.mark.parametrize("kind", [Recite, Apply, Override, Recall])
def test_the_text_for_a_language_model_tells_all_that_a_task_asks(kind, placement: str) -> None:
    task = make(kind, placement=placement)
    row = evaluate_samples(Understands(task), task, "test", 128, 64, 0)
    assert (row["retention"], row["exact"]) == (1, 1)


def test_a_reply_that_is_no_answer_is_a_wrong_one() -> None:
    class Talks(LANGUAGE_MODEL):
        def reply(self, text: str, question: str, so_far: str, words: int) -> str:
            return "Sure! rule-5, rule-6; and"

    sample = TASK.sample("test", 64, 2)
    said = Talks(TASK).read(sample).generated
    number = TASK.vocabulary.index
    assert said.tolist() == [[-1, number("rule-5"), number("rule-6"), -1, -1]] * 2


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
