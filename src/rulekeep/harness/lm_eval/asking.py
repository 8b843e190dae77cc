"""What tasks of lm-evaluation-harness share: the model's tokenizer, and texts that stay whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeAlias

from lm_eval.api.task import ConfigurableTask

from rulekeep.console import EXIT_USAGE, say
from rulekeep.printable import counted
from rulekeep.specs import UsageError

# Options of a model that say how its tokenizer is loaded.
_LOADED = ("revision", "trust_remote_code", "gguf_file")
Documents: TypeAlias = Iterator[dict[str, Any]]


class Whole(ConfigurableTask):  # type: ignore[misc]
    """A task whose text is whole: no template, instruction or example goes around it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Takes the task's YAML."""
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def fewshot_context(self, doc: Mapping[str, Any], *_: object, **__: object) -> str:
        """The context of a document."""
        return str(doc["text"])


class Reader:
    """How the harness reads with a model: its tokenizer, and how many positions it has."""

    def __init__(self, task: str, settings: Mapping[str, Any]) -> None:
        """Takes what `--model_args` and `--metadata` say.

        Raises:
            UsageError: they name no model.
        """
        self.task = task
        self.name = str(settings.get("tokenizer") or settings.get("pretrained") or "")
        if not self.name:
            raise UsageError("--model_args: names no tokenizer; give pretrained= or tokenizer=")
        transformers: Any = import_module("transformers")
        more = {key: settings[key] for key in _LOADED if key in settings}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.name, **more)
        config = None
        if model := settings.get("pretrained"):
            config = transformers.AutoConfig.from_pretrained(model, **more)
        limits: Any = import_module("lm_eval.models.utils")
        self.longest = settings.get("max_length") or limits.resolve_max_length(
            config, self.tokenizer
        )
        self._added = settings.get("add_bos_token")

    def encoded(self, text: str) -> list[int]:
        """Token ids of a text, with what the harness adds."""
        begun = self.tokenizer.bos_token or self.tokenizer.eos_token
        added = False if begun and text.startswith(begun) else self._added
        more = {} if added is None else {"add_special_tokens": added}
        ids: list[int] = self.tokenizer.encode(text, **more)
        return ids

    def check_fits(self, tokens: int, option: str) -> None:
        """Raise UsageError where the harness would cut a text, which it does from the left."""
        if tokens > self.longest:
            raise UsageError(
                f"{self.task}: a text has {tokens} tokens, and the model {self.longest} positions; "
                f"give a shorter {option} in --metadata"
            )


def documents(
    rows: Callable[[Reader, Mapping[str, Any]], Documents],
    options: Sequence[str],
    task: str,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The documents of a task, and a line that says what was asked for.

    The harness hands over the options of the model and those of `--metadata` in one mapping, so
    one that is misspelt cannot be told from one of a model.
    """
    datasets: Any = import_module("datasets")
    given = {key: settings[key] for key in options if key in settings}
    try:
        made = list(rows(Reader(task, settings), given))
    except UsageError as error:
        # Else a user would see where in the harness it was raised.
        say(f"rulekeep: {error}")
        raise SystemExit(EXIT_USAGE) from None
    said = ", ".join(f"{key} {value}" for key, value in given.items()) or "defaults"
    say(f"rulekeep_{task}: {counted(len(made), 'document')}; {said}")
    return {"test": datasets.Dataset.from_list(made)}
