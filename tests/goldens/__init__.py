"""Golden figures: what a version of a task, a mixer and the protocol means, in numbers.

    python tests/goldens/write.py     writes what is new or has a higher version

`figures.py` makes figures with the code of a run, `kept.py` stores and compares them, and
`tests/test_goldens.py` checks them: writer and checker share all of it.
"""
