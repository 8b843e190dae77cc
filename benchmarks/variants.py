"""Which records and groups are of a variant: a mixer with its options. Itself no script.

Rows are chosen by what was asked for, every option filled in, never by the name that a table shows.
"""

from collections.abc import Mapping

from rulekeep.records import Record
from rulekeep.report.cells import Group
from rulekeep.resolving import resolve
from rulekeep.specs import Contestant, Option, RunSpec

# What makes a model beside its mixer.
_MODEL = ("width", "layers", "hidden", "added_positions")
_FILLED: dict[str, tuple[RunSpec, dict[str, Option]]] = {}


def is_variant(record: Record, one: Contestant, **settings: Option) -> bool:
    """Whether a record is of this mixer with these options; how it was trained may differ.

    `settings` are those of the model that all runs of its study have, where they are no defaults.
    """
    spec = record.spec
    # First, since a mixer of a file need not be there for the records of others.
    if spec.mixer != one.mixer:
        return False
    asked, defaults = _filled(one, settings)
    # A record says nothing of an option that came later: it had the default.
    return {**defaults, **spec.mixer_options} == asked.mixer_options and all(
        spec.rest.get(name) == getattr(asked, name) for name in _MODEL
    )


def is_group_of(group: Group, one: Contestant) -> bool:
    """The same of a group: all its runs are of this variant."""
    return all(is_variant(run.record, one) for run in group.runs.values())


def is_of_task(record: Record, task: str, **options: object) -> bool:
    """Whether a record is of this task with these options, whatever its others are."""
    spec = record.spec
    return spec.task == task and options.items() <= spec.task_options.items()


def _filled(one: Contestant, settings: Mapping[str, Option]) -> tuple[RunSpec, dict[str, Option]]:
    """Its spec with every option filled in, and the mixer's options that are at their defaults."""
    # Each is asked about for every record.
    key = repr((one, settings))
    if key not in _FILLED:
        resolved = resolve(one.spec(**settings))
        given = resolved.asked.get("mixer_options", {})
        filled = resolved.spec.mixer_options
        left = {name: value for name, value in filled.items() if name not in given}
        _FILLED[key] = resolved.spec, left
    return _FILLED[key]
