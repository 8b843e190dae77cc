"""Check a folder of runs, and write the one file that a pull request adds to the board.

    python tools/submit.py RUNS --name NAME         # the folder's name if left out

A submission is a mixer, or several, run by a protocol to its end, with five seeds. Every run is
whole and none is missing. The code at hand gives the same ids and passes the causality screen. The
file is a packed folder (`rulekeep.records.pack`). Its first record says what it is, and has the
code of plug-ins.
"""

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rulekeep.checks.mixers import screen
from rulekeep.console import EXIT_USAGE, say, tell
from rulekeep.records import Record
from rulekeep.records.folders import make_folder
from rulekeep.records.identity import plugin_closure
from rulekeep.records.pack import CorruptRecordError, packed, unpacked
from rulekeep.records.store import (
    Values,
    packed_values,
    read_record,
    read_runs,
    run_folders,
    write_bytes,
)
from rulekeep.registry import is_outside, plugin_file
from rulekeep.running.building import Resolved, resolve
from rulekeep.specs import MODEL, AnySpec, MixerSpec, Option, RunSpec, UsageError
from rulekeep.sweeps.presets import SEEDS, quick_five, standard

KIND = "submission"
# What may be submitted: the runs of one competitor, given the records so far.
PROTOCOLS: Mapping[str, Callable[[Sequence[Record], MixerSpec], Sequence[AnySpec]]] = {
    "standard": lambda records, one: standard(records, mixers=(one,)),
    "quick-five": lambda _, one: quick_five(mixers=(one,)),
}
_NEEDED = ("rulekeep", "torch", "cpu")


class Submission(NamedTuple):
    """The file of a submission, and a line for each thing that it lacks."""

    content: bytes
    faults: list[str]


class Submitted(NamedTuple):
    """A submission as it is read: its name, its protocol, its records, and code by mixer."""

    name: str
    protocol: str
    records: list[Record]
    code: Mapping[str, str]


def submission(root: Path, name: str) -> Submission:
    """Checks a folder of runs and packs it.

    Raises:
        UsageError: there is no record in it.
    """
    kept = read_runs(root)
    if not kept.records:
        raise UsageError(f"{root}: has no record; name the --out of a sweep")
    faults = [f"verified: {note}" for note in kept.notes]
    # A diverged run is a result: nothing makes it again.
    unfinished = [one for one in kept.records if not one.is_result]
    faults += [f"finished: run {one.id} is {one.status}: {one.reason}" for one in unfinished]
    records = [one for one in kept.records if one.is_result]
    faults += _unknown_provenance(records)
    competing, other = _competing(records)
    faults += [f"protocol: run {one.id} trained no mixer by a protocol" for one in other]
    code: dict[str, str] = {}
    protocols = set[str]()
    for one in competing:
        try:
            faults += _of_one(one, records, protocols, code)
        except UsageError as error:
            faults.append(f"provenance: {error}")
    if len(protocols) > 1:
        faults.append(f"protocol: {' and '.join(sorted(protocols))}; submit one protocol a file")
    head = {"kind": KIND, "id": name, "protocol": min(protocols, default=""), "code": code}
    return Submission(packed([head, *_values(root, {one.id for one in records})]), faults)


def submitted(path: Path) -> Submitted:
    """A submission out of its file.

    Raises:
        UsageError: it is none, or not whole.
    """
    notes = list[str]()
    values = list(unpacked(path, notes))
    if notes or not values or values[0].get("kind") != KIND:
        raise UsageError(f"{path}: {(*notes, 'is no submission')[0]}; tools/submit.py writes one")
    head, *rest = values
    try:
        records = [Record.read(one) for one in rest]
    except CorruptRecordError as error:
        raise UsageError(f"{path}: {error}; tools/submit.py writes one") from None
    return Submitted(str(head["id"]), str(head["protocol"]), records, head["code"])


