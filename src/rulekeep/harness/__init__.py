"""rulekeep in the harnesses that others wrote: a folder for each, in the form that it reads."""

import re
from importlib.metadata import distributions

from rulekeep.specs import UsageError


def needs(package: str, least: str, extra: str = "") -> None:
    """Raise UsageError where a package is missing, or older than this."""
    found = next((one.version for one in distributions(name=package)), "none")
    if [*map(int, re.findall(r"\d+", found))] < [*map(int, least.split("."))]:
        fix = f"pip install '{package}{extra}>={least}'"
        raise UsageError(f"{package} {found}: must be {least} or later; {fix}")
