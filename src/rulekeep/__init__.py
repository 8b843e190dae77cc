"""rulekeep: which early, weak, parallel rules survive when a context is compressed."""

from importlib.metadata import version

__version__ = version("rulekeep")
