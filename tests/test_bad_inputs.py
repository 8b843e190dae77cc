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
    ("run --width", "--width", "requires an argument"),
    ("run --context 10", "10", "must be 49 or more"),
    ("run --test-contexts 64,", "''", "valid integer"),
    ("run --test-contexts 64,64", "64", "name each once"),
    ("run --steps 10 --warmup-steps 10", "10", "must be below steps 10; give warmup_steps as well"),
    ("run --learning-rate nan", "nan", "finite number"),
    ("run --device gpu", "gpu", "must be cpu, cuda or cuda:N"),
    ("run --device cuda:7", "cuda:7", "cpu"),
    ("run --task article", "article", "rulekeep article"),
    ("run --task-options.ruels 3", "ruels", "did you mean rules?"),
    ("run --task task_raises.py:T", "task_raises.py:T", "no luck"),
    ("run --mixer delt", "delt", "did you mean delta?"),
    ("run --mixer $'a\\nb\\x1b[31m'", "'a\\nb\\x1b[31m'", "write name"),
    ("run --mixer delta+slots+gru", "delta+slots+gru", "layers"),
    ("run --mixer-options.haeds 4", "haeds", "did you mean heads?"),
    ("run --mixer-options.heads 5", "5", "width 64"),
    ("run --mixer delta+slots --mixer-options.gru.heads 8", "gru.heads", "delta.heads"),
    ("run --mixer no.py:M", "no.py:M", "there is no file no.py in /"),
    ("run --mixer syntax.py:M", "syntax.py:M", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    ("run --mixer constructor.py:M", "constructor.py:M", "OSError: two lines"),
    ("run --mixer picky.py:M", "need", "must be given"),
    ("run --predictor module.py:M --mixer delta", "mixer", "predictor"),
    ("run --out a_file", "a_file", "name another folder"),
    ("run --out ''", "''", "name of a folder"),
    ("run --time-limit 0", "0", "greater than 0"),
    ("run --tracker trackio", "trackio", "pip install trackio"),
    ("run no.toml", "no.toml", "name a TOML file"),
    ("run unknown_key.toml", "widht", "did you mean width?"),
    ("sweep", "WHAT", "requires an argument"),
    ("sweep smok", "smok", "did you mean smoke?"),
    ("sweep no.py", "no.py", "there is no file"),
    ("sweep number.py", "number.py", "no function sweep"),
    ("sweep at_its_top.py", "RunSpec: setps", "(at_its_top.py, line 2)"),
    ("sweep smoke --mixers delta", "smoke", "leave it out"),
    ("sweep standard --mixers 'delta[heads]'", "'heads'", "option=value"),
    ("sweep standard --mixers 'delta[haeds=8]'", "haeds", "did you mean heads?"),
    ("sweep smoke --workers 0", "0", "greater than or equal"),
    ("sweep smoke --executor dask", "dask", "needs --scheduler ADDRESS"),
    ("sweep smoke --executor dask --scheduler tcp://x:1 --resources GPU", "GPU", "NAME=AMOUNT"),
    ("resume nowhere", "nowhere", "name one that a sweep has written"),
    ("resume empty", "empty", "name the --out of a sweep"),
    ("report no_records", "no_records", "rulekeep resume no_records"),
    ("report whole --out a_file", "--out a_file", "name another folder"),
    ("test nowhere --contexts 64", "nowhere", "name that of a run, RUNS/ID"),
    ("explain whole/made-up --examples 3", "3", "must be from 40"),
    (
        "check torch.nn:Linear",
        "torch.nn:Linear",
        "define init_state; a layer without a state",
    ),
    ("check delta --width x", "x", "--width 'x': must be a whole number"),
    ("certify recite --examples 9", "9", "must be from 100"),
    ("data recite --context 64 --out no/file", "no/file", "name another place"),
    ("data article --context 64 --n 1945", "1945", "from 1 to 1944"),
    ("show recite --ruels 3", "ruels", "did you mean rules?"),
    ("check-task article", "article", "is a table"),
    ("check-task task_exits.py:T", "task_exits.py:T", "SystemExit: 3 (task_exits.py, line 3)"),
    ("speed --mixers delta[width=32]", "width", "no option of a mixer"),
    ("article --contexts 15", "15", "context 15: input should be greater than or equal to 16"),
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
