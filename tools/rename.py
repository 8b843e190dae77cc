"""Rewrites records under present names, and keeps the present id of each former one.

    python tools/rename.py              # all records here, and the documents that name their ids
    python tools/rename.py RUNS ...     # folders of runs of your own

A rename: add it to the tables below, change the code, run this. The code knows present names alone.
An id is a hash of what was asked for, so a renamed record gets another. `former_ids.json` in its
folder maps each former id to the present one, and `rulekeep list` finds a run by either.

A default that changes is a new version of its class. Records of the versions before get the former
default written out, under the present version.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.records.identity import identify
from rulekeep.records.pack import PACKED, packed, unpacked
from rulekeep.records.store import (
    FORMER_IDS,
    former_ids,
    read_record,
    run_folders,
    write_bytes,
    write_record,
)
from rulekeep.specs import ArticleCell, RunSpec

ROOT = Path(__file__).parents[1]
HERE = (
    *(ROOT / "results").iterdir(), *(ROOT / "src/rulekeep").iterdir(),
    *(ROOT / "src/rulekeep/baselines").iterdir(),
)  # fmt: skip
# Documents that may name a run by its id.
TEXTS = ("README.md", "docs/*.md", "notebooks/*.ipynb", "studies/*.py", "tests/*.py")
Values = dict[str, Any]

# Former names, and what each is now. First of a run's spec.
FIELDS = {"dev_examples": "validation_examples"}
TASKS = {"rulekeep.mixed_recall:MixedRecall": "rulekeep.tasks.mixed_recall:MixedRecall"}
# Of a mixer, by its name.
OPTIONS = {
    "sparse_delta": {
        "slack": "gate_stretch",
        "gate_taps": "gate_kernel",
        "zero_taps": "zero_init_kernel",
        "toll": "gate_penalty",
        "margin": "penalty_margin",
        "toll_after": "penalty_start",
    }
}


# In records of before: the ids that they or their runs had once.
FORMER = ("former_id", "former_run")


class Moved(NamedTuple):
    """A mixer's present name, its options by their former names, and those it had unasked."""

    name: str
    options: Mapping[str, str] = {}
    unasked: Mapping[str, Any] = {}


# Of what was tested.
SPLITS = {"dev": "validation"}


# Mixers of files that have moved, or have become options of another.
MIXERS = {
    "benchmarks/convolved_attention.py:ConvolvedAttention": Moved(
        "attention", {"taps": "conv_size"}, {"conv_size": 8}
    ),
}


class Default(NamedTuple):
    """An option's default before a version of its mixer, and from that version on."""

    option: str
    before: Any
    since: Any
    version: int


DEFAULTS = {"sparse_delta": Default("short_convolution", False, True, version=2)}


def present(values: Values) -> Values:
    """A record or a plan under present names, with the id that these give."""
    values = {key: value for key, value in values.items() if key not in FORMER}
    if isinstance(values.get("mixer"), str):
        values["mixer"] = _variant(values["mixer"])
    for rows in (values.get("evaluations"), values.get("choices")):
        for row in rows or ():
            row["split"] = SPLITS.get(row["split"], row["split"])
    versions, spec, asked = (values.get(key) for key in ("versions", "spec", "asked"))
    if not (isinstance(versions, dict) and isinstance(spec, dict)):
        return values
    old = {
        name: default
        for name, default in DEFAULTS.items()
        if name in versions and versions[name] < default.version
    }
    values["spec"] = _spec(values["kind"], spec, old)
    values["versions"] = {
        TASKS.get(name, MIXERS[name].name if name in MIXERS else name): (
            old[name].version if name in old else version
        )
        for name, version in versions.items()
    }
    if isinstance(asked, dict):
        values["asked"] = _asked(_spec(values["kind"], asked, old), old)
        if "id" in values:
            values["id"] = identify(values["kind"], values["asked"], values["versions"])
    return values


def _spec(kind: str, spec: Values, old: Mapping[str, Default]) -> Values:
    found = {FIELDS.get(key, key): value for key, value in spec.items()}
    if "task" in found:
        found["task"] = TASKS.get(found["task"], found["task"])
    if "mixer" in found:
        mixer, options = _mixer(found["mixer"], found.get("mixer_options", {}))
        options |= _missing(mixer, options, old)
        found["mixer"] = mixer
        if options or "mixer_options" in found:
            found["mixer_options"] = options
    if kind == ArticleCell.kind:
        found["model"] = _variant(found["model"], old)
    return found


def _asked(asked: Values, old: Mapping[str, Default]) -> Values:
    """Without what is the default now."""
    if asked.get("mixer") == RunSpec.model_fields["mixer"].default:
        del asked["mixer"]
    names = asked.get("mixer", "").split("+")
    since = {
        f"{name}.{default.option}" if len(names) > 1 else default.option: default.since
        for name, default in old.items()
        if name in names
    }
    options = asked.get("mixer_options", {})
    kept = {key: value for key, value in options.items() if since.get(key) is not value}
    if options and not kept:
        del asked["mixer_options"]
    elif options:
        asked["mixer_options"] = kept
    return asked


