"""Named random streams: every consumer gets a seed made from its name."""

import hashlib
import json

# Streams keep the word that split was called by: another would draw other examples.
_DRAWN_AS = {"validation": "dev"}


def split_name(split: str) -> str:
    """A split in the names of random streams."""
    return _DRAWN_AS.get(split, split)


def named_seed(*names: object) -> int:
    """A seed made from these names; other consumers do not change it."""
    text = json.dumps([str(name) for name in names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
