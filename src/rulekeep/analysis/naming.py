"""The names of runs in a report: the mixer, and the options that differ from its defaults.

    labelled(runs)      # "attention, rotary", "delta, heads 2, short convolution", "mine.py:Mine"

Two models never share a name, and one model has the same name everywhere.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from rulekeep.analysis.variants import known_options
from rulekeep.records.record import name

if TYPE_CHECKING:
    # Runs are made there, and named here.
    from rulekeep.analysis.reading import Run

BASELINE = "attention"
LEARNED = "learned"
# Of a run's settings, those that are no part of the model.
_HOW_TRAINED = {
    "mixed_lengths", "length_growth", "steps", "batch_size", "warmup_steps", "final_share",
    "weight_decay", "max_gradient_norm", "stop_when_solved", "device", "precision",
}  # fmt: skip
_IN_FILE = re.compile(r"(?:.*[/\\])?([\w.-]+\.py:\w+)")
# Options with their values, by name.
Parts: TypeAlias = tuple[tuple[str, str], ...]


def labelled(runs: Sequence["Run"]) -> list[str]:
    """A label for each run, in order.

    A label names options that are not defaults. If two models would share it, it names more:
    settings of the model that vary among all runs of that name, then settings of training that vary
    on one task.
    """
    owned = [(run, _own(run, runs)) for run in runs]
    models: dict[tuple[str, Parts], list["Run"]] = {}
    kinds: dict[tuple[str, str, int, Parts], list["Run"]] = {}
    for run, own in owned:
        models.setdefault((run.mixer, own), []).append(run)
        kinds.setdefault((run.task, run.mixer, run.context, own), []).append(run)
    of_model = {key: varying(same) - _HOW_TRAINED for key, same in models.items()}
    trained: dict[tuple[str, str, Parts], set[str]] = {}
    for (task, mixer, _, own), same in kinds.items():
        trained.setdefault((task, mixer, own), set()).update(varying(same))
    parts = []
    for run, own in owned:
        keys = of_model[run.mixer, own] | trained[run.task, run.mixer, own]
        more = sorted(keys - {key for key, _ in own})
        parts.append((*own, *((key, run.settings.get(key, "none")) for key in more)))
    return _distinct([(_short(run), run.mixer, one) for run, one in zip(runs, parts, strict=True)])


def _own(run: "Run", runs: Sequence["Run"]) -> Parts:
    """The options of its mixer that are not the default, and the signal added to its input."""
    own, defaults = named(run.record.spec.mixer_options), _defaults(run.mixer)
    if defaults is None:
        # Of a mixer from elsewhere: those that vary.
        among = [one for one in runs if one.mixer == run.mixer]
        differing = varying(among) - _HOW_TRAINED
        found = {key: value for key, value in run.settings.items() if key in differing}
    else:
        # Attention is named by its positions everywhere: a baseline says what it is.
        always = {"positions"} if run.mixer == BASELINE and own else set[str]()
        own = {key: defaults[key] for key in always} | own
        # An option of a later release that nobody asked for is at its default there.
        asked = run.record.given
        found = {
            key: value
            for key, value in own.items()
            if key in always
            or (value != defaults.get(key, "none") and (key in defaults or key in asked))
        }
    added = run.settings.get("added_positions", "none")
    if added != "none":
        found["added_positions"] = added
    return tuple(sorted(found.items()))


@cache
def _defaults(mixer: str) -> Mapping[str, str] | None:
    """A mixer's options at their defaults; None of one that is not in the catalogue."""
    found = known_options(mixer)
    return None if found is None else named(found)


def _short(run: "Run") -> str:
    """The name of a mixer; for one in a file, without folders."""
    found = _IN_FILE.fullmatch(run.record.spec.mixer)
    return run.mixer if found is None else name(found[1], "")


def _distinct(every: Sequence[tuple[str, str, Parts]]) -> list[str]:
    """A spoken label each; if two would be equal, with the name of every option."""
    said: dict[str, set[tuple[str, Parts]]] = {}
    for short, mixer, parts in every:
        said.setdefault(spoken(short, parts), set()).add((mixer, parts))
    return [
        spoken(short, parts)
        if len(said[spoken(short, parts)]) == 1
        else ", ".join([mixer, *(f"{key} {value}" for key, value in parts)])
        for short, mixer, parts in every
    ]


def spoken(mixer: str, parts: Parts) -> str:
    """A label in words: "attention, rotary, earliness", "delta, heads 2, short convolution"."""
    options = dict(parts)
    added, said = options.pop("added_positions", "none"), []
    if (own := options.pop("positions", None)) is not None and (own, added) != ("none", LEARNED):
        said.append("no positions" if own == "none" else own)
    if added not in ("none", "earliness"):
        said.append(f"{added} positions")
    if (size := options.pop("conv_size", "none")) != "none":
        said.append("convolution" if size == "4" else f"convolution {size}")
    for key, value in options.items():
        words = key.replace("_", " ").replace(".", " ")
        said.append({"True": words, "False": f"no {words}"}.get(value, f"{words} {value}"))
    # Earliness says how early a token is, which is not where: it stands beside positions.
    return ", ".join([mixer, *said, *["earliness"] * (added == "earliness")])


def named(values: Mapping[str, object]) -> dict[str, str]:
    """Options and their values as short printable names."""
    return {name(key, "?"): name(value, "none") for key, value in values.items()}


def varying(runs: Sequence["Run"]) -> set[str]:
    """The settings that differ between runs."""
    keys = set[str]().union(*(run.settings for run in runs))
    return {key for key in keys if len({run.settings.get(key) for run in runs}) > 1}
