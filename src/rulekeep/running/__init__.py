"""One spec made into one record: `run.py` shows the whole run. Only what computes loads torch."""
