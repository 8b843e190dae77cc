"""Kept weights, checked without torch: their hash is that of `rulekeep.running.weights`."""

import hashlib
import json
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


def check_weights(path: Path, sha256: str | None) -> None:
    """Raise unless a file of weights is whole; `sha256` is the hash in the record of the run.

    Raises:
        CorruptRecordError: it is damaged, or of another training.
        OSError: it cannot be read.
    """
    # A named pipe would be waited for in vain.
    if not path.is_file():
        raise CorruptRecordError(f"{path.name}: not a file")
    content = path.read_bytes()
    try:
        parts = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        said = " ".join(str(error).split())[:200]
        raise CorruptRecordError(f"{path.name}: damaged ({said})") from None
    total = hashlib.sha256()
    for name, part in sorted(parts, key=lambda one: one[0]):
        kind = f"torch.{TYPES.get(part['dtype'], part['dtype'])}"
        total.update(f"{name}\0{kind}\0{tuple(part['shape'])}\0".encode())
        total.update(part["data"])
    found = total.hexdigest()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    if found != (header.get("__metadata__") or {}).get("sha256"):
        raise CorruptRecordError(f"{path.name}: damaged (its hash does not match its content)")
    if sha256 is not None and found != sha256:
        raise CorruptRecordError(f"{path.name}: its hash is not the one in the record")
