"""Typed records to typed rows: means, intervals, differences, and figures of them. No torch."""
