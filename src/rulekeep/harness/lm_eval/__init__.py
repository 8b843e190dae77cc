"""The task folder of lm-evaluation-harness: `rulekeep harness lm-eval` prints where it stands."""