def _of_one(
    one: MixerSpec, records: Sequence[Record], protocols: set[str], code: dict[str, str]
) -> list[str]:
    """What one competitor lacks; its protocol and its code are noted.

    Raises:
        UsageError: its code is not at hand.
    """
    named = one.text
    present = {record.id for record in records}
    wanted = {name: _wanted(make(records, one)) for name, make in PROTOCOLS.items()}
    name = max(wanted, key=lambda key: len(present & wanted[key].keys()))
    missing = [resolved for key, resolved in wanted[name].items() if key not in present]
    resolved = next(iter(wanted[name].values()))
    for mixer in resolved.spec.mixers:
        if is_outside(mixer) and (file := plugin_file(mixer)):
            own = plugin_closure(file)
            code[mixer] = "\n\n".join(f"# {one.name}\n{one.read_text('utf-8')}" for one in own)
    if len(missing) == len(wanted[name]):
        known = " or ".join(PROTOCOLS)
        return [
            f"protocol: {named} has no run of {known} by the code at hand; "
            f"rulekeep sweep {name} --mixers '{named}' --out RUNS makes them"
        ]
    protocols.add(name)
    faults = []
    if missing:
        first = missing[0].spec
        faults.append(
            f"protocol {name}: {len(missing)} of {len(wanted[name])} runs of {named} are missing, "
            f"as {first.label}; rulekeep sweep {name} --mixers '{named}' --out RUNS makes them"
        )
    lacking = Counter(resolved.spec.seed for resolved in missing).keys() & {*SEEDS}
    if lacking:
        seeds = ", ".join(map(str, sorted(lacking)))
        faults.append(f"five seeds: runs of {named} with seed {seeds} are missing")
    try:
        screen(resolved)
    # Whatever the mixer raises is what it is refused for.
    except Exception as error:
        faults.append(f"causality: {named}: {error}")
    return faults


def _wanted(specs: Iterable[AnySpec]) -> dict[str, Resolved]:
    every = (resolve(spec) for spec in specs if isinstance(spec, RunSpec))
    return {resolved.id: resolved for resolved in every}


def _competing(records: Iterable[Record]) -> tuple[list[MixerSpec], list[Record]]:
    """Every mixer with its options and the settings of its model, and records of none."""
    found, other = dict[str, MixerSpec](), list[Record]()
    for record in records:
        if not isinstance(spec := record.spec.parsed(), RunSpec):
            other.append(record)
            continue
        options: Mapping[str, Option] = {
            key: value for key, value in spec.mixer_options.items() if key in record.given
        }
        # Part of what competes, and not of the protocol.
        settings = {key: getattr(spec, key) for key in MODEL if key in record.given}
        one = MixerSpec(spec.mixer, options, settings)
        found.setdefault(repr(one), one)
    return [*found.values()], other


def _unknown_provenance(records: Iterable[Record]) -> list[str]:
    faults = []
    for one in records:
        lacking = [key for key in _NEEDED if not one.environment.get(key)]
        lacking += [] if one.source else ["source"]
        lacking += [] if one.versions else ["versions"]
        if lacking:
            faults.append(f"provenance: run {one.id} does not say its {', '.join(lacking)}")
    return faults


def _values(root: Path, wanted: set[str]) -> list[Values]:
    """The records as their files have them."""
    found = {str(one.get("id")): one for one in packed_values(root, [])}
    found |= {run.id: read_record(run.record) for run in run_folders(root) if run.id in wanted}
    return [found[key] for key in sorted(wanted)]


def submit(folder: Path, name: str, out: Path) -> int:
    """Write the file of a folder of runs, or say what it lacks, a line each.

    Raises:
        UsageError: it has no record, its name cannot be, or other runs stand there.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--name {name!a}: use letters, digits, - and _ alone")
    made = submission(folder, name)
    for line in made.faults:
        say(f"submit: {line}")
    if made.faults:
        return EXIT_USAGE
    target = out / f"{name}.jsonl"
    make_folder(out, f"--out {out}")
    if target.exists() and target.read_bytes() != made.content:
        raise UsageError(
            f"{target}: stands there with other runs; remove it, or give another --name"
        )
    write_bytes(target, made.content)
    tell(f"submission: {target}; add this file in a pull request")
    return 0


def main(words: list[str]) -> int:
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="--out of rulekeep sweep quick-five or standard")
    parser.add_argument("--name", help="what the board calls it, the folder's name if left out")
    parser.add_argument("--out", type=Path, default=Path("submissions"), help="for NAME.jsonl")
    given = parser.parse_args(words)
    try:
        return submit(given.folder, given.name or given.folder.resolve().name, given.out)
    except UsageError as error:
        say(f"submit: {error}")
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
