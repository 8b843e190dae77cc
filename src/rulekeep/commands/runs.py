"""`rulekeep run`, `sweep` and `resume`: runs are planned, made, kept and shown as they come."""

import inspect
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_origin

from cyclopts import Parameter
from pydantic import TypeAdapter, ValidationError, create_model

from rulekeep import sweep as sweeps
from rulekeep.commands.console import EXIT_FAILED, EXIT_INTERRUPTED, say
from rulekeep.commands.live import shown
from rulekeep.commands.options import integer, run_folder, seconds, worker_count
from rulekeep.contestants import contestants, scalar
from rulekeep.executors import Executor, LocalExecutor
from rulekeep.presets import PRESETS
from rulekeep.registry import find_function
from rulekeep.specs import AnySpec, PredictorSpec, RunSpec, UsageError
from rulekeep.store import RESULTS, Record
from rulekeep.trackers import check_tracker

_Make: TypeAlias = Callable[[Sequence[Record]], Sequence[AnySpec]]
_LARGEST_FILE = 2**20
_MOST_RUNS = 100_000


def _flag(name: str) -> tuple[Any, None]:
    field = RunSpec.model_fields[name]
    kind = dict[str, str] if get_origin(field.annotation) is dict else str
    default = "" if field.default in ({}, ()) else f" [default: {field.default}]"
    text = f"{field.description}{default}"
    return Annotated[kind | None, Parameter(help=text)], None


# The fields of a spec as flags, each as the user wrote it.
_FIELDS: dict[str, Any] = {name: _flag(name) for name in RunSpec.model_fields}
_Flags: Any = create_model("_Flags", **_FIELDS)


def run(
    file: str | None = None,
    /,
    *,
    flags: Annotated[_Flags | None, Parameter(name="*")] = None,
    predictor: str | None = None,
    out: str | None = None,
    time_limit: str | None = None,
    tracker: str = "none",
) -> int:
    """Train and test one mixer on one task, or score an outside model, and keep the record.

    Parameters
    ----------
    file
        A TOML file with the spec's values; flags go before it.
    flags
        The spec's values.
    predictor
        An outside model to score as it is, file.py:Class or module:Class: nothing is trained.
    out
        Folder of runs, runs/run-<time> if left out. A run that stands there is not made again.
    time_limit
        Seconds after which the run is stopped.
    tracker
        none, tensorboard, wandb or trackio.
    """
    values = {} if file is None else _from_toml(file)
    given = {} if flags is None else {k: v for k, v in flags.model_dump().items() if v is not None}
    for name, text in given.items():
        value = _typed(name, text)
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    kind: type[RunSpec] | type[PredictorSpec] = RunSpec
    if predictor is not None:
        kind = PredictorSpec
        values["predictor"] = predictor
    spec = kind.parse_json(values)
    chosen = LocalExecutor(1)
    return _carry_out(lambda _: [spec], run_folder("run", out), chosen, time_limit, tracker)


def sweep(
    what: str,
    /,
    *,
    mixers: str | None = None,
    out: str | None = None,
    executor: str = "local",
    workers: str | None = None,
    scheduler: str | None = None,
    resources: str | None = None,
    time_limit: str | None = None,
    tracker: str = "none",
) -> int:
    """Make every run of a grid that is not made yet.

    Parameters
    ----------
    what
        A preset (see `rulekeep list`), or FILE.py with a function `sweep` that returns specs,
        or FILE.py:function. One that takes an argument gets the records so far, and is asked
        again until it adds nothing.
    mixers
        For presets that compare mixers, the ones to run instead of the preset's own, between
        commas: names, file.py:Class, each with options in brackets, as in delta[heads=8].
    out
        Folder of runs, runs/sweep-<time> if left out. Runs that stand there are not made again.
    executor
        local: processes on this machine; dask: a Dask cluster.
    workers
        Runs side by side on this machine; as many as there are cores if left out.
    scheduler
        Address of the Dask scheduler, as in tcp://10.0.0.1:8786.
    resources
        What a run asks of a Dask worker, as in GPU=1.
    time_limit
        Seconds after which a run is stopped.
    tracker
        none, tensorboard, wandb or trackio.
    """
    chosen = _executor(executor, workers, scheduler, resources)
    make = _maker(what, mixers)
    return _carry_out(make, run_folder("sweep", out), chosen, time_limit, tracker)


