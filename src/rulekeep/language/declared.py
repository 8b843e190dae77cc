"""What the files of a model say before its weights are read: what it is, and if it can be asked.

    check_declared(Path("./smollm"), distance=512)
    model_digest(Path("./smollm"))

A folder says it in JSON, a GGUF file in its header. What they leave out is looked at once the model
is loaded. No torch.
"""

import hashlib
import json
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.language.contract import ROOM
from rulekeep.specs import UsageError

NO_TEMPLATE = "its tokenizer has no chat template; name a chat model"
SLIDES = "attends over a sliding window; name one that sees all tokens"
NO_CACHE = (
    "keeps a state that is no cache of keys and values; name one in which every layer attends"
)
_WEIGHTS = (".safetensors", ".bin", ".gguf")
_READ = (*_WEIGHTS, ".json", ".jinja", ".model", ".txt")
# Enough to tell models apart, without reading gigabytes.
_READ_BYTES = 2**20


class _Declared(NamedTuple):
    has_template: bool
    # None where nothing is said.
    positions: int | None
    layers: tuple[str, ...] = ()


def check_declared(place: Path, distance: int) -> None:
    """Checks the chat template, the positions and the layers of a model.

    Raises:
        UsageError: there is no model, or a conversation with so many tokens of chat cannot be put
            to it.
    """
    model_files(place)
    known = _of_folder(place) if place.is_dir() else _of_gguf(place, place.stat().st_mtime_ns)
    if known is None:
        return
    if not known.has_template:
        raise UsageError(f"--model {place}: {NO_TEMPLATE}")
    other = set(known.layers) - {"full_attention"}
    if other:
        slides = other & {"sliding_attention", "chunked_attention"}
        raise UsageError(f"--model {place}: {SLIDES if slides else NO_CACHE}")
    if known.positions is not None and distance + ROOM > known.positions:
        raise UsageError(
            f"distance {distance}: the model has {known.positions} positions, and a request needs "
            f"{ROOM} of them; give shorter distances"
        )


def _of_folder(place: Path) -> _Declared:
    if not (place / "config.json").is_file():
        raise UsageError(
            f"--model {place}: has no config.json; name the folder of a model, or a GGUF file"
        )
    config = _read(place / "config.json")
    config = config.get("text_config") or config
    more = (place / "chat_template.jinja", place / "additional_chat_templates")
    layers = config.get("layer_types") or ()
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        layers = layers or ("sliding_attention",)
    has_template = bool(_read(place / "tokenizer_config.json").get("chat_template"))
    return _Declared(
        has_template or any(path.exists() for path in more),
        config.get("max_position_embeddings"),
        tuple(layers),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Transformers says what is wrong with it.
        return {}
    return known if isinstance(known, dict) else {}


@lru_cache
def _of_gguf(place: Path, changed: int) -> _Declared | None:
    del changed
    gguf: Any = import_module("gguf")
    try:
        fields = gguf.GGUFReader(place).fields
    except ValueError:
        # Transformers says what is wrong with it.
        return None

    def value(key: str) -> Any:
        return fields[key].contents() if key in fields else None

    positions = value(f"{value('general.architecture')}.context_length")
    return _Declared(bool(value("tokenizer.chat_template")), positions)


def model_files(place: Path) -> list[Path]:
    """The files of a model that are read.

    Raises:
        UsageError: there is none.
    """
    if not place.exists():
        raise UsageError(
            f"--model {place}: there is no such folder or file, and nothing is downloaded; "
            "get one first, as in hf download Qwen/Qwen3-0.6B --local-dir qwen"
        )
    if place.is_file() and place.suffix != ".gguf":
        raise UsageError(f"--model {place}: is no .gguf; name the folder, {place.parent}")
    listed = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [path for path in listed if path.suffix in _READ and path.is_file()]
    if not any(path.suffix in _WEIGHTS for path in found):
        raise UsageError(f"--model {place}: has no weights; name a folder that has some, or a GGUF")
    return found


def model_digest(place: Path) -> str:
    """What identifies a model: its configuration, and the sizes and ends of its weights.

    Raises:
        UsageError: there is none.
    """
    total = hashlib.sha256()
    for path in model_files(place):
        size = path.stat().st_size
        with path.open("rb") as file:
            total.update(f"{path.suffix} {size}\n".encode() + file.read(_READ_BYTES))
            file.seek(max(0, size - _READ_BYTES))
            total.update(file.read(_READ_BYTES))
    return total.hexdigest()[:12]
