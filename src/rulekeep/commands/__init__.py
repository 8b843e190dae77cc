"""The commands, a file for each group: parse, call, print. Only what trains loads torch."""
