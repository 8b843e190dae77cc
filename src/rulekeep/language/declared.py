"""What the files of a model say before its weights are read: what it is, and how long it reads.

    check_positions(Path("./smollm"), distance=512)
    model_digest(Path("./smollm"))

All else is looked at once the model is loaded. No torch.
"""

import hashlib
import json
from pathlib import Path

from rulekeep.language.contract import ROOM
from rulekeep.specs import UsageError

_WEIGHTS = (".safetensors", ".bin", ".gguf")
_READ = (*_WEIGHTS, ".json", ".jinja", ".model", ".txt")
# Enough to tell models apart, without reading gigabytes.
_READ_BYTES = 2**20


def check_positions(place: Path, distance: int) -> None:
    """Checks that a conversation with so many tokens of chat fits, as far as a folder says it."""
    if place in model_files(place):
        return
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {place}: has no config.json ({error}); name a model") from None
    known = (config.get("text_config") or config).get("max_position_embeddings")
    if known is not None and distance + ROOM > known:
        raise UsageError(
            f"distance {distance}: the model has {known} positions, and a request needs {ROOM} of "
            "them; give shorter distances"
        )


def model_files(place: Path) -> list[Path]:
    """The files of a model that are read."""
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
    """What identifies a model: its configuration, and the sizes and ends of its weights."""
    total = hashlib.sha256()
    for path in model_files(place):
        size = path.stat().st_size
        with path.open("rb") as file:
            total.update(f"{path.suffix} {size}\n".encode() + file.read(_READ_BYTES))
            file.seek(max(0, size - _READ_BYTES))
            total.update(file.read(_READ_BYTES))
    return total.hexdigest()[:12]
