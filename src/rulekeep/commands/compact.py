"""`rulekeep compact`: which rules a compactor of histories keeps, round after round."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple
from xml.etree import ElementTree

from cyclopts import Parameter

from rulekeep.analysis.summary import LEVEL, Interval
from rulekeep.commands.options import Flag, Rates, Texts, Workers
from rulekeep.commands.runs import ended
from rulekeep.compaction.compactors import find
from rulekeep.compaction.figures import Place, Survival, cells, is_kept
from rulekeep.compaction.history import HOLDING
from rulekeep.compaction.saved import spec_of, write
from rulekeep.console import EXIT_FAILED, say, tell
from rulekeep.executors import LocalExecutor
from rulekeep.language.families import read_families
from rulekeep.records.folders import Command, run_folder
from rulekeep.records.record import Kept
from rulekeep.records.store import results, write_text
from rulekeep.reporting.compaction import label
from rulekeep.specs import CompactionSpec, UsageError, choose
from rulekeep.specs.compaction import COMPACTED, STAND_INS, CompactionCommon
from rulekeep.sweeps import planning
from rulekeep.sweeps.making import make_runs

# What a job of this kind needs: no torch.
_PRELOADED = ("rulekeep.sweeps.job", "rulekeep.compaction.run")
_COMMON = CompactionCommon()


def compact(
    compactors: Texts = (),
    /,
    *,
    budget: Rates = (0.25,),
    guards: Texts = ("none",),
    model: Texts = (),
    styles: Texts = ("agent",),
    control: Texts = (),
    common: Annotated[CompactionCommon, Parameter(name="*")] = _COMMON,
    compress: Texts = (),
    write_histories: Path | None = None,
    compacted: Path | None = None,
    fail_below: str = "",
    fail_above: str = "",
    confident: Flag = False,
    junit: Path | None = None,
    out: str | None = None,
    workers: Workers = None,
) -> int:
    """Measure which rules a compactor keeps when it shortens an agent's history again and again.

    Each history states a rule in the system prompt, in a rules file, and in turns of the user at
    the start, in the middle, near the end, in several turns, and revised; others are withdrawn or
    quoted, and must not be followed. After each compaction new chat comes. No model is needed.

    Parameters
    ----------
    compactors
        What shortens a history, between commas: file.py:function from messages to messages, a
        command that reads and writes JSON, or keep_last, keep_ends, clear_tools, extract, summary,
        everything, nothing.
    budget
        Share of the tokens of a history that may be left, between commas.
    guards
        What is done beside, between commas: none, system (the system prompt is pinned), reread (the
        rules file is read again after each), ends (a tenth of the budget at each end stays),
        restate (the rules are said again after each), rules (what states them is pinned).
    model
        What writes for a compactor that asks for a model, between commas: deaf and copying, two
        stand-ins between which a real one lies; file.py:call; or a folder that transformers can
        load. Both stand-ins if left out.
    styles
        Kinds of made histories, between commas: chat, agent, code.
    control
        none, no_rules (rules are not stated: the floor), between commas. Both if left out, but of
        a product's output none.
    compress
        What is done to the reader's cache of the whole history, beside the compactor everything,
        between commas: an eviction with the share it keeps, as in snapkv@0.25, or kivi@4bit.
    write_histories
        A new folder for the histories, to be shortened by a product; nothing is run. Given again,
        it writes those of the next round.
    compacted
        The folder of --write-histories, whose folder "compacted" has what the product has left of
        each history, under the same name. Options are those of the folder.
    fail_below
        Exit code 1 where less is left after the last round: 0.9 of all rules; or by kind, place or
        fact, as in prohibition=1,middle=0.8,facts=0.5.
    fail_above
        Exit code 1 where there is more of it after the last round: left=1.2 for each token of the
        budget; misled, unpaired or invented, as a share.
    confident
        Hold the lower end of the interval against it, not the share.
    junit
        A file of test results for CI: a case a kind of rule.
    out
        Folder of runs, runs/compact-TIME if left out. Cells that stand there are not run again.
    workers
        Cells side by side on this machine; as many as there are cores if left out.
    """
    groups = {family.group for family in read_families(common.rules or "agents").values()}
    least = _line("--fail-below", fail_below, ["", *sorted(groups), *HOLDING, "facts"])
    most = _line("--fail-above", fail_above, ["left", "misled", "unpaired", "invented"])
    folder = write_histories or compacted
    if folder and (compactors or (write_histories and compacted)):
        raise UsageError(
            "give a compactor, or --write-histories, or --compacted: a product shortens by itself"
        )
    if folder:
        compactors = (f"saved:{folder}",)
    elif not compactors:
        raise UsageError("name a compactor, as in mine.py:compact, keep_last or ./command")
    control = control or (("none",) if folder else ("none", "no_rules"))
    specs = [
        CompactionSpec.parse(
            **common.model_dump(), compactor=name, budget=share, guard=guard, model=writer,
            style=style, control=checked, compress=compress if name == "everything" else (),
        )
        for name in compactors
        for share, guard, style, checked, writer in product(
            budget, guards, ("agent",) if common.chat else styles, control, _models(name, model)
        )
    ]  # fmt: skip
    if compress and not any(spec.compress for spec in specs):
        raise UsageError("--compress: is beside the compactor everything; name that one too")
    if model and not any(spec.model for spec in specs):
        raise UsageError("--model: no compactor asks for a model; leave it out")
    if folder:
        if len(specs) > 1:
            raise UsageError(f"{folder}: has room for one cell; give one budget, style and control")
        if write_histories:
            return _write(specs[0], folder)
        specs = [spec_of(specs[0], folder)]
    root = run_folder("compact", out)
    executor = LocalExecutor(workers, preloaded=_PRELOADED)
    code = ended(make_runs(lambda _: specs, root, executor, command=Command.given()), root)
    if code:
        return code
    wanted = {planning.identity(spec) for spec in specs}
    found = cells([record for record in results(root) if record.id in wanted])
    for text in _oddities(found, bool(least)):
        say(text)
    cases = [*_cases(found, least, most, confident)]
    if junit is not None:
        write_text(junit, _junit(cases))
    below = [case.failure for case in cases if case.failure]
    for text in below:
        say(text)
    broken = any(of.failed[-1] == 1 for of in found.values())
    return EXIT_FAILED if below or broken else 0


class _Case(NamedTuple):
    """A figure of a cell, and how it is on the wrong side of its line; nothing if it is not."""

    cell: str
    what: str
    failure: str


def _models(name: str, given: Sequence[str]) -> Sequence[str]:
    """What writes for a compactor: nothing where it asks for no model."""
    if name.startswith("saved:") or "model" not in find(name).asked:
        return ("",)
    return given or STAND_INS


def _line(option: str, text: str, known: Sequence[str]) -> dict[str, float]:
    """The line of each figure that is named; of all rules under an empty name."""
    line = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.rpartition("=")
        try:
            line[name.strip()] = float(share)
        except ValueError:
            raise UsageError(f"{option} {text!a}: write name=number between commas") from None
        if name.strip() not in known:
            raise UsageError(f"{option} {name}: {choose(name.strip(), filter(None, known))}")
    return line


def _cases(
    found: Mapping[Place, Survival], least: Mapping[str, float], most: Mapping[str, float],
    confident: bool,
) -> Iterator[_Case]:  # fmt: skip
    """Figures after the last round against their lines: all rules and each kind, and what is named.

    Where too few rules are left, the first that is gone is said.
    """
    for at, of in found.items():
        facts = Interval(of.facts[-1], of.facts[-1], of.facts[-1])
        every = {"": of.kept, **of.by_group, **of.by_place, "facts": [facts]}
        for name in dict.fromkeys(("", *of.by_group, *least)):
            line, failure = least.get(name, 0.0), ""
            share = every[name][-1] if name in every else Interval(0, 0, 0)
            value = share.low if confident else share.mean
            if name not in every:
                failure = f"{label(at)}: {of.histories} histories have no {name} rule; give more"
            elif value < line:
                what = name if name == "facts" else f"{name} rules".strip()
                failure = (
                    f"{label(at)}: {value:.2f}{' at least' if confident else ''} of the "
                    f"{what} left, below {line:g}{_first_gone(of.each, name)}"
                )
                if confident and share.mean >= line:
                    failure += f"; give {_needed(line)}"
            yield _Case(label(at), name or "all rules", failure)
        others = {
            "left": of.left[-1], "misled": of.misled[-1].mean, "unpaired": of.unpaired[-1],
            "invented": of.invented[-1] if of.invented else 0.0,
        }  # fmt: skip
        for name, line in most.items():
            failure = f"{label(at)}: {name} is {others[name]:.2f}, above {line:g}"
            yield _Case(label(at), name, failure if others[name] > line else "")


def _first_gone(rules: Sequence[Kept], name: str) -> str:
    """The first rule of a kind or place that is not left, and its round."""
    for row in rules:
        if name in ("", row.group, row.place) and not is_kept(row.verdicts[-1]):
            at = next(at for at, said in enumerate(row.verdicts) if not is_kept(said))
            return (
                f"; first gone: {row.family} {row.option!a}, {row.place}, history {row.history}, "
                f"{row.verdicts[at]} in round {at + 1}"
            )
    return ""


def _oddities(found: Mapping[Place, Survival], line: bool) -> Iterator[str]:
    """What a reader of the shares must know, a line each."""
    for at, of in found.items():
        for share, what in (
            (of.failed[-1], f"failed: {of.failure}"),
            (max(of.longer), "more was left than before"),
            (max(of.changed), "it changed the messages that it was given, which were a copy"),
        ):
            if share:
                count = f"{share * of.histories:.0f} of {of.histories} histories"
                yield f"{label(at)}: {count}: {what}"
        if line and of.floor and of.floor[-1].mean:
            yield (
                f"{label(at)}: {of.floor[-1].mean:.2f} of the rules seem left where none was "
                "stated, so the line is easier to reach than it looks"
            )


def _needed(least: float) -> str:
    """The histories with an exact lower end of `least` where every rule is left."""
    if least >= 1:
        return "a line below 1, which no lower end reaches"
    return f"{math.ceil(math.log((1 - LEVEL) / 2) / math.log(least))} --histories or more"


def _junit(cases: Sequence[_Case]) -> str:
    suite = ElementTree.Element("testsuite", name="rulekeep compact")
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=case.cell, name=case.what)
        if case.failure:
            ElementTree.SubElement(element, "failure", message=case.failure)
    return ElementTree.tostring(suite, encoding="unicode")


def _write(spec: CompactionSpec, folder: Path) -> int:
    new, failures = write(spec, folder)
    for text in failures:
        say(text)
    tell(f"{new} histories written to {folder}; put what is left of each into {folder / COMPACTED}")
    return 0
