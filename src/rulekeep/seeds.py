"""Random streams are named: a seed for each consumer, from what it is for."""

import hashlib
import json


def named_seed(*names: object) -> int:
    """A seed for one random consumer, from what it is for: other consumers change nothing."""
    text = json.dumps([str(name) for name in names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
