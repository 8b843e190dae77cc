"""`rulekeep compact`: which rules a compactor of histories keeps, round after round."""

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

from rulekeep.analysis.summary import LEVEL, Interval
from rulekeep.commands.options import Flag, Rates, Seed, Texts, Whole, Workers
from rulekeep.commands.runs import ended
from rulekeep.compaction.compactors import find
from rulekeep.compaction.figures import Place, Survival, cells
from rulekeep.compaction.history import made
from rulekeep.compaction.messages import as_messages, read_messages, tokens_of
from rulekeep.compaction.resolving import resolve_compaction
from rulekeep.compaction.run import saved_file
from rulekeep.console import EXIT_FAILED, say, tell
from rulekeep.executors import LocalExecutor
from rulekeep.records.folders import Command, run_folder
from rulekeep.records.store import results, write_text
from rulekeep.reporting.compaction import label
from rulekeep.specs import CompactionSpec, UsageError
from rulekeep.specs.compaction import STAND_INS
from rulekeep.sweeps import planning
from rulekeep.sweeps.making import make_runs

# What a job of this kind needs: no torch.
_PRELOADED = ("rulekeep.sweeps.job", "rulekeep.compaction.run")
_NAME = "histories.json"


def compact(
    compactors: Texts = (),
    /,
    *,
    budget: Rates = (0.25,),
    rounds: Whole = 5,
    guards: Texts = ("none",),
    model: Texts = (),
    summary_prompt: str = "",
    histories: Whole = 20,
    tokens: Whole = 8000,
    styles: Texts = ("agent",),
    control: Texts = ("none", "no_rules"),
    rules: str = "",
    chat: str = "",
    count: str = "",
    seed: Seed = 1,
    write_histories: Path | None = None,
    compacted: Path | None = None,
    fail_below: str = "",
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
    rounds
        Compactions of each history, with new chat between them.
    guards
        What is done beside, between commas: none, system (the system prompt is pinned), reread (the
        rules file is read again after each), ends (a tenth of the budget at each end stays),
        restate (the rules are said again after each), rules (what states them is pinned).
    model
        What writes for a compactor that asks for a model, between commas: deaf and copying, two
        stand-ins between which a real one lies; file.py:call; or a folder that transformers can
        load. Both stand-ins if left out.
    summary_prompt
        A file of words that ask the model for its summary, for the compactor summary.
    histories
        How many.
    tokens
        Of each history before the first compaction, in words and marks.
    styles
        Kinds of made histories, between commas: chat, agent, code.
    control
        none, no_rules (rules are not stated: the floor), between commas.
    rules
        A TOML file of families of rules; the shipped ones if left out.
    chat
        A file of your own histories, one a line, with tool calls as OpenAI has them.
    count
        Your tokenizer: file.py:function from a text to its number of tokens.
    seed
        Seed of the histories.
    write_histories
        A folder for the histories, to be shortened by a product; nothing is run.
    compacted
        The folder of what the product has left, under the same names. Made with the same options.
    fail_below
        Exit code 1 where less is left after the last round: 0.9, or by kind as in
        prohibition=1,limit=0.8.
    confident
        Hold the lower end of the interval against it, not the share.
    junit
        A file of test results for CI: a case a kind of rule.
    out
        Folder of runs, runs/compact-TIME if left out. Cells that stand there are not run again.
    workers
        Cells side by side on this machine; as many as there are cores if left out.
    """
    line = _line(fail_below)
    if compacted is not None and not compactors:
        compactors = (f"saved:{compacted}",)
    if not compactors and write_histories is None:
        raise UsageError("name a compactor, as in mine.py:compact, keep_last or ./command")
    specs = [
        CompactionSpec.parse(
            compactor=name, budget=share, rounds=rounds, guard=guard, model=writer,
            summary_prompt=summary_prompt, histories=histories, tokens=tokens, style=style,
            control=checked, rules=rules, chat=chat, count=count, seed=seed,
        )
        for name in compactors or ("everything",)
        for share, guard, style, checked, writer in product(
            budget, guards, ("agent",) if chat else styles, control, _models(name, model)
        )
    ]  # fmt: skip
    if write_histories is not None:
        return _write(specs[0], write_histories, compacted)
    root = run_folder("compact", out)
    given = shlex.join(["rulekeep", *sys.argv[1:]])
    executor = LocalExecutor(workers, preloaded=_PRELOADED)
    command = Command(given, str(Path.cwd()))
    code = ended(make_runs(lambda _: specs, root, executor, command=command), root)
    if code:
        return code
    wanted = {planning.identity(spec) for spec in specs}
    found = cells([record for record in results(root) if record.id in wanted])
    if junit is not None:
        write_text(junit, _junit(found, line, confident))
    return EXIT_FAILED if _below(found, line, confident) else 0


def _models(name: str, given: Sequence[str]) -> Sequence[str]:
    """What writes for a compactor: nothing where it asks for no model."""
    if name.startswith("saved:") or "model" not in find(name).asked:
        return ("",)
    return given or STAND_INS


def _line(text: str) -> dict[str, float]:
    """The least share of each kind of rule; of all under an empty name."""
    line = {}
    for part in filter(None, text.split(",")):
        kind, _, share = part.rpartition("=")
        try:
            line[kind.strip()] = float(share)
        except ValueError:
            raise UsageError(
                f"--fail-below {text!a}: write a share, or kind=share between commas"
            ) from None
    return line


def _below(found: Mapping[Place, Survival], line: Mapping[str, float], confident: bool) -> bool:
    """Whether something is below the line; each is named."""
    lines = list[str]()
    for at, of in found.items():
        for kind, least in line.items():
            share = _share(of, kind)
            value = share.low if confident else share.mean
            if value < least:
                what = f"rules of the kind {kind}" if kind else "rules"
                end = " at least" if confident else ""
                lines.append(f"{label(at)}: {value:.2f}{end} of the {what} left, below {least:g}")
                if confident and share.mean >= least:
                    lines[-1] += f"; give {_needed(least)} --histories or more"
    for one in lines:
        say(one)
    return bool(lines)


def _share(of: Survival, kind: str) -> Interval:
    if kind and kind not in of.by_group:
        raise UsageError(f"--fail-below {kind}: choose from {', '.join(of.by_group)}")
    return of.by_group[kind][-1] if kind else of.kept[-1]


def _needed(least: float) -> int:
    """How many histories have an exact lower end of `least` where every rule is left."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(least)) if 0 < least < 1 else 1


def _junit(found: Mapping[Place, Survival], line: Mapping[str, float], confident: bool) -> str:
    suite = ElementTree.Element("testsuite", name="rulekeep compact")
    for at, of in found.items():
        for kind, share in {"": of.kept[-1], **{k: v[-1] for k, v in of.by_group.items()}}.items():
            case = ElementTree.SubElement(
                suite, "testcase", classname=label(at), name=kind or "all rules"
            )
            least = line.get(kind)
            value = share.low if confident else share.mean
            if least is not None and value < least:
                ElementTree.SubElement(
                    case, "failure", message=f"{value:.3f} is left, below {least:g}"
                )
    return ElementTree.tostring(suite, encoding="unicode")


def _write(spec: CompactionSpec, folder: Path, compacted: Path | None) -> int:
    """Write each history as it is before its next compaction."""
    resolved = resolve_compaction(spec)
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for number in range(spec.histories):
        history = made(resolved.families, spec, number, resolved.count, resolved.recorded)
        messages, at = history.messages, 0
        while compacted and at < spec.rounds - 1:
            file = saved_file(compacted, number, at)
            if not file.exists():
                break
            messages = [*as_messages(read_messages(file.read_bytes())), *history.fresh[at]]
            at += 1
        path = saved_file(folder, number, at)
        if not path.exists():
            budget = int(spec.budget * tokens_of(history.messages, resolved.count))
            whole = {"messages": messages, "budget": budget}
            write_text(path, json.dumps(whole, ensure_ascii=False, indent=1))
            written += 1
    tell(f"{written} histories written to {folder}")
    return 0
