"""What Inspect finds by the entry point: `rulekeep/compaction` and `rulekeep/language`."""

from importlib.metadata import version

from rulekeep.specs import UsageError

_LEAST = "0.3.285"

if [*map(int, version("inspect-ai").split(".")[:3])] < [*map(int, _LEAST.split("."))]:
    # Inspect shows it in one line.
    raise UsageError(
        f"inspect-ai {version('inspect-ai')}: is too old; pip install 'inspect-ai>={_LEAST}'"
    )

from rulekeep.inspect.task import compaction, language  # noqa: E402

__all__ = ["compaction", "language"]
