"""Golden figures in files: a family a file, an entry a line, each with the versions it is of.

An entry's figures may change only with a higher version: `renewed` refuses all else. New figures
may stand beside the old ones.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from goldens import figures
from goldens.cases import HERE, cases
from rulekeep.mixers import MIXERS
from rulekeep.tasks import TASKS

WRITE = "python tests/goldens/write.py"
# Of float64 on any machine: a share of the sum of magnitudes, and what is rounding alone.
MOMENTS, ROUNDING = 1e-9, 1e-13
# Of scores that are made of counts.
RATIOS = 1e-12
# Of float32 on another machine than the golden's: losses; bfloat16's; shares of answers that are
# right. With narrower instructions 2e-6, 3e-4 and 0 were seen.
TRAINING, BFLOAT16, SHARES = 1e-4, 3e-3, 0.05


class RefusedError(Exception):
    """A golden would change without a higher version."""


class Family(NamedTuple):
    """Goldens of one kind: a file of entries."""

    names: Callable[[], list[str]]
    figures: Callable[[str], dict[str, Any]]
    versions: Callable[[str], dict[str, int]]


def _mixer_versions(*names: str) -> dict[str, int]:
    return {name: figures.version_of(MIXERS.find(figures.placed(name))) for name in names}


def _task_versions(name: str) -> dict[str, int]:
    return {name: figures.version_of(TASKS.find(name))}


def _plug_ins() -> list[str]:
    return sorted({c["mixer"] for c in cases()["mixers"].values()} - set(figures.catalogue()))


def _with_defaults() -> list[str]:
    return [
        *(f"spec {spec.__name__}" for spec in figures.SPECS),
        *(f"task {name}" for name in figures.task_names()),
        *(f"mixer {name}" for name in (*figures.catalogue(), *_plug_ins())),
    ]


def _default_versions(name: str) -> dict[str, int]:
    kind, what = name.split(" ", 1)
    if kind == "spec":
        return {"protocol": figures.protocol()}
    return _task_versions(what) if kind == "task" else _mixer_versions(what)


def _training_case(name: str) -> dict[str, Any]:
    return figures.EXTRA[name] if name in figures.EXTRA else cases()["training"][name]


def _training_versions(name: str) -> dict[str, int]:
    case = _training_case(name)
    return {
        "protocol": figures.protocol(),
        **_task_versions(case.get("task", "recite")),
        **_mixer_versions(*figures.mixers_of(case)),
    }


def _article_versions(name: str) -> dict[str, int]:
    cell = figures.ArticleCell(context=64, **cases()["article"][name])
    known = {"attention": "attention", "compressed": "slots"}
    mixer = cell.joining_mixer.mixer if cell.joining_mixer else known[cell.model]
    return {
        "protocol": figures.protocol(), **_task_versions("article"), **_mixer_versions(mixer)
    }  # fmt: skip


FAMILIES = {
    "defaults": Family(_with_defaults, figures.defaults_of, _default_versions),
    "tasks": Family(figures.task_names, figures.task_figures, _task_versions),
    "mixers": Family(
        lambda: list(cases()["mixers"]),
        lambda name: figures.mixer_figures(cases()["mixers"][name]),
        lambda name: _mixer_versions(cases()["mixers"][name]["mixer"]),
    ),
    "training": Family(
        lambda: [*figures.EXTRA, *cases()["training"]],
        lambda name: figures.training_figures(_training_case(name)),
        _training_versions,
    ),
    "article": Family(
        lambda: list(cases()["article"]),
        lambda name: figures.article_figures(cases()["article"][name]),
        _article_versions,
    ),
}
# Whose bits hang on the machine.
_OF_A_MACHINE = ("training", "article")


def entry(family: str, name: str) -> dict[str, Any]:
    """An entry as the present code makes it."""
    of = FAMILIES[family]
    made: dict[str, Any] = {"versions": of.versions(name), "figures": of.figures(name)}
    return {**made, "machine": figures.machine()} if family in _OF_A_MACHINE else made


def path(family: str) -> Path:
    """The file of a family."""
    return HERE / f"{family}.json"


def load(family: str) -> dict[str, dict[str, Any]]:
    """The entries of a family by name; none if there is no file yet."""
    if not path(family).exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(path(family).read_text())
    return found


def save(family: str, entries: dict[str, dict[str, Any]]) -> None:
    """Writes a family, an entry a line."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(one, separators=(',', ':'))}"
        for name, one in entries.items()
    )
    path(family).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def differences(family: str, name: str, kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between the figures of two entries, a line each."""
    loss = BFLOAT16 if "bfloat16" in name else TRAINING

    def same(place: str, a: Any, b: Any) -> bool:
        if not (isinstance(a, float) and isinstance(b, float)):
            return type(a) is type(b) and bool(a == b)
        if family == "tasks":
            return math.isclose(a, b, rel_tol=RATIOS)
        if family == "mixers":
            return math.isclose(a, b, rel_tol=MOMENTS)
        if family not in _OF_A_MACHINE or kept["machine"] == now["machine"]:
            return a == b
        if "loss" in place:
            return math.isclose(a, b, rel_tol=loss)
        return abs(a - b) <= SHARES

    return list(_differences("", kept["figures"], now["figures"], same))


def _differences(
    place: str, a: Any, b: Any, same: Callable[[str, Any, Any], bool]
) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            at = f"{place}, {key}" if place else key
            if key not in b:
                yield f"{at} is gone"
            elif key not in a:
                yield f"{at} is new"
            else:
                yield from _differences(at, a[key], b[key], same)
    elif _is_moments(a) and _is_moments(b):
        wrong = _moments_differ(a, b)
        if wrong:
            yield f"{place}: {wrong}"
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{place} has {len(b)} parts, had {len(a)}"
        else:
            for number, (one, other) in enumerate(zip(a, b, strict=True), 1):
                yield from _differences(f"{place} {number}", one, other, same)
    elif not same(place, a, b):
        yield f"{place} is {b!r}, was {a!r}"


def _is_moments(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and isinstance(value[0], int)
        and not isinstance(value[0], bool)
        and all(isinstance(part, float) for part in value[1:])
    )


def _moments_differ(a: list[float], b: list[float]) -> str | None:
    if a[0] != b[0]:
        return f"{b[0]} numbers, were {a[0]}"
    most = MOMENTS * max(a[2], b[2]) + ROUNDING * a[0]
    for what, one, other in zip(("sum", "magnitude", "product"), a[1:], b[1:], strict=True):
        if not abs(one - other) <= most:
            return f"{what} is {other:.10g}, was {one:.10g}"
    return None


def problem(family: str, name: str, kept: dict[str, Any] | None) -> str | None:
    """One line on what is wrong with a golden, and the fix; None if nothing is."""
    said = f"{family}, {name}"
    if kept is None:
        return f"{said}: has no golden; write it with {WRITE}"
    if name not in FAMILIES[family].names():
        return f"{said}: a golden of no case; write the goldens again with {WRITE}"
    now = entry(family, name)
    higher = raised(kept, now)
    changed = differences(family, name, kept, now)
    if changed and not may_change(changed, higher):
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        names = " or ".join(kept["versions"])
        return (
            f"{said}: {changed[0]}{more}; undo it, or raise the `version` of {names}, write the "
            f"goldens again with {WRITE}, and add a changelog line"
        )
    # A new option counts in every id, and so is held at once.
    if changed and (higher or family == "defaults"):
        return f"{said}: {changed[0]}; write the goldens again with {WRITE}"
    if kept["versions"] != now["versions"]:
        return (
            f"{said}: golden of {versions(kept)}, the code has {versions(now)}; write the goldens "
            f"again with {WRITE}, and add a changelog line"
        )
    return None


def versions(one: dict[str, Any]) -> str:
    """The versions of an entry in words."""
    return ", ".join(f"{name} version {number}" for name, number in one["versions"].items())


def raised(kept: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a version is higher now, and none lower."""
    before, after = kept["versions"], now["versions"]
    if set(before) != set(after):
        return False
    rises = [after[name] - before[name] for name in before]
    return min(rises) >= 0 and max(rises) > 0


def may_change(changed: list[str], higher: bool) -> bool:
    """With a higher version anything may; without one, what is new may stand beside the old."""
    return higher or all(one.endswith(" is new") for one in changed)


def renewed(
    family: str, name: str, kept: dict[str, Any] | None, now: dict[str, Any]
) -> dict[str, Any]:
    """The entry to keep.

    Raises:
        RefusedError: figures changed while the version did not.
    """
    if kept is None:
        return now
    changed, higher = differences(family, name, kept, now), raised(kept, now)
    if changed and not may_change(changed, higher):
        raise RefusedError(
            f"{family}, {name}: {changed[0]}, with {versions(now)} as before; raise the version of "
            "what changed and add a changelog line"
        )
    # What another machine gives within bounds is no reason to change bits.
    return now if changed or higher else {**kept, "versions": now["versions"]}
