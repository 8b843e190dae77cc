"""Rules in words inside other harnesses: the files that each of them reads."""
