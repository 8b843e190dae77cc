"""Tasks that ask for labels: the peers' tests, read by their papers' definitions in words alone."""

import re
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Knowing, Writing
from reading import LABELLED, make
from torch import Tensor

from rulekeep.checks.sample_form import said_of_sample
from rulekeep.running.causality import AnswerCheck
from rulekeep.running.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    ModelPredictor,
    PredictorError,
    evaluate_samples,
)
from rulekeep.running.model import LanguageModel
from rulekeep.tasks import (
    Compression,
    FlipFlop,
    FuzzyRecall,
    Mqar,
    NoisyRecall,
    Registers,
    SampledTask,
    SelectiveCopy,
)
from rulekeep.tasks.export import columns
from rulekeep.tasks.mixed_recall import MixedRecall

# Each task in small, and with the options that change what it asks.
CASES: list[tuple[type[SampledTask], dict[str, Any]]] = [
    *((kind, {}) for kind in LABELLED),
    (Mqar, {"rules": 6, "updates": 4, "rule_words": 12, "items": 7}),
    (NoisyRecall, {"rules": 31}),
    (SelectiveCopy, {"rules": 15, "rule_words": 3}),
    (FuzzyRecall, {"rules": 12, "items": 9, "fillers": 3, "rule_words": 4}),
    (Compression, {"rules": 20}),
    (FlipFlop, {"rules": 32, "rule_words": 5}),
    (Registers, {"rules": 20, "rule_words": 5, "items": 7}),
]
every_case = pytest.mark.parametrize(("kind", "options"), CASES)


def _mqar(task: SampledTask, words: list[str]) -> dict[int, str]:
    options: Any = task.options
    pairs = options.rules + options.updates
    value = {words[2 * i]: words[2 * i + 1] for i in range(pairs)}
    return {i: value[word] for i, word in enumerate(words) if i >= 2 * pairs and word in value}


def _noisy_recall(task: SampledTask, words: list[str]) -> dict[int, str]:
    value: dict[str, str] = {}
    asked = {}
    for i, word in enumerate(words):
        if word.startswith("key-"):
            if word in value:
                asked[i] = value[word]
            value[word] = words[i + 1]
    return asked


def _selective_copy(task: SampledTask, words: list[str]) -> dict[int, str]:
    copied = [word for word in words if word.startswith("token-")]
    return {words.index("<copy>") + 1 + turn: word for turn, word in enumerate(copied)}


def _fuzzy_recall(task: SampledTask, words: list[str]) -> dict[int, str]:
    value: dict[str, list[int]] = {}
    asked: dict[int, str] = {}
    text = " ".join(words)
    pattern = r"((?:k-\d+ ?)+)((?:v-\d+ ?)+)"
    for found in re.finditer(pattern, text):
        start = len(text[: found.start(2)].split())
        said = found.group(2).split()
        if found.group(1).strip() in value:
            asked |= {start - 1 + i: word for i, word in enumerate(said)}
        value[found.group(1).strip()] = [start]
    return asked


def _flip_flop(task: SampledTask, words: list[str]) -> dict[int, str]:
    stack, asked = list[str](), dict[int, str]()
    for i, word in enumerate(words):
        if word == "<write>":
            stack.append(words[i + 1])
        elif word == "<undo>":
            stack.pop()
        elif word == "<read>":
            asked[i] = stack[-1]
    return asked


def _compression(task: SampledTask, words: list[str]) -> dict[int, str]:
    asked = {i: int(word[6:]) for i, word in enumerate(words) if word.startswith("place-")}
    return {i: words[place] for i, place in asked.items()}


def _registers(task: SampledTask, words: list[str]) -> dict[int, str]:
    held, asked = dict[str, str](), dict[int, str]()
    for i, word in enumerate(words):
        if word == "<set>":
            held[words[i + 1]] = words[i + 2]
        elif word == "<copy>":
            held[words[i + 1]] = held[words[i + 2]]
        elif word == "<read>":
            asked[i + 1] = held[words[i + 1]]
    return asked


READERS = {
    "compression": _compression,
    "mqar": _mqar, "noisy_recall": _noisy_recall, "fuzzy_recall": _fuzzy_recall,
    "selective_copy": _selective_copy, "flip_flop": _flip_flop, "registers": _registers,
}  # fmt: skip


@every_case
@pytest.mark.parametrize("more", [0, 37, 900])
def test_a_reader_of_the_definition_finds_every_label(
    kind: type[SampledTask], options: dict[str, Any], more: int
) -> None:
    task = make(kind, **options)
    context = task.shortest_context + more
    sample = task.sample("test", context, 20, seed=3)
    assert said_of_sample(task, sample, 20, context) is None
    exported = columns(sample)["labels"]
    for row, tokens in enumerate(sample.tokens):
        words = task.words(tokens).split()
        places = np.flatnonzero(sample.supervised[row])
        said = {
            int(sample.answer_start + place - 1): task.vocabulary[sample.answers[row, place]]
            for place in places
        }
        assert said == READERS[task.name](task, words)
        at = sample.source[row, places]
        assert np.array_equal(sample.answers[row, places], tokens[at])
        assert np.array_equal(np.flatnonzero(exported[row] != -100), places)
    assert sample.first_mention.any(axis=1).all()


