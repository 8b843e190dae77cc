"""A language model that you have, with its KV cache compressed or not, on the tasks as text:

    pip install kvpress
    rulekeep run --predictor examples/language_model.py:SnapKV --task recite --test-contexts 256 \
        --test-examples 64 --out runs/snapkv

`LanguageModel` turns tasks into text and replies into answers: give it `reply`, and any model
will do. `Kvpress` does it by Hugging Face and kvpress, with an instruction-tuned model that does
not think aloud. The text alone is compressed; then come how to answer, answered examples and the
request, so that what is forgotten are the rules. Copy a class below with another `name` or press:
each is a run of its own. A word of a task is some four tokens of a language model; `recall` reads
the text once for each of its values.
"""

import os
import re
from abc import abstractmethod
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np

from rulekeep.running.evaluation import GeneratingPredictor
from rulekeep.specs import UsageError
from rulekeep.tasks import SampledTask

# What a text says of its own rules; {} are the task's options.
WHERE = {
    "early": "the first {rules} words that begin with {rule}",
    "marked": "the {rules} words that begin with {rule} right after a cue <rule>",
}
ITEM = {
    "early": "the first word that begins with item-",
    "marked": "the word that begins with item- right after another cue <rule>",
}
ATTRIBUTES = (
    "There are {attributes} attributes, numbered from 0. rule-r sets the attribute whose number is "
    "r modulo {attributes}. {shows} Attribute a concerns the items of kind a modulo {kinds}, and "
    "item-i is of kind i modulo {kinds}. For each item after <ask>, in turn, say the item, then "
    "what each attribute that concerns it shows, in the order of their numbers."
)
HOW = {
    "recite": "In the text above the instructions are {where}, and {item}. All other words mean "
    "nothing. Say those rules in the order in which they stand, then the item.",
    "apply": "In the text above the instructions are {where}. All other rules there mean nothing. "
    + ATTRIBUTES,
    "override": "In the text above the instructions are {where}, and those right after a cue "
    "<revise>, each of which replaces what stood for its attribute. All other rules there mean "
    "nothing. " + ATTRIBUTES,
    "recall": "In the text above the instructions are {where}, keys, each with its value, the word "
    "after it. All other words mean nothing. Say the value of the key that stands last so far.",
}
SHOWS = {
    "apply": "An attribute that rule-r has set shows shows-r.",
    "override": "An attribute that rule-r has set last shows shows-r, or <none> if r is less than "
    "{attributes}; attribute a, if no rule has set it, shows default-a.",
}
ALONE = "Reply with these words alone, separated by spaces."


def explained(task: SampledTask) -> str:
    """How to answer, in words; of a task of your own nothing but what the examples show."""
    options: dict[str, Any] = task.options.model_dump()
    rules, placement = options.get("rules", 0), options.get("placement", "")
    options["rule"] = "key-" if task.name == "recall" else "rule-"
    options["attributes"] = getattr(task.options, "attributes", rules)
    options["where"] = WHERE.get(placement, "").format(**options)
    options["item"] = ITEM.get(placement, "")
    options["shows"] = SHOWS.get(task.name, "").format(**options)
    return f"{HOW.get(task.name, '').format(**options)} {ALONE}".strip()