def resume(
    folder: str,
    /,
    *,
    executor: str = "local",
    workers: str | None = None,
    scheduler: str | None = None,
    resources: str | None = None,
    time_limit: str | None = None,
    tracker: str = "none",
) -> int:
    """Go on with what was planned in a folder: runs that are missing or have failed.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep.
    executor
        local: processes on this machine; dask: a Dask cluster.
    workers
        Runs side by side on this machine; as many as there are cores if left out.
    scheduler
        Address of the Dask scheduler, as in tcp://10.0.0.1:8786.
    resources
        What a run asks of a Dask worker, as in GPU=1.
    time_limit
        Seconds after which a run is stopped.
    tracker
        none, tensorboard, wandb or trackio.
    """
    chosen = _executor(executor, workers, scheduler, resources)
    return _carry_out(None, run_folder("", folder), chosen, time_limit, tracker)


def _carry_out(
    make: _Make | None, root: Path, executor: Executor, time_limit: str | None, tracker: str
) -> int:
    limit = None if time_limit is None else seconds("time-limit", time_limit)
    check_tracker(tracker)
    executor.prepare()
    planned = sweeps.plan_again(root) if make is None else sweeps.plan(make([]), root)
    if planned.finished:
        total = len(planned.finished) + len(planned.jobs)
        say(f"{len(planned.finished)} of {total} runs stand finished in {root}")
    records = {record["id"]: record for record in planned.finished}
    open_jobs = {job.id for job in planned.jobs}
    try:
        while True:
            for note in planned.notes:
                say(note)
            jobs = [job for job in planned.jobs if job.id not in records]
            events = sweeps.execute(planned._replace(jobs=jobs), executor, limit, tracker)
            for event in shown(events, jobs):
                records[event.job.id] = event.record
            results = [r for r in records.values() if r["status"] in RESULTS]
            # What comes next may be chosen from what came: not from half of it.
            if make is None or len(results) < len(records):
                break
            planned = sweeps.plan(make(results), root)
            records |= {record["id"]: record for record in planned.finished}
            if all(job.id in records for job in planned.jobs):
                break
            open_jobs |= {job.id for job in planned.jobs}
    except KeyboardInterrupt:
        done = sum(record["status"] in RESULTS for record in records.values())
        say(
            f"interrupted: {done} of {len(records.keys() | open_jobs)} runs are finished; "
            f"for the rest: rulekeep resume {shlex.quote(str(root))}"
        )
        return EXIT_INTERRUPTED
    failed = [record for record in records.values() if record["status"] not in RESULTS]
    if len(records) == 1:
        print(_scores(records.values()))
    print(f"records: {root} ({len(records) - len(failed)} of {len(records)} runs finished)")
    print(f"report:  rulekeep report {shlex.quote(str(root))}")
    for record in failed:
        kept = root / record["id"] / "log.txt"
        where = f" (see {kept})" if kept.exists() else ""
        say(f"run {record['id']}: {record['status']}: {record['reason']}{where}")
    return EXIT_FAILED if failed or planned.lost else 0


