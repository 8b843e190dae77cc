"""What tasks of lm-evaluation-harness share: the model's tokenizer, and texts that stay whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.utils import resolve_max_length
from transformers import AutoConfig, AutoTokenizer

from rulekeep.console import EXIT_USAGE, say
from rulekeep.printable import counted
from rulekeep.specs import UsageError

Document: TypeAlias = Mapping[str, Any]
_LOADED = ("revision", "trust_remote_code", "gguf_file")


class Whole(ConfigurableTask):  # type: ignore[misc]
    """A task whose text is whole: no template, instruction or example goes around it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def fewshot_context(self, doc: Document, *_: object, **__: object) -> str:
        """The context of a document."""
        return str(doc["text"])


class Reader:
    """What the harness reads with, by `--model_args`: a tokenizer, and so many positions."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = str(settings.get("tokenizer") or settings.get("pretrained") or "")
        if not self.name:
            raise UsageError("--model_args: names no tokenizer; give pretrained= or tokenizer=")
        more = {key: settings[key] for key in _LOADED if key in settings}
        self.tokenizer = AutoTokenizer.from_pretrained(self.name, **more)
        model = settings.get("pretrained")
        config = model and AutoConfig.from_pretrained(model, **more)
        longest = resolve_max_length(config or None, self.tokenizer)
        self.longest = settings.get("max_length") or longest
        self._added = settings.get("add_bos_token")

    def check(self, context: str, reply: str, own: tuple[int, list[int]] | None = None) -> None:
        """Raise where the harness would cut a text, or score other tokens than rulekeep's `own`."""
        before, whole = self._encoded(context), self._encoded(context + reply)
        if len(whole) > self.longest:
            raise UsageError(
                f"model: a text has {len(whole)} tokens, and the model {self.longest} positions; "
                "give a shorter distance or context in --metadata"
            )
        if whole[: len(before)] != before or own not in (None, (len(before), whole)):
            raise UsageError(
                f"model: the harness reads other tokens before {reply!r} than rulekeep; add "
                "add_bos_token=False to --model_args, or leave the family out of families"
            )

    def check_words(self, words: Sequence[str]) -> None:
        """Raise where two words are the same tokens: whoever says one would say the other."""
        known: dict[tuple[int, ...], str] = {}
        for word in words:
            other = known.setdefault(tuple(self._encoded(word)), word)
            if other != word:
                raise UsageError(
                    f"model: its tokenizer reads {other!r} and {word!r} alike; it lacks words of "
                    "this task, so make one of them"
                )

    def _encoded(self, text: str) -> list[int]:
        begun = self.tokenizer.bos_token or self.tokenizer.eos_token
        added = False if begun and text.startswith(begun) else self._added
        more = {} if added is None else {"add_special_tokens": added}
        ids: list[int] = self.tokenizer.encode(text, **more)
        return ids


def documents(
    rows: Callable[[str, Reader, Mapping[str, Any]], Iterator[dict[str, Any]]],
    options: Sequence[str], task: str, settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The documents of a task, and a line that says what was asked for."""
    given = {key: settings[key] for key in options if key in settings}
    try:
        made = list(rows(task, Reader(settings), given))
    except UsageError as error:
        # Else a user would see where in the harness it was raised.
        say(f"rulekeep: {error}")
        raise SystemExit(EXIT_USAGE) from None
    said = ", ".join(f"{key} {value}" for key, value in given.items()) or "defaults"
    say(f"rulekeep_{task}: {counted(len(made), 'document')}; {said}")
    return {"test": Dataset.from_list(made)}
