"""What a hostile or a clumsy user asks for: exit 2, one line with the value and the fix.

No traceback and nothing written, for every command. A case is a command line, the value as the
line must show it, and what of the fix it must say.
"""

import shlex
from pathlib import Path

import pytest
import tiny
from bad_files import bring

from rulekeep.executors import LocalExecutor

BAD = [
    ("swep", "swep", "sweep"),
    ("run --width 0", "0", "greater than or equal to 1"),
    ("run --context 10", "10", "must be 49 or more"),
    ("run --test-contexts 64,64", "64", "name each once"),
    ("run --steps 10 --warmup-steps 10", "10", "must be below steps 10; give warmup_steps as well"),
    ("run --device cuda:7", "cuda:7", "cpu"),
    ("run --task article", "article", "rulekeep article"),
    ("run --task task_raises.py:T", "task_raises.py:T", "no luck"),
    ("run --mixer delt", "delt", "did you mean delta?"),
    ("run --mixer $'a\\nb\\x1b[31m'", "'a\\nb\\x1b[31m'", "write name"),
    ("run --mixer-options.heads 5", "5", "width 64"),
    ("run --mixer delta+slots --mixer-options.gru.heads 8", "gru.heads", "delta.heads"),
    ("run --mixer syntax.py:M", "syntax.py:M", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    ("run --predictor module.py:M --mixer delta", "mixer", "predictor"),
    ("run --out a_file", "a_file", "name another folder"),
    ("run unknown_key.toml", "widht", "did you mean width?"),
    ("sweep number.py", "number.py", "no function sweep"),
    ("sweep at_its_top.py", "RunSpec: setps", "(at_its_top.py, line 2)"),
    ("sweep smoke --mixers delta", "smoke", "leave it out"),
    ("sweep standard --mixers 'delta[haeds=8]'", "haeds", "did you mean heads?"),
    ("sweep smoke --executor dask", "dask", "needs --scheduler ADDRESS"),
    ("resume nowhere", "nowhere", "name one that a sweep has written"),
    ("report no_records", "no_records", "rulekeep resume no_records"),
    ("test nowhere --contexts 64", "nowhere", "name that of a run, RUNS/ID"),
    ("explain whole/made-up --examples 3", "3", "must be from 40"),
    (
        "check torch.nn:Linear",
        "torch.nn:Linear",
        "define init_state; a layer without a state",
    ),
    ("data recite --context 64 --out no/file", "no/file", "name another place"),
    ("check-task task_exits.py:T", "task_exits.py:T", "SystemExit: 3 (task_exits.py, line 3)"),
    ("speed --mixers delta[width=32]", "width", "no option of a mixer"),
]


def listing(folder: Path) -> dict[str, int]:
    """Every file and folder, with the size of a file."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size if path.is_file() else -1
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


Brought = tuple[Path, dict[str, int]]


def brought(folder: Path) -> Brought:
    """The folder with all files in it, and their listing."""
    bring(folder)
    return folder, listing(folder)


@pytest.fixture(scope="module")
def untouched() -> list[Brought]:
    """The folder that the last case left as it was, for the next one."""
    return []


def words(line: str) -> list[str]:
    """A command line as a shell has it, `$'…'` included."""
    parts = shlex.split(line.replace("$'", "'"))
    return [part.encode("latin-1", "backslashreplace").decode("unicode_escape") for part in parts]


@pytest.mark.parametrize(("line", "value", "fix"), BAD, ids=[line[:60] for line, *_ in BAD])
def test_bad_input_is_one_line_with_the_value_and_the_fix_and_writes_nothing(
    untouched: list[Brought],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    value: str,
    fix: str,
) -> None:
    folder, before = untouched.pop() if untouched else brought(tmp_path_factory.mktemp("brought"))
    monkeypatch.setattr(LocalExecutor, "run", lambda *_: pytest.fail("a run was started"))
    done = tiny.rulekeep(*words(line), cwd=folder)
    errors = done.stderr
    assert (done.returncode, done.stdout) == (2, ""), errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("rulekeep: ")
    assert value in errors
    assert fix in errors
    assert len(errors) < 1000
    assert errors.removesuffix("\n").isprintable()
    assert listing(folder) == before
    untouched.append((folder, before))
