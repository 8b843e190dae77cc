"""Named random streams: every consumer gets a seed made from its name."""

import hashlib
import json


def named_seed(*names: object) -> int:
    """A seed made from these names; other consumers do not change it."""
    text = json.dumps([str(name) for name in names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
