"""Tasks of Inspect: which rules its compaction keeps, and which a model obeys. Needs inspect_ai."""
