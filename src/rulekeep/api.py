"""The commands as functions: `import rulekeep as rk`.

Each does what the command of its name does, and says on the screen what that says. A mixer or a
task is a name of the catalogue, `file.py:Class`, `module:Class`, or a class itself. Of a class in a
notebook or a script a run is made in the process that asks, one run after another. Any other class
is imported by processes of their own, several at a time.

What a user asked for and cannot be raises `UsageError`: one line with the value and the fix.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from rulekeep.analysis.flat import Value, flat
from rulekeep.checks.rows import Row
from rulekeep.commands.options import existing, run_folder
from rulekeep.executors.here import executor_for, set_back
from rulekeep.mixers import MIXERS
from rulekeep.records import Record
from rulekeep.records.store import RunFolder, read_runs, runs_of_id, whole_runs
from rulekeep.specs import Option, Positions, RunSpec, UsageError, mixer_specs, written
from rulekeep.specs.base import whole
from rulekeep.specs.run import in_order
from rulekeep.tasks import TASKS

if TYPE_CHECKING:
    from rulekeep.running.model import LanguageModel

# What a mixer or a task may be given as, and a mixer with options in a sweep.
Named: TypeAlias = str | type[Any]
Optioned: TypeAlias = Named | tuple[Named, Mapping[str, Option]]
Place: TypeAlias = "str | os.PathLike[str] | Run"


class RunFailedError(RuntimeError):
    """A run left no result: how it ended, and why, in one line."""


class DamagedRecordWarning(UserWarning):
    """A record is damaged or cannot be read, and is left out: which one, and why."""


class RunValues(TypedDict, total=False):
    """What a run may be told beside its task and its mixer: the fields of `RunSpec`."""

    width: int
    layers: int
    hidden: int | None
    added_positions: Positions
    context: int
    mixed_lengths: bool
    length_growth: float
    test_contexts: Sequence[int]
    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_share: float
    weight_decay: float
    max_gradient_norm: float
    evaluate_every: int
    validation_examples: int
    test_examples: int
    long_test_examples: int
    stop_when_solved: bool
    device: str
    precision: str
    threads: int


class Checks(list[Row]):
    """What `check` found: a row a property, and whether all hold."""

    @property
    def passed(self) -> bool:
        """Whether no property fails; a skipped one does not count."""
        return all(row.passed is not False for row in self)

    def __repr__(self) -> str:
        from rulekeep.commands.printed import lines

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
        from rulekeep.running.trained import kept_model, resolve_done
        from rulekeep.running.weights import WeightsError

        folder = RunFolder(self.folder)
        with set_back():
            try:
                return kept_model(folder, self.record, resolve_done(folder, self.record)).model
            except (OSError, WeightsError) as error:
                raise UsageError(f"{self.folder}: no weights to load: {error}") from None

    def __repr__(self) -> str:
        kept = [
            f"retention {row.figures['retention']:.3f} at {row.context} tokens"
            for row in self.record.tests()
            if "retention" in row.figures
        ]
        said = ", ".join([self.record.status, self.record.reason][: 1 + bool(self.record.reason)])
        return f"<run {self.folder}: {', '.join([said, *kept])}>"


def check(
    mixer: Named, mixer_options: Mapping[str, Option] | None = None, *, width: int = 64
) -> Checks:
    """Check a mixer against the contract, in seconds: each property, and by how much it differs.

    Print the rows, or ask for their `passed`. If the mixer raises an exception, that row fails.

    Args:
        mixer: A class, or a name: of the catalogue, `file.py:Class` or `module:Class`.
        mixer_options: The mixer's own options, by name.
        width: Channels of its input and output, `[batch, time, width]`.

    Raises:
        UsageError: there is no such mixer, its options cannot be, or its constructor fails.
    """
    from rulekeep.checks.mixers import check_mixer

    kind = MIXERS.find(mixer) if isinstance(mixer, str) else _class(mixer, "mixer")
    return Checks(check_mixer(kind, mixer_options, width=width))


def run(
    *,
    task: Named = "recite",
    mixer: Named = "attention",
    task_options: Mapping[str, Option] | None = None,
    mixer_options: Mapping[str, Option] | None = None,
    out: str | os.PathLike[str] | None = None,
    keep_weights: bool = True,
    **values: Unpack[RunValues],
) -> Run:
    """Train and test one mixer on one task, and keep the record.

    Args:
        task: A class, or a name: of the catalogue, `file.py:Class` or `module:Class`.
        mixer: The same of a mixer; `a+b` for layers in turn.
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
    from rulekeep.commands.run_options import with_defaults
    from rulekeep.sweeps.planning import identity

    names = _name(task, TASKS, "task"), _name(mixer, MIXERS, "mixer")
    own = {
        key: {name: _plain(value) for name, value in (options or {}).items()}
        for key, options in (("task_options", task_options), ("mixer_options", mixer_options))
    }
    others = {key: _plain(value) for key, value in values.items()}
    given = with_defaults({"task": names[0], "mixer": names[1], **own, **others})
    spec = RunSpec.parse(**given)
    root = run_folder("run", None if out is None else os.fspath(out))
    _make(lambda _: [spec], root, names, 1, keep_weights=keep_weights)
    (made,) = _runs(root, {identity(spec)})
    if not made.record.is_result:
        raise RunFailedError(f"run {made.id}: {made.record.status}: {made.record.reason}")
    return made


