"""Shared by all tests: one thread, and no test may leave the global streams changed."""

import random

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_streams() -> None:
    """Every test starts from the same global streams and arithmetic, whatever ran before it."""
    # A run in this process sets it, and hypothesis refuses to draw floats then.
    torch.set_flush_denormal(False)
    random.seed(0)
    torch.manual_seed(0)
