"""Outside models: what is scored, and what is refused before anything is scored."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from reading import SAMPLED, make

from rulekeep.records.store import read_record
from rulekeep.running.building import PREDICTORS
from rulekeep.running.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    Predictor,
    PredictorError,
    Question,
    evaluate_samples,
)
from rulekeep.running.predicting import check
from rulekeep.tasks import Apply, Override, Recall, RecallOptions, Recite

EXAMPLE = Path(__file__).parent.parent / "examples" / "outside_model.py"
KVPRESS = PREDICTORS.find(f"{EXAMPLE.with_name('language_model.py')}:Kvpress")
# Without Hugging Face, which only makes the class in front of it.
LANGUAGE_MODEL = KVPRESS.__base__
TASK = make(Recite)
WORDS = len(TASK.vocabulary)


LOOKS_AHEAD = """
import torch
from rulekeep.running.evaluation import LogitsPredictor
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


def impossible(tokens: torch.Tensor) -> torch.Tensor:
    made = bag(tokens)
    made[..., 0] = -torch.inf
    return made


class Reads(Predictor):
    """What a function makes of a question."""

    def __init__(self, of) -> None:
        self._of = of

    def read(self, question: Question) -> np.ndarray:
        return self._of(question)


def zeros(question: Question) -> np.ndarray:
    return np.zeros(question.given.shape, dtype=int)


HONEST = {
    "counts": Logits(bag),
    "uniform": Logits(lambda tokens: torch.zeros(*tokens.shape, WORDS)),
    "more words than the task": Logits(lambda tokens: torch.zeros(*tokens.shape, WORDS + 9)),
    "half precision": Logits(lambda tokens: bag(tokens).bfloat16()),
    "words that cannot be": Logits(impossible),
    "whole numbers": Says(lambda given: given.astype(np.int16)),
    "words that the task has not": Says(lambda given: np.full_like(given, -1)),
    "a gradient": Logits(lambda tokens: bag(tokens).requires_grad_()),
    "answers": Reads(zeros),
    "a filler where nothing is asked": Reads(
        lambda question: np.where(question.is_given, -100, zeros(question))
    ),
}


@pytest.mark.parametrize("predictor", HONEST.values(), ids=HONEST)
def test_honest_predictors_are_taken(predictor: Predictor) -> None:
    check(predictor, TASK, 64, 1)


SEES = r"2 of 2 teacher-forced answers differ .* see later tokens or are random; .* a Generating"
WRONG = {
    "knows the next token": (
        Logits(lambda tokens: bag(tokens, shift=1)), f"Logits: causality check .*{SEES}",
    ),
    "knows the whole": (Logits(lambda tokens: bag(tokens).flip(1)), SEES),
    "knows how long it is": (
        Logits(lambda tokens: bag(tokens).roll(tokens.shape[1], dims=2)), SEES
    ),
    "draws": (
        Logits(lambda tokens: torch.rand(*tokens.shape, WORDS, generator=STREAM)), SEES,
    ),
    "nan": (Logits(lambda tokens: bag(tokens) * torch.nan), "gave NaN for 59 tokens"),
    "nothing finite": (
        Logits(lambda tokens: bag(tokens) - torch.inf), "no finite logit for 59 tokens"
    ),
    "fractions": (
        Says(lambda given: given + 0.5),
        "Says at 64 tokens: its answers are float64: give token ids",
    ),
    "ids above": (
        Says(lambda given: np.full_like(given, WORDS)), rf"have {WORDS}: .* to {WORDS - 1}, or -1"
    ),
    "few answers": (
        Reads(lambda question: zeros(question)[:, 1:]), r"answers are \(2, 4\): give \(2, 5\)",
    ),
}  # fmt: skip
STREAM = torch.Generator()


