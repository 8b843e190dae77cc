"""The commands as functions: `import rulekeep as rk`.

Each does what the command of its name does, and shows how far it is. A mixer or a task is a name of
the catalogue, `file.py:Class`, `module:Class`, or a class itself. Of a class in a notebook or a
script a run is made in the process that asks, one run after another. Any other class is imported by
processes of their own, several at a time.

What a user asked for and cannot be raises `UsageError`: one line with the value and the fix.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rulekeep.analysis.flat import Value, flat
from rulekeep.checks.rows import Row, lines
from rulekeep.console import command_line, say
from rulekeep.executors.base import RunFailedError as RunFailedError
from rulekeep.mixers import MIXERS
from rulekeep.records import Record
from rulekeep.records.folders import done_run, existing, run_folder, runs_of_id
from rulekeep.records.store import RunFolder, read_runs, whole_runs
from rulekeep.registry import Registry
from rulekeep.specs import Option, RunSpec, UsageError, mixer_specs, written
from rulekeep.specs.run import RetestSpec
from rulekeep.tasks import TASKS

if TYPE_CHECKING:
    from rulekeep.running.model import LanguageModel

# What a mixer or a task may be given as, and a mixer with options in a sweep.
Named: TypeAlias = str | type[Any]
Optioned: TypeAlias = Named | tuple[Named, Mapping[str, Option]]
Place: TypeAlias = "str | os.PathLike[str] | Run"


class DamagedRecordWarning(UserWarning):
    """A record is damaged or cannot be read, and is left out: which one, and why."""


class Checks(list[Row]):
    """What `check` found: a row a property, and whether all hold."""

    @property
    def passed(self) -> bool:
        """Whether no property fails; a skipped one does not count."""
        return all(row.passed is not False for row in self)

    def __repr__(self) -> str:
        return "\n".join(lines(self))


@dataclass(frozen=True)
class Run:
    """A run with its record, and the folder that it stands in.

    `record` holds all that is known of it: `record.status`, `record.spec`, `record.tests()`,
    `record.history` (the validation set while it was trained), `record.costs`.
    """

    folder: Path
    record: Record

    @property
    def id(self) -> str:
        """The run's id: the name of its folder."""
        return self.record.id

    def rows(self) -> list[dict[str, Value]]:
        """The record as flat rows, as of `load_records`."""
        return flat([self.record])

    def model(self) -> "LanguageModel":
        """The trained model, from its kept weights.

        Raises:
            UsageError: no weights were kept, or they are not of this record.
        """
        from rulekeep.executors.here import set_back
        from rulekeep.running.trained import kept_model, resolve_done
        from rulekeep.running.weights import WeightsError

        folder = RunFolder(self.folder)
        with set_back():
            try:
                return kept_model(folder, self.record, resolve_done(folder, self.record)).model
            except (OSError, WeightsError) as error:
                raise UsageError(f"{self.folder}: no weights to load: {error}") from None

    def __repr__(self) -> str:
        record = self.record
        kept = [
            f"retention {row.figures['retention']:.3f} at {row.context} tokens"
            for row in record.tests()
            if "retention" in row.figures
        ]
        ended = [record.status, *([record.reason] if record.reason else [])]
        return f"<run {self.folder}: {', '.join([*ended, *kept])}>"


def check(
    mixer: Named,
    mixer_options: Mapping[str, Option] | None = None,
    *,
    width: int = 64,
    device: str = "cpu",
) -> Checks:
    """Check a mixer against the contract, in seconds: each property, and by how much it differs.

    Print the rows, or ask for their `passed`. If the mixer raises an exception, that row fails.

    Args:
        mixer: A class, or a name: of the catalogue, `file.py:Class` or `module:Class`, each with
            options in brackets if you like, as in `delta[heads=8]`.
        mixer_options: The mixer's own options, by name.
        width: Channels of its input and output, `[batch, time, width]`.
        device: cpu, cuda or cuda:N.

    Raises:
        UsageError: there is no such mixer, its options cannot be, or its constructor fails.
    """
    from rulekeep.checks.mixers import check_mixer
    from rulekeep.running.building import asked_mixer, check_device

    check_device(device)
    if isinstance(mixer, str):
        kind, mixer_options = asked_mixer(mixer, mixer_options or {})
    else:
        kind = _class(mixer, "mixer")
    return Checks(check_mixer(kind, mixer_options, width=width, device=device))


