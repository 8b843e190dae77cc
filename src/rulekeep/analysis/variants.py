"""Which records are of a variant: a mixer with its options. Neither mixers nor torch are imported.

    is_variant(record, one)        # one: a MixerSpec, as `mixer_specs` reads it
    is_of_task(record, "recite", placement="early")

Records are chosen by what was asked for, with every option filled in, never by a displayed name.
"""

from collections.abc import Mapping

from rulekeep.records import Record
from rulekeep.specs import HYBRID, MODEL, MixerSpec, Option, RunSpec


def is_variant(record: Record, one: MixerSpec, **settings: Option) -> bool:
    """Whether a record is of this mixer with these options; its training may differ.

    `settings` are settings of the model that all runs of a study share and that are not defaults.
    """
    spec = record.spec
    if spec.mixer != one.mixer:
        return False
    model = {**settings, **one.settings}
    wanted = {name: model.get(name, RunSpec.model_fields[name].default) for name in MODEL}
    wanted["hidden"] = wanted["hidden"] or 4 * wanted["width"]
    if not all(spec.rest.get(name) == value for name, value in wanted.items()):
        return False
    # All that its id counts was asked for. The rest may be a default, which only it says.
    asked = _by_mixer(one, spec.mixer_options)
    return record.shown_options.items() <= asked.items() <= spec.mixer_options.items()


def is_of_task(record: Record, task: str, **options: object) -> bool:
    """Whether a record is of this task with these options; other options may differ."""
    spec = record.spec
    return spec.task == task and options.items() <= spec.task_options.items()


def _by_mixer(one: MixerSpec, known: Mapping[str, Option]) -> dict[str, Option]:
    """Its options; in a hybrid one without a mixer's name is for each that has it."""
    found = dict[str, Option]()
    # What is said of one mixer holds over what is said of all, wherever it stands.
    for key, value in sorted(one.options.items(), key=lambda pair: "." in pair[0]):
        is_for_each = HYBRID in one.mixer and "." not in key
        takers = [name for name in known if is_for_each and name.endswith(f".{key}")]
        # One that none has stays: no record is of it.
        found |= dict.fromkeys(takers or [key], value)
    return found