@pytest.mark.parametrize(("predictor", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_scored_is_refused_in_one_line(predictor: Predictor, message: str) -> None:
    with pytest.raises(PredictorError, match=message) as error:
        check(predictor, TASK, 64, 1)
    assert "\n" not in str(error.value)


class Understands(LANGUAGE_MODEL):
    """Replies by what the text says of itself: no number of the task is known here."""

    def reply(self, text: str, question: str, so_far: str, words: int) -> str:
        how, *examples, request = question.strip().split("\n\n")
        assert len(examples) == 2
        assert how.startswith("In the text above the instructions are ")
        assert how.endswith("Reply with these words alone, separated by spaces.")
        count, kind = re.search(r"the (?:first )?(\d+) words that begin with (\w+-)", how).groups()
        self.marked, self.told = "right after a cue <rule>" in how, text.split()
        self.explanation = how
        self.asked = request.partition("<ask>")[2].partition("<go>")[0].split()
        places = self._places(kind)[: int(count)]
        return " ".join(getattr(self, self.task.name)(places, so_far.split())[:words])

    def _places(self, kind: str) -> list[int]:
        return [
            place
            for place, word in enumerate(self.told)
            if word.startswith(kind) and (not self.marked or self.told[place - 1] == "<rule>")
        ]

    def _has(self, sentence: str) -> re.Match[str]:
        found = re.search(sentence, self.explanation)
        assert found is not None, sentence
        return found

    def recite(self, places: list[int], _: list[str]) -> list[str]:
        self._has(r"Say those rules in the order in which they stand, then the item\.")
        self._has("item- right after another cue <rule>" if self.marked else "first word .* item-")
        return [*(self.told[place] for place in places), self.told[self._places("item-")[0]]]

    def recall(self, places: list[int], so_far: list[str]) -> list[str]:
        self._has(r"its value, the word after it.* Say the value of the key that stands last")
        return [next(self.told[place + 1] for place in places if self.told[place] == so_far[-1])]

    def apply(self, places: list[int], _: list[str]) -> list[str]:
        self._has(r"An attribute that rule-r has set shows shows-r\.")
        return self._answer_of(places, {}, 0)

    def override(self, places: list[int], _: list[str]) -> list[str]:
        self._has(
            r"right after a cue <revise>, each of which replaces what stood for its attribute"
        )
        least = int(self._has(r"shows-r, or <none> if r is less than (\d+);")[1])
        self._has(r"attribute a, if no rule has set it, shows default-a")
        revised = [place + 1 for place, word in enumerate(self.told) if word == "<revise>"]
        shown = {a: f"default-{a}" for a in range(least)}
        return self._answer_of(sorted({*places, *revised}), shown, least)

    def _answer_of(self, places: list[int], shown: dict[int, str], least: int) -> list[str]:
        many = int(self._has(r"There are (\d+) attributes")[1])
        modulo = int(self._has(r"whose number is r modulo (\d+)")[1])
        of, kinds = map(int, self._has(r"a modulo (\d+), and item-i .* i modulo (\d+)").groups())
        self._has("say the item, then what each attribute that concerns it shows, in the order")
        for place in places:
            r = _number(self.told[place])
            shown[r % modulo] = "<none>" if r < least else f"shows-{r}"
        said = []
        for item in self.asked:
            said.append(item)
            said += [shown[a] for a in range(many) if a % of == _number(item) % kinds]
        return said


def _number(word: str) -> int:
    return int(word.rpartition("-")[2])


OTHER = {"rules": 5, "outputs": 3, "kinds": 3}
TOLD = [
    *((kind, {}) for kind in SAMPLED),
    (Recite, {"rules": 7}), (Apply, OTHER), (Override, {**OTHER, "revisions": 5}),
    (Override, {"revisions": 0}), (Recall, {"rules": 8}),
]  # fmt: skip


@pytest.mark.parametrize("placement", ["early", "marked"])
@pytest.mark.parametrize(("kind", "options"), TOLD)
def test_the_text_for_a_language_model_tells_all_that_a_task_asks(
    kind, options: dict[str, int], placement: str
) -> None:
    task = make(kind, placement=placement, **options)
    row = evaluate_samples(Understands(task), task, "test", 192, 64, 0)
    assert (row["retention"], row["exact"]) == (1, 1)


def test_a_text_without_a_request_goes_to_a_language_model_whole() -> None:
    task = make(Recall, layout="zoology")
    row = evaluate_samples(Understands(task), task, "test", 64, 8, 0)
    assert (row["retention"], row["exact"]) == (1, 1)


@pytest.mark.parametrize(
    "reply",
    [
        "rule-5 rule-16, rule-5; and",
        "Answer:\n- `rule-5`\n- **rule-16**\n- [rule-5]",
        "<think>rule-1, or rule-2?</think>1. rule-5 2. rule-16 3. rule-5.",
        "Rules: rule-5,rule-16,rule-5 (not rule-166, my-rule-3 or rule-4-b)",
    ],
)
def test_words_of_a_task_are_found_in_usual_replies_and_nothing_else(reply: str) -> None:
    class Talks(LANGUAGE_MODEL):
        def reply(self, *_: object) -> str:
            return reply

    said = Talks(TASK).read(Question.of(TASK.sample("test", 64, 2)))
    five, sixteen = (TASK.vocabulary.index(word) for word in ("rule-5", "rule-16"))
    assert said.tolist() == [[five, sixteen, five, -1, -1]] * 2


def test_only_the_text_is_compressed_and_nothing_of_the_answer_is_told() -> None:
    heard = []

    class Listens(LANGUAGE_MODEL):
        def reply(self, *said: object) -> str:
            heard.append(said)
            return "" if len(heard) == 1 else "value-3"

    task = make(Recall)
    sample = task.sample("test", 96, 1)
    Listens(task).read(Question.of(sample))
    words = task.words(sample.tokens[0]).split()
    texts, questions, so_far, _ = zip(*heard, strict=True)
    assert set(texts) == {" ".join(words[1 : sample.answer_start - 1])}
    assert all(question.endswith("<go>\nThe answer:") for question in questions)
    # The keys are given; a value that was not said is left out.
    keys = words[sample.answer_start :: 2]
    assert so_far[:3] == (keys[0], f"{keys[0]} {keys[1]}", f"{keys[0]} {keys[1]} value-3 {keys[2]}")


def test_the_command_scores_the_example_and_says_why_it_refuses(run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOOKS_AHEAD)
    arguments = ["run", "--task", "recite", "--test-contexts", "64,96", "--test-examples", "50"]
    code, output, errors = run(*arguments, "--predictor", f"{EXAMPLE}:ReadsTheHead", "--out", "r")
    assert code == 0, errors
    rows = [line.split() for line in output.decode().splitlines() if "1.000" in line]
    assert [cells[:3] for cells in rows] == [
        ["64", "0.033", "1.000"], ["96", "0.033", "1.000"],
    ]  # fmt: skip
    (path,) = (tmp_path / "r").glob("*/record.json")
    record = read_record(path)
    assert record["notes"] == [
        "only generates: every score is of its own text, none is teacher-forced"
    ]
    code, _, errors = run(*arguments, "--predictor", "own.py:LooksAhead", "--out", "s")
    assert code == 1
    assert "failed: PredictorError: LooksAhead: causality check failed at 64 tokens" in errors
    (path,) = (tmp_path / "s").glob("*/record.json")
    assert read_record(path)["evaluations"] == []


def test_a_text_is_read_no_more_often_than_answers_are_asked_for() -> None:
    task, lengths = Recall(RecallOptions(layout="zoology")), list[int]()

    def counted(tokens: torch.Tensor) -> torch.Tensor:
        lengths.append(tokens.shape[1])
        return torch.zeros(*tokens.shape, len(task.vocabulary))

    row = evaluate_samples(Logits(counted), task, "test", 256, 2, seed=1)
    sample = task.sample("test", 256, 2, seed=1)
    asked = int(sample.supervised.any(axis=0).sum())
    assert len(lengths) <= 2 * asked + 1
    assert row["n"] == 2
