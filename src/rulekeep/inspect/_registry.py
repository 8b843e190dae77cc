"""What Inspect finds by the entry point: `rulekeep/compaction` and `rulekeep/language`."""

from rulekeep.harness import needs

# Inspect shows it in one line.
needs("inspect-ai", "0.3.285")

from rulekeep.inspect.task import compaction, language  # noqa: E402

__all__ = ["compaction", "language"]