def sweep(
    what: str | RunSpec | Sequence[RunSpec],
    *,
    mixers: Sequence[Optioned] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    keep_weights: bool = True,
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

    Raises:
        UsageError: a name is unknown, or a value cannot be.
    """
    from rulekeep.commands.runs import maker

    texts = None if mixers is None else [_written(one) for one in mixers]
    if workers is not None and whole("workers", workers) < 1:
        raise UsageError(f"workers {workers}: must be 1 or more")
    specs = () if isinstance(what, str) else (what,) if isinstance(what, RunSpec) else tuple(what)
    named = [one for text in texts or () for one in _mixers_of(text)]
    names = [*named, *(name for spec in specs for name in (spec.task, *spec.mixers))]
    if isinstance(what, str):
        make, chooses = maker(what, None if texts is None else ",".join(texts))
    elif mixers is not None:
        raise UsageError("mixers: specs have their own; leave mixers out")
    else:
        make, chooses = (lambda _: specs), False
    root = run_folder("sweep", None if out is None else os.fspath(out))
    _make(make, root, names, workers, chooses=chooses, keep_weights=keep_weights)
    return _runs(root)


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
    from rulekeep.commands.retest import MOST, retest

    folder = _path(run)
    if not isinstance(given := _plain(contexts), Sequence) or isinstance(given, str):
        raise UsageError(f"contexts {contexts!r}: must be a list; write [{contexts}]")
    asked = tuple(whole("contexts", one) for one in given)
    try:
        lengths = in_order(asked)
    except ValueError as error:
        raise UsageError(f"contexts {asked}: {error}") from None
    if examples is not None and not 1 <= (examples := whole("examples", examples)) <= MOST:
        raise UsageError(f"examples {examples}: must be from 1 to {MOST}")
    if retest(folder, contexts=lengths, examples=examples):
        raise RunFailedError(f"{folder}: the test left no result; it is said why above")
    return open_run(folder)


def _plain(value: Any) -> Any:
    """Numbers of NumPy and torch, and ranges, as JSON has them; all else as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, range) else value


def report(
    runs: Place,
    /,
    *more: Place,
    out: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a page, Markdown, a CSV and figures about folders of runs; the path of the page.

    Args:
        runs: A folder of runs, or a run for the folder that it stands in.
        *more: Others, shown as if all stood in one folder; of certificates and of speed too.
        out: Folder for the report, FOLDER/report if left out.

    Raises:
        UsageError: there is no such folder, or nothing in it to report on.
    """
    from rulekeep.commands.records import report as command

    first, *others = dict.fromkeys(_path(one, whole=True) for one in (runs, *more))
    command(first, *others, out=None if out is None else os.fspath(out))
    return Path(first, "report") / "report.html" if out is None else Path(out, "report.html")


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
    from rulekeep.analysis.merging import merged

    records: list[Record] = []
    for one in (runs, *more):
        records += [one.record] if isinstance(one, Run) else _records(Path(one), strict)
    return flat(merged(records))


def open_run(folder: str | os.PathLike[str]) -> Run:
    """The run of a folder, RUNS/ID, or the only one that is done of a folder of runs.

    Four letters of an id are enough where no other begins so.

    Raises:
        UsageError: there is none, or it is not done.
    """
    from rulekeep.commands.done_run import done_run

    path = Path(folder)
    if not path.exists() and path.parent.is_dir():
        # One that is packed is read where it stands.
        for root, packed in runs_of_id(path.name, [path.parent]):
            if packed.is_result and not (root / packed.id).exists():
                return Run(root / packed.id, packed)
    found, record, _ = done_run(os.fspath(folder))
    return Run(found.path, record)


def _class(given: object, kind: str) -> type[Any]:
    if isinstance(given, type):
        return given
    name = type(given).__name__
    if type(given).__module__ == "builtins":
        raise UsageError(f"{kind} {given!a:.80}: give the name of a {kind}, or its class")
    raise UsageError(f"{kind} {name}(…): is an instance; give its class, {name}")


def _name(given: Named, catalogue: Any, kind: str) -> str:
    return given if isinstance(given, str) else catalogue.name_of(_class(given, kind))


def _written(given: Optioned) -> str:
    """A mixer as the text of `rulekeep sweep --mixers` has it."""
    if isinstance(given, tuple):
        return written(_name(given[0], MIXERS, "mixer"), given[1])
    return _name(given, MIXERS, "mixer")


def _mixers_of(text: str) -> tuple[str, ...]:
    return tuple(one.mixer for one in mixer_specs(text))


def _make(
    make: Any, root: Path, names: Sequence[str], workers: int | None, *,
    keep_weights: bool, chooses: bool = False,
) -> None:  # fmt: skip
    from rulekeep.commands.runs import How, carry_out
    from rulekeep.console import EXIT_INTERRUPTED

    executor = executor_for(names, workers)
    code = carry_out(make, root, executor, How(no_weights=not keep_weights), chooses=chooses)
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt


def _runs(root: Path, wanted: set[str] | None = None) -> list[Run]:
    records = read_runs(root).records
    return [Run(root / one.id, one) for one in records if wanted is None or one.id in wanted]


def _records(path: Path, strict: bool) -> list[Record]:
    if (existing(str(path)) / "record.json").exists():
        return [open_run(path).record]
    if strict and (whole := whole_runs(path)):
        return whole
    kept = read_runs(path)
    for line in kept.left_out:
        warnings.warn(f"{path}: {line}", DamagedRecordWarning, stacklevel=3)
    if not kept.records:
        raise UsageError(f"{path}: has no record; name the folder of a sweep")
    return kept.records


def _path(given: Place, *, whole: bool = False) -> str:
    """The folder of a run, or the `whole` folder of runs that it stands in."""
    if isinstance(given, Run):
        return str(given.folder.parent if whole else given.folder)
    return os.fspath(given)