def run(
    *,
    task: Named = "recite",
    mixer: Named = "attention",
    task_options: Mapping[str, Option] | None = None,
    mixer_options: Mapping[str, Option] | None = None,
    out: str | os.PathLike[str] | None = None,
    keep_weights: bool = True,
    **values: Any,
) -> Run:
    """Train and test one mixer on one task, and keep the record.

    Args:
        task: A class, or a name: of the catalogue, `file.py:Class` or `module:Class`.
        mixer: The same of a mixer; `a+b` for layers in turn. A name may have options in brackets,
            as in `delta[heads=8]`.
        task_options: The task's own options, as in `{"rules": 8}`.
        mixer_options: The mixer's own options, as in `{"heads": 8}`.
        out: Folder of runs, runs/run-TIME if left out. A run that stands there is not made again.
            One that was interrupted goes on.
        keep_weights: Keep the trained weights beside the record: `test` needs them.
        **values: The other fields of `RunSpec`. `context` is the longest training length in tokens,
            `test_contexts` the tested ones. What is left out is as in `rulekeep run`.

    Raises:
        UsageError: a name is unknown, or a value cannot be.
        RunFailedError: it left no result. One that diverged did: see `record.status`.
    """
    from rulekeep.executors.here import executor_for
    from rulekeep.running.building import run_spec
    from rulekeep.sweeps.asked import How
    from rulekeep.sweeps.making import make_runs

    values |= {"task": _name(task, TASKS), "mixer": _name(mixer, MIXERS)}
    spec = run_spec(
        {**values, "task_options": task_options or {}, "mixer_options": mixer_options or {}}
    )
    root, how = run_folder("run", out), How(weights=keep_weights)
    executor = executor_for([spec.task, *spec.mixers], 1)
    (made,) = make_runs(lambda _: [spec], root, executor, how).records.values()
    if not made.is_result:
        raise RunFailedError(f"run {made.id}: {made.status}: {made.reason}")
    return Run(root / made.id, made)


def sweep(
    what: str | RunSpec | Sequence[RunSpec],
    *,
    mixers: Sequence[Optioned] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    keep_weights: bool = True,
    **grid: Any,
) -> list[Run]:
    """Make every run of a grid that a folder lacks, and return all runs of the folder.

    A run that failed is returned as well: see its `record.status`.

    Args:
        what: A preset (`rulekeep list`), FILE.py, FILE.py:function, a `RunSpec` or a list of them.
        mixers: For presets that compare mixers, names or classes, each alone or with options:
            `["delta", "delta[heads=8]", (MyMixer, {"heads": 8})]`.
        out: Folder of runs, runs/sweep-TIME if left out.
        workers: Runs side by side; as many as there are cores if left out.
        keep_weights: Keep the trained weights beside each record.
        **grid: For a preset, what it runs instead of its own, as in `rulekeep sweep`: `seeds`,
            `tasks`, `learning_rates`, `test_contexts`, each a list, and `tuning_seeds`.

    Raises:
        UsageError: a name is unknown, or a value cannot be.
    """
    from rulekeep.executors.here import executor_for
    from rulekeep.sweeps.asked import Grid, How, Where, grid_of
    from rulekeep.sweeps.making import make_runs

    text = None if mixers is None else ",".join(map(_written, mixers))
    where, asked = Where.parse(workers=workers), Grid.parse(**grid)
    if isinstance(what, str):
        make, chooses = grid_of(what, text, asked)
        names = [] if text is None else [one.mixer for one in mixer_specs(text)]
    else:
        if text or asked.given:
            raise UsageError("mixers and grids: specs have their own; leave them out")
        specs = (what,) if isinstance(what, RunSpec) else tuple(what)
        make, chooses = (lambda _: specs), False
        names = [name for spec in specs for name in (spec.task, *spec.mixers)]
    root, how = run_folder("sweep", out), How(weights=keep_weights)
    make_runs(make, root, executor_for(names, where.workers), how, chooses=chooses)
    return [Run(root / record.id, record) for record in read_runs(root).records]


