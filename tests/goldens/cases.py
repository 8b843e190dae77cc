"""The cases that goldens hold: every set of options that committed records use, and new mixers.

They are read from records once and kept in `cases.json`: a check needs no `results/`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldens.figures import defaults_of
from rulekeep.mixers import MIXERS
from rulekeep.specs import ArticleCell, RunSpec
from rulekeep.specs.mixer import written
from rulekeep.tasks import TASKS, Article

HERE = Path(__file__).parent
# What a case of training has of a record; all else is small and the same in every case.
_OF_A_RECORD = ("added_positions", "width", "hidden", "layers", "weight_decay", "final_share")
_USUAL = {
    "added_positions": "none", "width": 64, "layers": 2, "weight_decay": 0.0, "final_share": 0.1
}  # fmt: skip


def cases() -> dict[str, dict[str, Any]]:
    """By family and name."""
    found: dict[str, dict[str, Any]] = json.loads((HERE / "cases.json").read_text())
    _add_new(found["mixers"], found["training"])
    return found


def _add_new(mixers: dict[str, Any], training: dict[str, Any]) -> None:
    """Adds a case with default options for each mixer and task that no record has yet."""
    made = {case["mixer"] for case in mixers.values()}
    trained = {name for case in training.values() for name in case["mixer"].split("+")}
    tasks = {case["task"] for case in training.values()} | {Article.name}
    for name in MIXERS:
        if name not in made:
            mixers[name] = {"mixer": name, "options": {}, "width": 64}
        if name not in trained:
            training[f"recite {name}"] = {"task": "recite", "mixer": name}
    for name in TASKS:
        if name not in tasks:
            training[f"{name} attention"] = {"task": name, "mixer": "attention"}


def collect(results: Path) -> dict[str, dict[str, Any]]:
    """The cases of these records."""
    runs, cells = [], set()
    for spec in _specs(results):
        if "model" in spec:
            cells.add((spec["model"], spec["decoys"]))
        elif spec.get("kind", RunSpec.kind) == RunSpec.kind and "mixer" in spec:
            runs.append(spec)
    article = {
        f"{model} {decoys}": {"model": model, "decoys": decoys}
        for model, decoys in sorted(cells | {(m, "published") for m in ("attention", "compressed")})
    }
    mixers: dict[str, Any] = {}
    for spec in runs:
        for name, options in _single(spec["mixer"], spec["mixer_options"]):
            _add_mixer(mixers, name, options, spec["width"])
    for case in article.values():
        joining_mixer = ArticleCell(context=64, model=case["model"]).joining_mixer
        if joining_mixer:
            options = {**_defaults(joining_mixer.mixer), **joining_mixer.options}
            _add_mixer(mixers, joining_mixer.mixer, options, 64)
    return {
        "mixers": dict(sorted(mixers.items())),
        "training": dict(sorted(_training(runs).items())),
        "article": article,
    }


def _specs(results: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(results.rglob("record.json")):
        yield json.loads(path.read_text())["spec"]
    for path in sorted(results.rglob("records.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            spec = record.get("spec", record)
            # The first records of the article name its published models in words of their own.
            if "model" not in spec or "decoys" in spec:
                yield spec


def _single(mixer: str, options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    names = mixer.split("+")
    for name in names:
        before = f"{name}." if len(names) > 1 else ""
        yield (
            name,
            {
                key.removeprefix(before): value
                for key, value in options.items()
                if key.startswith(before)
            },
        )


def _defaults(mixer: str) -> dict[str, Any]:
    return defaults_of(f"mixer {mixer}")


def _short(mixer: str, options: dict[str, Any]) -> str:
    usual = {
        (f"{name}.{key}" if "+" in mixer else key): value
        for name in mixer.split("+")
        for key, value in _defaults(name).items()
    }
    changed = {key: value for key, value in sorted(options.items()) if usual[key] != value}
    return written(mixer, changed)


def _add_mixer(mixers: dict[str, Any], name: str, options: dict[str, Any], width: int) -> None:
    said = _short(name, options) + (f" width {width}" if width != 64 else "")
    mixers[said] = {"mixer": name, "options": options, "width": width}


def _training(runs: list[dict[str, Any]]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    settings: dict[str, Counter[str]] = {}
    for spec in runs:
        case = {
            "task": spec["task"],
            "mixer": spec["mixer"],
            "mixer_options": spec["mixer_options"],
            **{key: spec[key] for key in _OF_A_RECORD},
        }
        group = groups.setdefault(json.dumps(case, sort_keys=True), {"case": case, "used": set()})
        group["used"].add(json.dumps(spec["task_options"], sort_keys=True))
    found = {}
    for _, group in sorted(groups.items()):
        case = group["case"]
        # Of the settings that it was trained on, the one that fewest cases have so far.
        times = settings.setdefault(case["task"], Counter())
        options = min(sorted(group["used"]), key=times.__getitem__)
        times[options] += 1
        found[_said(case)] = {**case, "task_options": json.loads(options)}
    assert len(found) == len(groups), "two cases of one name"
    for task, times in settings.items():
        every = {
            json.dumps(spec["task_options"], sort_keys=True)
            for spec in runs
            if spec["task"] == task
        }
        for number, options in enumerate(sorted(every - set(times))):
            found[f"{task} attention, setting {number + 1}"] = {
                "task": task, "mixer": "attention", "task_options": json.loads(options)
            }  # fmt: skip
    return _spanning(found)


def _spanning(found: dict[str, Any]) -> dict[str, Any]:
    """Of these cases, in their order, those that show what none before them shows.

    That is a mixer, a setting of a task, another size or rate. What a mixer's options change,
    the goldens of mixers hold.
    """
    seen, kept = set[str](), dict[str, Any]()
    for name, case in found.items():
        shown = [
            case["mixer"],
            (case["task"], case.get("task_options")),
            *((key, case.get(key)) for key in _OF_A_RECORD if key != "hidden"),
        ]
        new = {json.dumps(one, sort_keys=True) for one in shown} - seen
        if new:
            kept[name] = case
            seen |= new
    return kept


def _said(case: dict[str, Any]) -> str:
    """A name; `hidden` follows from the rest in nearly every record, and is always said."""
    said = f"{case['task'].rpartition(':')[2]} {_short(case['mixer'], case['mixer_options'])}"
    for key in _OF_A_RECORD:
        if case[key] != _USUAL.get(key):
            said += f" {key} {case[key]}"
    return said


def write_cases(results: Path) -> None:
    """Lists the cases anew."""
    lines = [
        f"{json.dumps(family)}: {{\n"
        + ",\n".join(
            f"{json.dumps(name)}: {json.dumps(case, separators=(',', ':'))}"
            for name, case in of.items()
        )
        + "\n}"
        for family, of in collect(results).items()
    ]
    (HERE / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
