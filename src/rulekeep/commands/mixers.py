"""`rulekeep check`: a mixer against the contract."""

from typing import Annotated, Any

from cyclopts import Parameter

from rulekeep.commands.options import Device, within
from rulekeep.commands.runs import named_options

WIDEST = 4096


def check(
    mixer: Annotated[str, Parameter(name="MIXER")],
    /,
    *,
    mixer_options: dict[str, Any] | None = None,
    width: Annotated[int, within(1, WIDEST)] = 64,
    device: Device = "cpu",
) -> int:
    """Check a mixer against the contract: each property, and by how much it differs.

    Parameters
    ----------
    mixer
        file.py:Class or module:Class; a name of the catalogue is checked as well. Options may
        stand in brackets, as in delta[heads=8].
    mixer_options
        The mixer's own options, as in --mixer-options.heads 8.
    width
        Channels of its input and output.
    """
    given = dict(named_options(mixer_options or {}))
    # Only what runs a mixer loads torch.
    from rulekeep.checks.mixers import check_mixer
    from rulekeep.checks.properties import PROPERTIES
    from rulekeep.commands.printed import print_rows
    from rulekeep.running.building import asked_mixer, check_device

    check_device(device)
    kind, options = asked_mixer(mixer, given)
    return print_rows(mixer, check_mixer(kind, options, width=width, device=device), PROPERTIES)
