"""One spec made into one record: `run.py` tells it whole. torch is loaded by what computes."""
