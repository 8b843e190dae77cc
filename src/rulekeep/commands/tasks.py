"""`rulekeep certify`, `data`, `show` and `check-task`: the tasks, their proofs and their data."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter

from rulekeep.commands.options import Lengths, Seed, Whole, within
from rulekeep.console import EXIT_FAILED, command_line, say, tell
from rulekeep.printable import counted
from rulekeep.records.folders import make_folder, run_folder
from rulekeep.registry import make
from rulekeep.specs import Spec, UsageError, option_name, scalar
from rulekeep.sweeps.presets import SHORTEST_TESTED
from rulekeep.tasks import TASKS, Article, SampledTask, Split

AnyTask: TypeAlias = SampledTask | Article

# The lengths that certificates are given at.
GRID = (64, 256, 1028, 4096)
MOST_SHOWN = 100
# Of a data set of everything: the body is longer than any answer.
ALL_CONTEXT = 256

TaskName = Annotated[
    str,
    Parameter(
        name="TASK",
        help="A task of the catalogue (`rulekeep list`), file.py:Class or module:Class.",
    ),
]
ExampleSeed = Annotated[Seed, Parameter(help="Seed of the examples.")]
OwnOption = Annotated[
    str,
    Parameter(help="Options of the task, as in --rules 8 --decoy-rate 0.5 --placement marked."),
]
# A reader learns from them.
Examples = Annotated[int, within(100, 2**24)]


def certify(
    task: TaskName,
    /,
    *,
    context: Lengths | None = None,
    examples: Examples = 8000,
    seed: ExampleSeed = 0,
    out: str | None = None,
    **options: OwnOption,
) -> int:
    """Prove that readers without memory stay at chance on a task.

    Parameters
    ----------
    context
        Contexts in tokens, separated by commas: 64 (96 for apply and override), 256, 1028, 4096.
    examples
        Examples of train and of test, for each context. The article is a table: it takes all.
    out
        Folder for the record, runs/certify-TIME if left out.
    """
    from rulekeep.checks.certificate import certify as certificate_of
    from rulekeep.commands import certificates
    from rulekeep.records.store import write_record

    made = make_task(task, options)
    contexts = context or default_contexts(made)
    for length in contexts:
        made.sample("test", length, 1, seed=seed)
    folder = run_folder("certify", out)
    make_folder(folder, f"--out {folder}")
    # Before hours of drawing.
    record, rows = certificates.begun(task, made, seed), list[dict[str, Any]]()
    try:
        for length in contexts:
            if isinstance(made, Article):
                rows.append(certificates.article_at_context(length))
                continue
            one = certificate_of(made, length, examples=examples, seed=seed)
            rows.append(certificates.at_context(length, one))
            tell(
                f"{task} at {length:,} tokens, {_options_of(made)}: {one.examples:,} test "
                f"examples, data {one.data_hash[:12]}\n\n{certificates.table(one)}\n\n"
                f"{certificates.verdict(one)}\n",
                flush=True,
            )
        if isinstance(made, Article):
            _tell_leak(rows)
    finally:
        # Minutes a length: those that are done are kept, whatever ends it.
        if rows:
            record = certificates.ended(record, rows)
            path = folder / certificates.file_name(record)
            write_record(path, record)
            tell(f"record: {path}")
    return 0 if record["passed"] else EXIT_FAILED


def _tell_leak(rows: list[dict[str, Any]]) -> None:
    from rulekeep.article.leak import leak_text

    tell(f"{leak_text({one['context']: one for one in rows})}\n")
    if failed := [one for one in rows if not one["passed"]]:
        best = max(one["retention"] for one in failed)
        chance = rows[0]["chance"]
        tell(f"FAILS: without memory {best:.3f} of first mentions, where chance is {chance:.3f}")


def data(
    task: TaskName | None = None,
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    context: Whole | None = None,
    n: Annotated[int | None, within(1, 2**40)] = None,
    split: Split = "test",
    format: Literal["jsonl", "parquet"] = "jsonl",  # noqa: A002 - the option's name
    seed: ExampleSeed = 0,
    out: str | None = None,
    **options: OwnOption,
) -> int:
    """Write the examples of a task, for another harness to use, or a data set of everything.

    Parameters
    ----------
    all_
        Instead of a task: every split of every task with its certificate, histories of agents, and
        families of rules, as parquet. The folder --out has a card that `datasets` reads.
    context
        Tokens of each example, the answer included; 256 for --all.
    n
        How many examples; 1000 if left out (article: all of its 1944).
    split
        train, validation or test.
    format
        jsonl or parquet.
    out
        File to write, which appears when it is whole; JSONL goes to standard output if left out.
    """
    from rulekeep.records.store import whole_files
    from rulekeep.tasks import export

    if all_:
        if task or options or format != "parquet" or out is None:
            raise UsageError("--all: takes no task; give --format parquet and --out FOLDER")
        from rulekeep.commands.dataset import write_all

        export.require(format)
        write_all(Path(out), context or ALL_CONTEXT, n or 1000, seed)
        return 0
    if task is None or context is None:
        raise UsageError("data: give a task and --context, or --all --format parquet --out FOLDER")
    if format != "jsonl" and out is None:
        raise UsageError(f"--format {format}: goes to a file; give --out FILE")
    made = make_task(task, options)
    count = n or (Article.size if isinstance(made, Article) else 1000)
    export.require(format)
    made.sample(split, context, 1, seed=seed, start=count - 1)
    pieces = export.pieces(made, split, context, count, seed)
    about = {
        "task": task,
        "options": made.options.model_dump_json(),
        **export.about(made, split, context, seed),
        "rulekeep": version("rulekeep"),
    }
    if out is not None:
        with whole_files(Path(out)) as (file,):
            data_hash = export.export(pieces, file, format, about)
    else:
        data_hash = export.export(pieces, sys.stdout.buffer, format, about)
        sys.stdout.buffer.flush()
    say(f"{counted(count, 'example')}, sha256 of the tokens: {data_hash}")
    return 0


def show(
    task: TaskName,
    /,
    *,
    context: Whole = 128,
    n: Annotated[int, within(1, MOST_SHOWN)] = 3,
    split: Split = "test",
    seed: ExampleSeed = 0,
    html: str | None = None,
    **options: OwnOption,
) -> int:
    """Show examples of a task with rules, decoys, item, request and answer marked.

    Parameters
    ----------
    context
        Tokens of each example; long bodies are shown by their ends.
    n
        How many examples.
    split
        train, validation or test.
    html
        A file for the same as one offline page.
    """
    from rulekeep.reporting.marked import pieces

    made = make_task(task, options)
    sample = made.sample(split, context, n, seed=seed)
    examples = [pieces(sample, row, made.vocabulary) for row in range(n)]
    title = f"{task} at {context:,} tokens, split {split}"
    if not isinstance(made, Article):
        title += f", seed {seed}"
    if html is None:
        from rulekeep.commands.printed import print_examples

        print_examples(title, _options_of(made), examples)
        return 0
    from rulekeep.records.store import write_text
    from rulekeep.reporting.page import render_examples

    write_text(Path(html), render_examples(title, _options_of(made), examples, command_line()))
    tell(f"page: {html}")
    return 0


def check_task(
    task: TaskName,
    /,
    *,
    context: Whole | None = None,
    examples: Examples = 8000,
    seed: ExampleSeed = 0,
    **options: OwnOption,
) -> int:
    """Check a task of your own against the contract: each property, and by how much it differs.

    Parameters
    ----------
    context
        Tokens of each example; the shortest that the task allows if left out.
    examples
        Examples of train and of test that the certificate is given on.
    """
    from rulekeep.checks.tasks import check_task as rows_of
    from rulekeep.commands.printed import print_rows

    cls = TASKS.find(task)
    if not issubclass(cls, SampledTask):
        raise UsageError(f"task {task!r}: is a table, not a SampledTask; there is no draw to check")
    made = make_task(task, options)
    length = made.shortest_context if context is None else context
    made.sample("test", length, 1, seed=seed)
    given = made.options.model_dump(exclude_unset=True)
    rows = rows_of(cls, context=length, examples=examples, seed=seed, **given)
    return print_rows(task, rows, [row.property for row in rows])


def make_task(name: str, options: Mapping[str, str]) -> AnyTask:
    """The task of a name; `--decoy-rate 0.5` is the field `decoy_rate` of its `options_type`.

    Raises:
        UsageError: there is no such task or option, or a value is out of its range.
    """
    cls: Any = TASKS.find(name)
    values = {option_name(key): scalar(text) for key, text in options.items()}
    given: Spec = cls.options_type.parse(**values)
    task: AnyTask = make(f"task {name!r}", cls, given)
    return task


def default_contexts(task: AnyTask) -> tuple[int, ...]:
    """The lengths at which a task is certified unless others are asked for."""
    shortest = task.shortest_context
    # As the presets test it: 64 leaves the tasks with a request next to no body.
    first, *longer = GRID
    grid = (SHORTEST_TESTED.get(task.name, first if shortest <= first else 96), *longer)
    return tuple(context for context in grid if context >= shortest) or (shortest,)


def _options_of(task: AnyTask) -> str:
    return " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in task.options.model_dump().items()
    )
