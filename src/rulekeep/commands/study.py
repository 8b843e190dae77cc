"""`rulekeep study`: make a study's runs, build its tables and figures, check its documents."""

from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from rulekeep.commands.options import Workers
from rulekeep.console import EXIT_FAILED, say, tell
from rulekeep.printable import counted
from rulekeep.specs import UsageError

if TYPE_CHECKING:
    from rulekeep.study import Opened

_VERBS = ("run", "build", "check")


def study(
    name: str,
    verb: Literal["run", "build", "check"] | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    workers: Workers = None,
) -> int:
    """Make the runs of a study, build its tables, figures and claims, or check documents.

    Parameters
    ----------
    name
        A study of the folder studies, or a FILE.py of yours. With --all leave it out.
    verb
        run: make what the records lack. build: write results/NAME, and fill the marks in README.md
        and docs/*.md. check: exit 1 with a line for each text that is not what the records give.
    every
        Each study of the folder studies.
    workers
        For run: runs side by side; as many as there are cores if left out.
    """
    # A study may draw: only who asks for one waits for what draws.
    from rulekeep import study as studies

    if every:
        if verb is not None or name not in _VERBS:
            raise UsageError(f"study {name!r}: write rulekeep study --all check")
        verb = name  # type: ignore[assignment]
        names = studies.names()
        if not names:
            raise UsageError(f"--all: there is no study in {Path(studies.STUDIES).absolute()}")
    else:
        if verb is None:
            raise UsageError(f"study {name!r}: say what to do: {', '.join(_VERBS)}")
        names = [name]
    opened = [studies.opened(one) for one in names]
    if verb == "run":
        return max(_run(one, workers) for one in opened)
    act = studies.build if verb == "build" else studies.check
    problems = [line for one in opened for line in act(one)]
    if every:
        problems += studies.stray(opened[0].root, names)
    for line in problems:
        say(line)
    for one in () if problems else opened:
        of = one.study
        parts = {"table": of.tables, "figure": of.figures, "claim": of.claims}
        said = ", ".join(counted(len(some), name) for name, some in parts.items())
        tell(f"{one.name}: {said}, as the records give them")
    return EXIT_FAILED if problems else 0


def _run(one: "Opened", workers: int | None) -> int:
    from rulekeep.commands.runs import sweep
    from rulekeep.study import RESULTS
    from rulekeep.sweeps.asked import Where
    from rulekeep.sweeps.presets import PRESETS

    code = 0
    # Mixers of files are named from there.
    with chdir(one.root):
        for folder, made_by in one.study.sweeps.items():
            what = made_by.what
            what = what if what in PRESETS else f"{one.path}:{made_by.what}"
            mixers = ",".join(one.study.variants[key].mixer for key in made_by.mixers) or None
            out = str(one.root / RESULTS / folder)
            code = max(code, sweep(what, mixers=mixers, out=out, where=Where(workers=workers)))
    return code
