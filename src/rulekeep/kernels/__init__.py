"""Exact computations that mixers share: products over chunks, recurrences, positions."""
