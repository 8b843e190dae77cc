"""The commands, a file for each group: parse, call, print. torch is loaded only by what trains."""