def _mixer(name: str, options: Values) -> tuple[str, Values]:
    """A mixer and its options under present names."""
    if moved := MIXERS.get(name):
        named = {moved.options.get(key, key): value for key, value in options.items()}
        return moved.name, {**moved.unasked, **named}
    return name, {_option(name, key): value for key, value in options.items()}


def _option(mixer: str, key: str) -> str:
    """The present name of an option; of a hybrid `a.key`, or `key` for each that has it."""
    of, dot, name = key.rpartition(".")
    for one in [of] if dot else mixer.split("+"):
        if name in OPTIONS.get(one, {}):
            return f"{of}{dot}{OPTIONS[one][name]}"
    return key


def _missing(mixer: str, given: Iterable[str], old: Mapping[str, Default]) -> Values:
    """Options whose default was another, with their former default."""
    names = dict.fromkeys(mixer.split("+"))
    return {
        f"{name}.{old[name].option}" if len(names) > 1 else old[name].option: old[name].before
        for name in names
        if name in old and not {old[name].option, f"{name}.{old[name].option}"} & {*given}
    }


def _variant(text: str, old: Mapping[str, Default] = {}) -> str:
    """A mixer with its options as text, `sparse_delta[toll=0]`."""
    match = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]*)\])?", text)
    if match is None:
        return text
    pairs = (pair.partition("=") for pair in (match[2] or "").split(",") if pair)
    mixer, options = _mixer(match[1], {key.strip(): value for key, _, value in pairs})
    options |= {key: json.dumps(value) for key, value in _missing(mixer, options, old).items()}
    inside = ",".join(f"{key}={value}" for key, value in options.items())
    return f"{mixer}[{inside}]" if inside else mixer


class Renamed(NamedTuple):
    """The records of a folder under present names, and the file of each run's."""

    root: Path
    lines: list[Values] | None
    files: dict[Path, Values]
    ids: dict[str, str]


def read(root: Path) -> Renamed:
    """A folder of runs under present names; nothing is written.

    Raises:
        SystemExit: a file is damaged.
    """
    ids: dict[str, str] = former_ids(root)
    notes = list[str]()
    lines = [*unpacked(root / PACKED, notes)] if (root / PACKED).exists() else None
    if notes:
        raise SystemExit(f"{root}: {notes[0]}; put it back as it was")
    files = {
        path: read_record(path)
        for run in run_folders(root)
        for path in (run.plan, run.record, run.path / "explain.json")
        if path.exists()
    }
    for values in (*(lines or ()), *files.values()):
        new = present(values).get("id")
        for former in (values.get("id"), values.get("former_id")):
            if former and former != new:
                ids[former] = new
    for path, values in files.items():
        # A plan does not say its id: its folder does.
        now = present(values)
        if path.name == "plan.json" and "asked" in now:
            new = identify(now["kind"], now["asked"], now["versions"])
            if now != values and new != path.parent.name:
                ids[path.parent.name] = new
    # A former id of a former id.
    ids = {former: ids.get(new, new) for former, new in ids.items()}
    return Renamed(
        root,
        lines and [present(values) for values in lines],
        {path: present(values) for path, values in files.items()},
        ids,
    )


def _of_present_run(values: Values, ids: Mapping[str, str]) -> Values:
    """What was measured of a run, under the present id of that run."""
    return {**values, "run": ids.get(values["run"], values["run"])} if "run" in values else values


def write(renamed: Renamed, ids: Mapping[str, str]) -> None:
    """Write a folder of runs under present names; `ids` are those of all folders."""
    root = renamed.root
    # First: a killed rename can be begun again, and no former id is lost.
    if renamed.ids:
        write_record(root / FORMER_IDS, dict(sorted(renamed.ids.items())))
    if renamed.lines is not None:
        before = [*unpacked(root / PACKED, [])]
        lines = [_of_present_run(values, ids) for values in renamed.lines]
        if lines != before:
            write_bytes(root / PACKED, packed(lines))
    for path, values in renamed.files.items():
        if (now := _of_present_run(values, ids)) != read_record(path):
            write_record(path, now)
    for run in run_folders(root):
        if new := renamed.ids.get(run.id):
            with run.locked():
                if run.weights.exists():
                    write_bytes(run.weights, _of_run(run.weights.read_bytes(), new))
                run.path.rename(root / new)


def _of_run(weights: bytes, run: str) -> bytes:
    """A file of weights that names another run."""
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    header["__metadata__"]["run"] = run
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + weights[8 + size :]


def main(folders: list[Path], texts: Iterable[Path] = ()) -> None:
    """Rename the records of these folders, and the ids in these documents."""
    read_all = [read(folder) for folder in folders]
    ids = {former: new for one in read_all for former, new in one.ids.items()}
    ids = {former: ids.get(new, new) for former, new in ids.items()}
    for one in read_all:
        write(one, ids)
        if one.ids:
            print(f"{one.root}: {len(one.ids)} former ids")
    for path in texts:
        text = path.read_text()
        new = re.sub(r"\b[0-9a-f]{16}\b", lambda match: ids.get(match[0], match[0]), text)
        if new != text:
            path.write_text(new)
            print(path)


if __name__ == "__main__":
    if given := [Path(name) for name in sys.argv[1:]]:
        main(given)
    else:
        main(
            [one for one in HERE if (one / PACKED).exists()],
            [path for pattern in TEXTS for path in ROOT.glob(pattern)],
        )
