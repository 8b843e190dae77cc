"""`rulekeep certify`, `data`, `show` and `check-task`: the tasks, their proofs and their data."""

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rulekeep.checks.sample_form import AnyTask
from rulekeep.commands.options import Lengths, Seed, Whole, opened, run_folder, within
from rulekeep.commands.task_options import (
    Asked,
    draw_pieces,
    first_look,
    make_task,
    task_options,
)
from rulekeep.console import EXIT_FAILED, command_line, say, tell
from rulekeep.printable import counted
from rulekeep.specs import UsageError
from rulekeep.sweeps.presets import SHORTEST_TESTED
from rulekeep.tasks import TASKS, Article, SampledTask, Split

# The lengths that certificates are given at.
GRID = (64, 256, 1028, 4096)
MOST_SHOWN = 100
# Bytes of a file name, with room for the suffix of one that is being written.
_LONGEST_NAME = 200

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
        Examples of train and of test, for each context.
    out
        Folder for the record, runs/certify-TIME if left out.
    """
    asked = make_task(task, options, ("context", "examples", "seed", "out"))
    contexts = context or _contexts(asked)
    for length in contexts:
        first_look(asked, "test", length, seed)
    folder = run_folder("certify", out)
    with opened(folder):
        _ignored_by_a_table(asked.task, examples=examples != 8000, seed=seed != 0)
        if isinstance(asked.task, Article):
            return _certify_article(contexts, folder)
        return _certify_sampled(task, asked.task, contexts, examples, seed, folder)


def _ignored_by_a_table(task: AnyTask, **asked: bool) -> None:
    for option, given in asked.items():
        if given and isinstance(task, Article):
            say(f"the article task is a table: --{option} ignored")


def _certify_sampled(
    name: str, task: SampledTask, contexts: tuple[int, ...], count: int, seed: int, folder: Path
) -> int:
    from rulekeep.checks.certificate import certify as certificate_of
    from rulekeep.commands import certificates

    # Before hours of drawing, in which it may be edited.
    made, code = {}, certificates.of_file(name)
    try:
        for length in contexts:
            made[length] = one = certificate_of(task, length, examples=count, seed=seed)
            tell(
                f"{name} at {length:,} tokens, {_said(task)}: {one.examples:,} test examples, "
                f"data {one.data_hash[:12]}\n\n{certificates.table(one)}\n\n"
                f"{certificates.verdict(one)}\n",
                flush=True,
            )
    finally:
        # Minutes a length: those that are done are kept, whatever ends it.
        if made:
            record = certificates.task_record(name, task, made, seed, code)
            _write(folder, record)
    return 0 if record["passed"] else EXIT_FAILED


def _certify_article(contexts: tuple[int, ...], folder: Path) -> int:
    from rulekeep.article.leak import leak_scores, leak_text
    from rulekeep.commands import certificates

    scores = {length: leak_scores(length) for length in contexts}
    tell(f"{leak_text(scores)}\n")
    sample = Article().sample("test", contexts[0])
    # The same at every context: what is to be said does not depend on the length.
    chance = float(sample.chance[sample.first_mention].mean())
    hashes = {
        length: hashlib.sha256(Article().examples("test", length).tokens.tobytes()).hexdigest()
        for length in contexts
    }
    record = certificates.leak_record(Article, scores, chance, hashes)
    if not record["passed"]:
        best = max(one["retention"] for one in scores.values())
        tell(f"FAILS: without memory {best:.3f} of first mentions, where chance is {chance:.3f}\n")
    _write(folder, record)
    return 0 if record["passed"] else EXIT_FAILED


def data(
    task: TaskName,
    /,
    *,
    context: Whole,
    n: Annotated[int | None, within(1, 2**40)] = None,
    split: Split = "test",
    format: Literal["jsonl", "parquet", "npz"] = "jsonl",  # noqa: A002 - the option's name
    seed: ExampleSeed = 0,
    out: str | None = None,
    **options: OwnOption,
) -> int:
    """Write the examples of a task, for another harness to use.

    Parameters
    ----------
    context
        Tokens of each example, the answer included.
    n
        How many examples; 1000 if left out (article: all of its 1944).
    split
        train, validation or test.
    format
        jsonl, parquet or npz.
    out
        File to write, which appears when it is whole; standard output if left out.
    """
    from rulekeep.tasks import export

    asked = make_task(task, options, ("context", "n", "split", "format", "seed", "out"))
    count = n or (Article.size if isinstance(asked.task, Article) else 1000)
    export.require(format)
    _ignored_by_a_table(asked.task, seed=seed != 0)
    first_look(asked, split, context, seed, count - 1)
    pieces = draw_pieces(asked, split, context, count, seed, export.PIECE_TOKENS)
    about = {
        "task": task, "options": asked.task.options.model_dump_json(),
        "split": split, "context": str(context), "seed": str(seed),
        "version": str(asked.task.version), "vocabulary": " ".join(asked.task.vocabulary),
        "rulekeep": version("rulekeep"),
    }  # fmt: skip
    if out is None:
        if format != "jsonl" and sys.stdout.isatty():
            raise UsageError(f"--format {format}: not for a terminal; add --out FILE or a pipe")
        data_hash = export.export(pieces, sys.stdout.buffer, format, about)
        sys.stdout.buffer.flush()
    else:
        from rulekeep.records.store import whole_file

        path = _file("out", out)
        with whole_file(path) as file:
            data_hash = export.export(pieces, file, format, about)
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

    asked = make_task(task, options, ("context", "n", "split", "seed", "html"))
    file = None if html is None else _file("html", html)
    sample = next(draw_pieces(asked, split, context, n, seed, n * max(1, context)))
    examples = [pieces(sample, row, asked.task.vocabulary) for row in range(n)]
    said, title = _said(asked.task), f"{task} at {context:,} tokens, split {split}"
    _ignored_by_a_table(asked.task, seed=seed != 0)
    if not isinstance(asked.task, Article):
        title += f", seed {seed}"
    if file is None:
        from rulekeep.commands.printed import print_examples

        print_examples(title, said, examples)
        return 0
    from rulekeep.records.store import write_text
    from rulekeep.reporting.page import render_examples

    command = command_line()
    write_text(file, render_examples(title, said, examples, command))
    tell(f"page: {file}")
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
    cls = TASKS.find(task)
    if not issubclass(cls, SampledTask):
        raise UsageError(f"task {task!r}: is a table, not a SampledTask; there is no draw to check")
    own = ("context", "examples", "seed")
    asked = make_task(task, options, own)
    length = asked.task.shortest_context if context is None else context
    first_look(asked, "test", length, seed)
    from rulekeep.checks.tasks import check_task as rows_of
    from rulekeep.commands.printed import print_rows

    given = task_options(task, cls, options, own).model_dump(exclude_unset=True)
    rows = rows_of(cls, context=length, examples=examples, seed=seed, **given)
    return print_rows(task, rows, [row.property for row in rows])


def _contexts(asked: Asked) -> tuple[int, ...]:
    shortest = asked.task.shortest_context
    # As the presets test it: 64 leaves the tasks with a request next to no body.
    first, *longer = GRID
    grid = (SHORTEST_TESTED.get(asked.task.name, first if shortest <= first else 96), *longer)
    return tuple(context for context in grid if context >= shortest) or (shortest,)


def _said(task: AnyTask) -> str:
    return " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in task.options.model_dump().items()
    )


def _file(option: str, text: str) -> Path:
    """A file that can be written: its folder is there, and it is no folder itself."""
    if not text.strip() or not text.isprintable():
        raise UsageError(f"--{option} {text!a}: must be the name of a file")
    path = Path(text)
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise UsageError(f"--{option} {text}: is too long; name another file")
    if path.exists() and not path.is_file():
        raise UsageError(f"--{option} {text}: is not a file")
    if not path.parent.is_dir():
        raise UsageError(f"--{option} {text}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--{option} {text}: the folder {path.parent} cannot be written")
    return path


def _write(folder: Path, record: dict[str, object]) -> None:
    from rulekeep.commands import certificates
    from rulekeep.records.store import write_record

    path = folder / certificates.file_name(record)
    write_record(path, record)
    tell(f"record: {path}")