class LanguageModel(GeneratingPredictor):
    """Answers in words, as a model replies in text."""

    # Answered texts of train, somewhat longer than the shortest, that go before the request.
    shots, slack = 2, 64

    def __init__(self, task: SampledTask) -> None:
        if task.labelled:
            raise UsageError(f"task {task.name!r}: asks for labels amid a text; choose recite")
        self.task = task
        self.number = {word: number for number, word in enumerate(task.vocabulary)}
        # Longest first: rule-1 is no part of rule-12.
        words = "|".join(map(re.escape, sorted(self.number, key=len, reverse=True)))
        self.words = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")
        sample = task.sample("train", task.shortest_context + self.slack, 16)
        # What may be revised is shown revised.
        revise = self.number.get("<revise>")
        telling = [row for row in sample.tokens if revise in row] or sample.tokens
        start = sample.answer_start
        examples = [
            f"An example. The text: {self.said(row[:start])}\nThe answer: {self.said(row[start:])}"
            for row in telling[: self.shots]
        ]
        self.how = "\n\n".join([explained(task), *examples])

    @abstractmethod
    def reply(self, text: str, question: str, so_far: str, words: int) -> str:
        """What the model says once it has read the text, the question and its answer so far.

        Only the text is to be compressed; `words` is how many words of the task are asked for.
        """

    def generate(self, prompts: np.ndarray, given: np.ndarray, is_given: np.ndarray) -> np.ndarray:
        """One text at a time, a reply for each part of the answer that is asked for."""
        rows = zip(prompts, given, is_given, strict=True)
        return np.stack([self._answer(*row) for row in rows])

    def _answer(self, prompt: np.ndarray, given: np.ndarray, is_given: np.ndarray) -> np.ndarray:
        # The request is the end of the prompt: from the last <ask> on, or <go>, where there is one.
        cue = self.number.get("<ask>", self.number.get("<go>", -1))
        start = int(np.append(len(prompt), np.flatnonzero(prompt == cue))[-1])
        text, request = self.said(prompt[:start]), self.said(prompt[start:])
        question = f"\n\n{self.how}\n\nNow of the text above. {request}\nThe answer:"
        answer = np.where(is_given, given, -1)
        for known, run in groupby(range(len(answer)), is_given.__getitem__):
            if known:
                continue
            places = list(run)
            reply = self.reply(text, question, self.said(answer[: places[0]]), len(places))
            found = self.words.findall(reply.rpartition("</think>")[2])
            for place, word in zip(places, found, strict=False):
                answer[place] = self.number[word]
        return answer

    def said(self, tokens: Iterable[int]) -> str:
        """Tokens as words; what was no word is left out, and <bos>, which may mean something."""
        words = (self.task.vocabulary[token] for token in tokens if token >= 0)
        return " ".join(word for word in words if word != "<bos>")


class Kvpress(LanguageModel):
    """A model of Hugging Face, its cache whole: what the others are read beside."""

    name = "Qwen/Qwen3-0.6B"

    def __init__(self, task: SampledTask) -> None:
        super().__init__(task)
        # Imported here: importing kvpress is what makes this pipeline known.
        import kvpress
        import torch
        from transformers import pipeline

        # A run has one thread, as the small models here are trained.
        torch.set_num_threads(os.cpu_count() or 1)
        self.compression = self.press(kvpress)
        self.pipeline = pipeline(
            "kv-press-text-generation", model=self.name, device_map="auto", dtype="auto"
        )

    def press(self, kvpress: Any) -> Any:
        """What compresses the cache; None is nothing."""
        del kvpress
        return None

    def reply(self, text: str, question: str, so_far: str, words: int) -> str:
        """Greedy."""
        reply = self.pipeline(
            text,
            question=question,
            answer_prefix=so_far,
            press=self.compression,
            max_new_tokens=16 + 8 * words,
        )
        return str(reply["answer"])


class SnapKV(Kvpress):
    """The same with half its cache, chosen by the attention of the text's last tokens.

    As published the prompt ends with the question, which is then among them.
    """

    def press(self, kvpress: Any) -> Any:
        """After https://arxiv.org/abs/2404.14469."""
        return kvpress.SnapKVPress(compression_ratio=0.5)


class StreamingLLM(Kvpress):
    """The same with half its cache: the first tokens and the last, placed as in the cache."""

    def press(self, kvpress: Any) -> Any:
        """After https://arxiv.org/abs/2309.17453."""
        return kvpress.KeyRerotationPress(kvpress.StreamingLLMPress(compression_ratio=0.5))
