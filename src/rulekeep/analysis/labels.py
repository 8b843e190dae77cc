"""The labels of runs: the mixer, and the options that differ from its defaults.

    labels(runs)        # "attention, rotary", "delta, heads 2, short convolution", "mine.py:Mine"

A label stands for one variant: two models never share one, and one model has the same everywhere.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeAlias

from rulekeep.analysis.runs import Run, named
from rulekeep.analysis.variants import known_options
from rulekeep.records.record import name

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


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run, in order.

    A label names options that are not defaults. If two models would share it, it names more:
    settings of the model that vary among all runs of that name, then settings of training that vary
    on one task.
    """
    owned = [(run, _own(run, runs)) for run in runs]
    models: dict[tuple[str, Parts], list[Run]] = defaultdict(list)
    kinds: dict[tuple[str, str, int, Parts], list[Run]] = defaultdict(list)
    for run, own in owned:
        models[run.mixer, own].append(run)
        kinds[run.task, run.mixer, run.context, own].append(run)
    of_model = {key: _varying(same) - _HOW_TRAINED for key, same in models.items()}
    trained: dict[tuple[str, str, Parts], set[str]] = defaultdict(set)
    for (task, mixer, _, own), same in kinds.items():
        trained[task, mixer, own] |= _varying(same)
    variants = []
    for run, own in owned:
        keys = of_model[run.mixer, own] | trained[run.task, run.mixer, own]
        more = sorted(keys - {key for key, _ in own})
        variants.append((*own, *((key, run.settings.get(key, "none")) for key in more)))
    short = [spoken(_short(run), own) for run, own in zip(runs, variants, strict=True)]
    same_label: dict[str, set[tuple[str, Parts]]] = defaultdict(set)
    for run, label, own in zip(runs, short, variants, strict=True):
        same_label[label].add((run.mixer, own))
    return [
        label
        if len(same_label[label]) == 1
        else ", ".join([run.mixer, *(f"{key} {value}" for key, value in own)])
        for run, label, own in zip(runs, short, variants, strict=True)
    ]


def _own(run: Run, runs: Sequence[Run]) -> Parts:
    """The options of its mixer that are not the default, and the signal added to its input."""
    own, defaults = named(run.record.spec.mixer_options), _defaults(run.mixer)
    if defaults is None:
        # Of a mixer from elsewhere: those that vary.
        among = [other for other in runs if other.mixer == run.mixer]
        differing = _varying(among) - _HOW_TRAINED
        kept = {key: value for key, value in run.settings.items() if key in differing}
    else:
        # Attention is named by its positions everywhere: a baseline says what it is.
        always = {"positions"} if run.mixer == BASELINE and own else set[str]()
        own = {key: defaults[key] for key in always} | own
        # An option of a later release that nobody asked for is at its default there.
        asked = run.record.given
        kept = {
            key: value
            for key, value in own.items()
            if key in always
            or (value != defaults.get(key, "none") and (key in defaults or key in asked))
        }
    added = run.settings.get("added_positions", "none")
    if added != "none":
        kept["added_positions"] = added
    return tuple(sorted(kept.items()))


@cache
def _defaults(mixer: str) -> Mapping[str, str] | None:
    """A mixer's options at their defaults; None of one that is not in the catalogue."""
    options = known_options(mixer)
    return None if options is None else named(options)


def _short(run: Run) -> str:
    """The name of a mixer; for one in a file, without folders."""
    in_file = _IN_FILE.fullmatch(run.record.spec.mixer)
    return run.mixer if in_file is None else name(in_file[1], "")


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


def _varying(runs: Sequence[Run]) -> set[str]:
    """The settings that differ between runs."""
    keys = set[str]().union(*(run.settings for run in runs))
    return {key for key in keys if len({run.settings.get(key) for run in runs}) > 1}
