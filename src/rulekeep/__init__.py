"""rulekeep: which early, weak, parallel rules survive when a context is compressed."""

__version__: str


def __getattr__(name: str) -> str:
    """The version when it is asked for: what reads it costs a tenth of the start of a command."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version(__name__)