def test(run: Place, *, contexts: Sequence[int], examples: int | None = None) -> Run:
    """Test a trained model at other lengths, and add them to its record. Nothing is trained.

    Args:
        run: A run, or its folder RUNS/ID.
        contexts: Lengths in tokens.
        examples: Test examples at each length, as many as in the run's own tests if left out. A
            length that was tested already is tested again only with more.

    Raises:
        UsageError: there is no such run, it kept no weights, or cannot read such a length.
        RunFailedError: the test left no result.
    """
    from rulekeep.executors.here import executor_for

    folder, _, spec = done_run(_path(run))
    place = str(folder.path.absolute())
    job = RetestSpec.parse(
        folder=place, contexts=contexts, examples=examples, command=command_line()
    )
    notes: list[str] = executor_for([spec.task, *spec.mixers], 1).result(
        "rulekeep.running.retest:add_tests", job,
        lambda step: say(f"testing: length {step} of at most {len(job.contexts)}"),
    )  # fmt: skip
    for note in notes:
        say(note)
    return open_run(folder.path)


def report(runs: Place, /, *more: Place, out: str | os.PathLike[str] | None = None) -> Path:
    """Write a page, Markdown, a CSV and figures about folders of runs; the path of the page.

    Args:
        runs: A folder of runs, or a run for the folder that it stands in.
        *more: Others, shown as if all stood in one folder; of certificates and of speed too.
            `quick` names the runs of that preset that come with rulekeep.
        out: Folder for the report, FOLDER/report if left out.

    Raises:
        UsageError: there is no such folder, or nothing in it to report on.
    """
    # Plotting brings libraries that take a second to load.
    from rulekeep.reporting.write import report_on

    folders = [*dict.fromkeys(_path(one, whole=True) for one in (runs, *more))]
    made = report_on(folders, out)
    for line in (*made.unfinished, *made.left_out):
        say(line)
    return made.folder / "report.html"


def load_records(runs: Place, /, *more: Place, strict: bool = False) -> list[dict[str, Value]]:
    """Folders of runs as flat rows, one for each tested length: `pandas.DataFrame(rows)`.

    Every row has every column. `split` is validation or test. `tokens` is the tested
    length. Scores such as `retention` are shares from 0 to 1; where outputs are not finite from a
    token on, there is no score, and `not_finite_from` is that token. `variant` is the mixer with
    its options. A run that stands in two folders is one.

    A damaged record is left out, with a `DamagedRecordWarning` that names it.

    Args:
        runs: A folder of runs, or a run.
        *more: Others.
        strict: Raise an error where a record is damaged.

    Raises:
        UsageError: there is no such folder, no record in it, or, if `strict`, a damaged one.
    """
    from rulekeep.analysis.table import merged

    records: list[Record] = []
    for one in (runs, *more):
        records += [one.record] if isinstance(one, Run) else _records(os.fspath(one), strict)
    return flat(merged(records))


def open_run(folder: str | os.PathLike[str]) -> Run:
    """The run of a folder, RUNS/ID, or the only one that is done of a folder of runs.

    Four letters of an id are enough where no other begins so.

    Raises:
        UsageError: there is none, or it is not done.
    """
    path = Path(folder)
    if not path.exists() and path.parent.is_dir():
        # One that is packed is read where it stands.
        for root, packed in runs_of_id(path.name, [path.parent]):
            if packed.is_result and not (root / packed.id).exists():
                return Run(root / packed.id, packed)
    done, record, _ = done_run(os.fspath(folder))
    return Run(done.path, record)


def _class(given: object, kind: str) -> type[Any]:
    if isinstance(given, type):
        return given
    name = type(given).__name__
    raise UsageError(f"{kind}: a {name} is none; give the name of a {kind}, or its class")


def _name(given: Named, registry: Registry[Any]) -> str:
    return given if isinstance(given, str) else registry.name_of(_class(given, registry.kind))


def _written(given: Optioned) -> str:
    """A mixer as the text of `rulekeep sweep --mixers` has it."""
    if isinstance(given, tuple):
        return written(_name(given[0], MIXERS), given[1])
    return _name(given, MIXERS)


def _records(folder: str, strict: bool) -> list[Record]:
    path = existing(folder)
    if (path / "record.json").exists():
        return [open_run(path).record]
    if strict and (kept := whole_runs(path)):
        return kept
    read = read_runs(path)
    for line in read.left_out:
        warnings.warn(f"{path}: {line}", DamagedRecordWarning, stacklevel=3)
    if not read.records:
        raise UsageError(f"{path}: has no record; name the folder of a sweep")
    return read.records


def _path(given: Place, *, whole: bool = False) -> str:
    """The folder of a run, or the `whole` folder of runs that it stands in."""
    if isinstance(given, Run):
        return str(given.folder.parent if whole else given.folder)
    return os.fspath(given)
