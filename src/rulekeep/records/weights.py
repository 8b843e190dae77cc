"""Kept weights, checked without torch: the hash of a file of tensors, and whether it is whole.

The hash covers names, types, shapes and numbers. The same weights have the same hash, whatever else
the file holds. It stands in the file and in the record of the run.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, deserialize

from rulekeep.records.pack import CorruptRecordError

# What torch calls a type, by its name in a file.
TYPES = {
    "BOOL": "bool",
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def digest(content: bytes) -> str:
    """A SHA-256 of the tensors of a file, in the order of their names."""
    total = hashlib.sha256()
    parts = deserialize(content)  # type: ignore[no-untyped-call]
    for name, part in sorted(parts, key=lambda pair: pair[0]):
        kind = f"torch.{TYPES.get(part['dtype'], part['dtype'])}"
        total.update(f"{name}\0{kind}\0{tuple(part['shape'])}\0".encode())
        total.update(part["data"])
    return total.hexdigest()


def check_weights(path: Path, sha256: str | None) -> tuple[bytes, Mapping[str, str]]:
    """The content of a file of weights, and what it says of itself; raise unless it is whole.

    `sha256` is the hash in the record of the run.

    Raises:
        CorruptRecordError: it is damaged, or of another training.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        known = digest(content)
    except SafetensorError as error:
        said = " ".join(str(error).split())[:200]
        raise CorruptRecordError(f"{path.name}: damaged ({said})") from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = header.get("__metadata__") or {}
    if known != about.get("sha256"):
        raise CorruptRecordError(f"{path.name}: damaged (its hash does not match its content)")
    if sha256 is not None and known != sha256:
        raise CorruptRecordError(f"{path.name}: its hash is not the one in the record")
    return content, about
