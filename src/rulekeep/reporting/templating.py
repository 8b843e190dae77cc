"""Templates: Jinja2 with every name escaped, and the styles and scripts that go inline."""

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def environment() -> Environment:
    """The templates of the report."""
    return Environment(
        loader=PackageLoader("rulekeep.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style_of(*names: str) -> Markup:
    """Our own style sheets, one after another."""
    return Markup("".join(template_file(name) for name in names))


def template_file(name: str) -> str:
    """A file beside the templates."""
    return files("rulekeep.reporting").joinpath("templates", name).read_text(encoding="utf-8")