# MixedRecall asks for words, and takes no options that change how it draws.
@pytest.mark.parametrize(("kind", "options"), [*CASES, (MixedRecall, {})])
def test_examples_hang_on_their_name_alone_and_splits_differ(
    kind: type[SampledTask], options: dict[str, Any]
) -> None:
    task = make(kind, **options)
    whole, part = (
        task.sample("validation", 100, n, seed=2, start=start) for n, start in ((9, 250), (3, 254))
    )
    for name in whole.tables:
        assert np.array_equal(getattr(whole, name)[4:7], getattr(part, name)), name
    for other in (task.sample("test", 100, 9, seed=2), task.sample("validation", 100, 9, seed=3)):
        assert not np.array_equal(other.tokens, whole.tokens)


@pytest.mark.parametrize("kind", LABELLED)
def test_an_oracle_scores_one_and_a_fool_zero_by_logits_and_by_generating(
    kind: type[SampledTask],
) -> None:
    task = make(kind)
    sample, words = task.sample("test", 80, 12, seed=3), len(task.vocabulary)
    everywhere = {*product(range(12), range(sample.answers.shape[1]))}
    for right, wrong in ((1, set()), (0, everywhere)):
        oracle = Knowing(sample, words, wrong, labelled=True)
        says = Writing(oracle)
        for predictor in (oracle, says):
            row = evaluate_samples(predictor, task, "test", 80, 12, seed=3)
            assert row["retention"] == row["exact"] == row["token_accuracy"] == right
        # One token at a time: no text after a label is told, as it may hold the answer.
        assert {shape[1] for shape in says.asked} == {1}


@pytest.mark.parametrize("kind", LABELLED)
def test_who_guesses_words_of_the_kind_scores_chance(kind: type[SampledTask]) -> None:
    task = make(kind)
    sample = task.sample("test", 96, 300, seed=3)
    said = np.unique(sample.answers[sample.supervised])

    class Guesses(GeneratingPredictor):
        stream = np.random.default_rng(1)

        def generate(self, prompts: np.ndarray, *_: np.ndarray) -> np.ndarray:
            return self.stream.choice(said, (len(prompts), 1))

    row = evaluate_samples(Guesses(), task, "test", 96, 300, seed=3)
    n = sum(entry["n"] for entry in row["retention_by_step"])
    chance = 1 / len(said)
    # Who knows that no word comes twice in a value does better.
    assert (row["chance"]["retention"] > chance) is (kind is FuzzyRecall)
    assert row["retention"] == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5)


def test_who_looks_ahead_is_refused_though_the_answer_is_the_next_word() -> None:
    task = make(NoisyRecall)

    class LooksAhead(LogitsPredictor):
        def logits(self, tokens: Tensor) -> Tensor:
            after = torch.nn.functional.one_hot(tokens.roll(-1, 1), len(task.vocabulary))
            return 9.0 * after.float()

    with pytest.raises(PredictorError, match="causality check failed"):
        evaluate_samples(LooksAhead(), task, "test", 80, 40, seed=0)


def test_sixteen_texts_of_an_evaluation_are_compared() -> None:
    task = make(SelectiveCopy)
    check = AnswerCheck("x", exact=True)
    predictor = ModelPredictor(LanguageModel(len(task.vocabulary), "delta", width=16))
    for number in range(3):
        assert check.rows_of_labelled(10) == (10, 6, 0)[number]
        predictor.read(task.sample("test", 70, 10, start=10 * number), check)
    assert check.fault() is None


def test_keys_stand_among_the_fillers_of_the_published_form_alone() -> None:
    plain, published = make(Mqar), make(Mqar, key_fillers=True)
    samples = [task.sample("test", 256, 200) for task in (plain, published)]
    again = []
    for task, sample in zip((plain, published), samples, strict=True):
        asked = np.zeros(sample.tokens.shape, dtype=bool)
        asked[:, sample.answer_start - 1 : -1] = sample.supervised
        after = np.zeros_like(asked)
        after[:, 32:] = ~asked[:, 32:]
        keys = sample.tokens[:, :32:2]
        is_key = (sample.tokens[:, :, None] == keys[:, None, :]).any(-1)
        again.append((is_key & after).sum() / after.sum())
        said = READERS["mqar"](task, task.words(sample.tokens[0]).split())
        for place in np.flatnonzero(sample.supervised[0]):
            label = task.vocabulary[sample.answers[0, place]]
            assert said[sample.answer_start + place - 1] == label
    # Of 128 keys and 128 values, 16 are keys of the text.
    assert again == [0, pytest.approx(1 / 16, abs=0.005)]
