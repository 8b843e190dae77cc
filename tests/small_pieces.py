"""Mixers that read in small pieces, each of which the backward pass computes again."""

import pytest

from rulekeep.kernels import pieces


def pieces_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of so many rows, as in a long text."""
    monkeypatch.setattr(pieces, "_ROWS_AT_ONCE", rows)
    monkeypatch.setattr(pieces, "_NUMBERS_KEPT", 0)