def _scores(records: Iterable[Record]) -> str:
    lines = []
    for record in records:
        if record["status"] == "diverged":
            lines.append(f"diverged: {record['reason']}")
        rows = [row for row in record["evaluations"] if row["split"] == "test"]
        if rows:
            lines.append("test context  retention  chance  exact  token accuracy  val loss")
        for row in rows:
            loss = "–" if row["val_loss"] is None else f"{row['val_loss']:.4f}"
            lines.append(
                f"{row['context']:>12}  {row['retention']:9.3f}  "
                f"{row['chance']['retention']:6.3f}  {row['exact']:5.3f}  "
                f"{row['token_accuracy']:14.3f}  {loss:>8}"
            )
    return "\n".join(lines)


def _maker(what: str, mixers: str | None) -> _Make:
    """The function that a sweep's name stands for; its specs are checked as they come."""
    function: Callable[..., Any] = (
        PRESETS[what] if what in PRESETS else find_function(what, PRESETS, "sweep")
    )
    parameters = inspect.signature(function).parameters
    given: dict[str, Any] = {}
    if mixers is not None:
        if "mixers" not in parameters:
            raise UsageError(f"--mixers {mixers!r}: {what} has its own; leave it out")
        given["mixers"] = contestants(mixers)
    takes_records = any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters.values()
    )

    def make(records: Sequence[Record]) -> Sequence[AnySpec]:
        try:
            made = function(records, **given) if takes_records else function(**given)
            specs = list(islice(made, _MOST_RUNS + 1))
        except UsageError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"sweep {what!r}: its function failed with {said}") from error
        if not specs:
            raise UsageError(f"sweep {what!r}: it returned no spec; return a list of RunSpec")
        if len(specs) > _MOST_RUNS:
            raise UsageError(f"sweep {what!r}: it returned more than {_MOST_RUNS} specs")
        for spec in specs:
            if not isinstance(spec, AnySpec):
                kind = type(spec).__name__
                raise UsageError(f"sweep {what!r}: it returned a {kind}; return a list of RunSpec")
        return specs

    return make


def _executor(
    name: str, workers: str | None, scheduler: str | None, resources: str | None
) -> Executor:
    if name == "local":
        for option, value in (("scheduler", scheduler), ("resources", resources)):
            if value is not None:
                raise UsageError(f"--{option} {value!r}: is for --executor dask only")
        return LocalExecutor(worker_count(workers))
    if name != "dask":
        raise UsageError(f"--executor {name!r}: choose from local, dask")
    if workers is not None:
        raise UsageError(f"--workers {workers!r}: a Dask cluster has its own; leave it out")
    if scheduler is None:
        raise UsageError("--executor dask: needs --scheduler ADDRESS, as in tcp://10.0.0.1:8786")
    from rulekeep.executors.cluster import DaskExecutor

    return DaskExecutor(scheduler, _resources(resources))


def _resources(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    found = {}
    for part in text.split(","):
        name, equals, amount = part.partition("=")
        try:
            found[name.strip()] = float(amount)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise UsageError(f"--resources {text[:80]!a}: must be NAME=AMOUNT, as in GPU=1")
    return found


def _from_toml(name: str) -> dict[str, Any]:
    path = Path(name)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"{name}: is larger than 1 MiB: that is no spec")
        return tomllib.loads(path.read_bytes().decode())
    except UnicodeDecodeError:
        raise UsageError(f"{name}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: is not TOML: {error}") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}: cannot be read ({said}); name a TOML file") from None
    except RecursionError:
        raise UsageError(f"{name}: is nested too deeply") from None


def _typed(name: str, text: Any) -> Any:
    """A flag's text as the value that its field holds."""
    kind: Any = RunSpec.model_fields[name].annotation
    option = f"--{name.replace('_', '-')}"
    if isinstance(text, Mapping):
        return {key.replace("-", "_"): scalar(value) for key, value in text.items()}
    if name == "test_contexts":
        return [integer(name.replace("_", "-"), part, of=text) for part in text.split(",")]
    try:
        return TypeAdapter(kind).validate_python(text, strict=False)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].partition(",")[0]
        raise UsageError(f"{option} {text[:80]!a}: {message[0].lower()}{message[1:]}") from None
