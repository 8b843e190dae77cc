"""Where a run loses its rules: probes of its state, traces of what each token writes."""
