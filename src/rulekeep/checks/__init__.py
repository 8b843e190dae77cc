"""Checks a plug-in against its contract: a task in `tasks`, a mixer in `mixers`.

The causality screen of a run and the certificates of tasks are here too.
"""
