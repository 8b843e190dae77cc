"""A language model that you have, with its KV cache compressed or not, on the tasks as text:

    pip install kvpress
    rulekeep run --predictor examples/language_model.py:SnapKV --task recite --test-contexts 256 \
        --test-examples 64 --out runs/snapkv

`LanguageModel` turns tasks into text and replies into answers: give it `reply`, and any model
will do. `Kvpress` does it by Hugging Face and kvpress, which compresses the cache once the text is
read; then comes the question, so that what is forgotten are the rules and not how to answer. Copy
a class below with another `name` or press: each is a run of its own.
"""

from abc import abstractmethod
from typing import Any

import numpy as np

from rulekeep.evaluation import GeneratingPredictor
from rulekeep.tasks import SampledTask

# What a text says of its own rules; {} are the task's options.
WHERE = {
    "early": "the first {rules} words that begin with {rule}",
    "marked": "the {rules} words that begin with {rule} right after the cue <rule>",
}
ATTRIBUTES = (
    "There are {attributes} attributes, numbered from 0. rule-r sets attribute r modulo "
    "{attributes}. Attribute a concerns items of kind a modulo {kinds}; item-i is of kind i modulo "
    "{kinds}. {shows} For each item after <ask> in turn say the item, then what each of its "
    "attributes shows, in the order of attributes."
)
HOW = {
    "recite": "The instructions are {where}, and one item in the same way. All other words mean "
    "nothing. Say the rules in the order in which they stand, then the item.",
    "apply": "The instructions are {where}. All others mean nothing. " + ATTRIBUTES,
    "override": "The instructions are {where}, and those right after <revise>, each of which "
    "replaces what stood for its attribute. All others mean nothing. " + ATTRIBUTES,
    "recall": "The instructions are {where}, each with the word after it, its value. All other "
    "words mean nothing. Say the value of each key.",
}
SHOWS = {
    "apply": "It then shows shows-r.",
    "override": "It then shows shows-r, or <none> if r is less than {attributes}; an attribute a "
    "that no rule sets shows default-a.",
}


def explained(task: SampledTask) -> str:
    """How to answer, in words; of a task of your own nothing but what the examples show."""
    options: dict[str, Any] = task.options.model_dump()
    rules = options.get("rules", 0)
    options |= {
        "rule": "key-" if task.name == "recall" else "rule-",
        "attributes": getattr(task.options, "attributes", rules),
    }
    options["where"] = WHERE.get(options.get("placement", ""), "").format(**options)
    options["shows"] = SHOWS.get(task.name, "").format(**options)
    return HOW.get(task.name, "").format(**options)


class LanguageModel(GeneratingPredictor):
    """Answers in words, as a model replies in text."""

    # Answered texts of train, as short as the task has them, that go before the question.
    shots = 2

    def __init__(self, task: SampledTask) -> None:
        self.task = task
        self.number = {word: number for number, word in enumerate(task.vocabulary)}
        examples = []
        sample = task.sample("train", task.shortest_context, self.shots)
        for row in sample.tokens:
            prompt, answer = row[: sample.answer_start], row[sample.answer_start :]
            examples.append(f"{self._said(prompt)}\nAnswer: {self._said(answer)}")
        self.how = "\n\n".join([explained(task), *examples]).strip()

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
        # The request is the end of the prompt: from <ask> on, where there is one, or <go>.
        cue = self.number["<ask>" if "<ask>" in self.number else "<go>"]
        start = int(np.append(np.flatnonzero(prompt == cue), len(prompt))[0])
        text = f"{self.how}\n\nNow this text:\n{self._said(prompt[:start])}"
        question = f"\n{explained(self.task)}\n{self._said(prompt[start:])}\nAnswer:"
        answer = np.where(is_given, given, -1)
        place = 0
        while place < len(answer):
            if is_given[place]:
                place += 1
                continue
            end = next((p for p in range(place, len(answer)) if is_given[p]), len(answer))
            reply = self.reply(text, question, self._said(answer[:place]), end - place)
            said = [self.number.get(word.strip(",.;"), -1) for word in reply.split()]
            said = said[: end - place]
            answer[place : place + len(said)] = said
            place = end
        return answer

    def _said(self, tokens: np.ndarray) -> str:
        return " ".join(self.task.vocabulary[token] if token >= 0 else "?" for token in tokens)


class Kvpress(LanguageModel):
    """A model of Hugging Face, its cache whole."""

    name = "Qwen/Qwen3-0.6B"

    def __init__(self, task: SampledTask) -> None:
        super().__init__(task)
        # Imported here: importing kvpress is what makes this pipeline known.
        import kvpress
        from transformers import pipeline

        self.compression = self.press(kvpress)
        self.pipeline = pipeline(
            "kv-press-text-generation", model=self.name, device_map="auto", dtype="auto"
        )

    def press(self, kvpress: Any) -> Any:
        """What compresses the cache; None is nothing."""
        del kvpress
        return None

    def reply(self, text: str, question: str, so_far: str, words: int) -> str:
        """Greedy: the first words are what counts."""
        reply = self.pipeline(
            text,
            question=question,
            answer_prefix=so_far,
            press=self.compression,
            max_new_tokens=8 * words,
        )
        return str(reply["answer"])


class SnapKV(Kvpress):
    """The same with half its cache, chosen by the attention of the last queries."""

    def press(self, kvpress: Any) -> Any:
        """After https://arxiv.org/abs/2404.14469."""
        return kvpress.SnapKVPress(compression_ratio=0.5)


class StreamingLLM(Kvpress):
    """The same with half its cache: the first tokens and the last."""

    def press(self, kvpress: Any) -> Any:
        """After https://arxiv.org/abs/2309.17453."""
        return kvpress.StreamingLLMPress(compression_ratio=0.5)
