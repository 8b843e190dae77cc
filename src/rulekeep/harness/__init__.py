"""rulekeep in the harnesses that others wrote: a folder for each, in the form that it reads."""
