"""`rulekeep language`: which rules in words a model follows when its cache is compressed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rulekeep.commands.options import Integers, Texts, Workers
from rulekeep.commands.runs import ended
from rulekeep.console import say
from rulekeep.executors import LocalExecutor
from rulekeep.language.chat import unstated_for
from rulekeep.language.contract import EMPTY, REPLY_TOKENS
from rulekeep.language.families import read_families
from rulekeep.language.system import read_system
from rulekeep.printable import counted
from rulekeep.records import Record
from rulekeep.records.folders import Command, run_folder
from rulekeep.records.store import results
from rulekeep.specs import AnySpec, LanguageSpec, UsageError
from rulekeep.specs.language import LEAST_PROMPTS, LanguageCommon, Replies
from rulekeep.sweeps import planning
from rulekeep.sweeps.asked import Settled
from rulekeep.sweeps.making import make_runs

# Prompts without chat that say which families a model can follow at all: some 17 a family.
# Counts for the families that ship; those of another file are in proportion to its families.
ADMISSION_PROMPTS = 120
# The same of written replies, which cost more.
WRITTEN_ADMISSION_PROMPTS = 42
# Both are of so many rules in a prompt.
_RULES_AT_ONCE = 4


def language(
    *,
    common: Annotated[LanguageCommon, Parameter(name="*")],
    replies: Replies | None = None,
    distances: Integers = (0, 512, 2048),
    placement: Texts = ("start",),
    mentions: Texts = ("none", "word"),
    control: Texts = ("none",),
    compress: Texts = ("none",),
    out: str | None = None,
    workers: Workers = None,
) -> int:
    """Measure which rules in words a language model follows when its cache is compressed.

    Each prompt states several rules, then comes chat, then a request for each rule. A rule counts
    as followed where its reply gains most among those of its family, against prompts that do not
    state it. Families that the model cannot follow without chat are left out, and named.

    Parameters
    ----------
    replies
        scored: how likely given replies are. written: the model writes, and each family's check
        says what it shows. Scored if left out; written with an endpoint.
    distances
        Tokens of chat between the rules and the requests, between commas.
    placement
        Where the rules stand, between commas: start (the system prompt), middle (a user's turn).
    mentions
        How every option of each family is mentioned, between commas: none, word, instruction.
    control
        none, no_rules (must score chance; a floor of written replies), swapped (another option in
        the text), between commas.
    compress
        What is done before the requests, between commas. To the cache: none, an eviction with the
        share it keeps as in snapkv@0.25, with both ends kept as in snapkv+ends@0.25, rounding as in
        kivi@4bit. To the text: keep_last@0.25, keep_ends, extract, summary. Your own, of either:
        file.py:function@0.25; of the text ./command@0.25 too.
    out
        Folder of runs, runs/language-TIME if left out. Cells that stand there are not run again;
        another --compress is another cell, measured whole.
    workers
        Cells side by side on this machine; one if left out.
    """
    every = read_families(common.rules)
    if common.system:
        # An unknown one is refused where a cell is resolved.
        named = {name: every[name] for name in common.families if name in every} or every
        prompt = read_system(common.system, named)
        of_prompt = {"families": tuple(prompt.rules), "rules_at_once": len(prompt.rules)}
        given = common.model_dump(include={*of_prompt}, exclude_unset=True)
        common = common.model_copy(update=of_prompt | given)
        for note in prompt.notes(named):
            say(note)
    base = {
        **common.model_dump(), "replies": replies or ("written" if common.endpoint else "scored")
    }  # fmt: skip
    first = LanguageSpec.parse(
        **base
        | {"families": (), "chat": "", "system": "", "distance": 0, "prompts": ADMISSION_PROMPTS}
    )
    known = len(every)
    admission = _admission_prompts(first, known)
    first = first.model_copy(
        update={"prompts": admission, "unstated": _unstated(first, known, admission)}
    )
    base["unstated"] = _unstated(first, len(common.families) or known, common.prompts)
    cells = [
        LanguageSpec.parse(
            **base | {"chat": common.chat if distance else ""}, distance=distance,
            placement=place, mentions=kind, control=checked, compress=compress,
        )
        # What has too little chat for the farthest is said before hours of the others.
        for distance in (sorted(distances, reverse=True) if common.chat else distances)
        for place in placement
        for kind in mentions
        for checked in control
    ]  # fmt: skip
    root = run_folder("language", out)
    # Before the first cell is run: what cannot be is said at once.
    wanted, *_ = [planning.identity(one) for one in (cells if common.families else (first, *cells))]
    heard = set[str]()

    def make(folder: Path) -> Sequence[AnySpec]:
        from rulekeep.language.figures import admitted

        if common.families:
            return Settled(cells)
        standing = results(folder) if folder.is_dir() else []
        known = next((one for one in standing if one.id == wanted), None)
        if known is None:
            return [first]
        kept, left_out = admitted(known)
        if len(kept) < first.rules_at_once:
            raise UsageError(
                f"--model {common.model}: {_too_few(known, kept, left_out, common.rules_at_once)}"
            )
        note = f"left out, since the model fails them without chat: {', '.join(left_out)}"
        # Asked again after each round.
        if left_out and note not in heard:
            heard.add(note)
            say(note)
        return Settled([first, *(cell.model_copy(update={"families": kept}) for cell in cells)])

    executor = LocalExecutor(workers or 1)
    return ended(make_runs(make, root, executor, command=Command.given(), chooses=True), root)


def _admission_prompts(first: LanguageSpec, families: int) -> int:
    """How many prompts choose families: with fewer rules in each, more."""
    each = WRITTEN_ADMISSION_PROMPTS if first.replies == "written" else ADMISSION_PROMPTS
    fewer = _RULES_AT_ONCE / min(_RULES_AT_ONCE, first.rules_at_once)
    return max(LEAST_PROMPTS, math.ceil(each * fewer * families / len(read_families(""))))


def _unstated(first: LanguageSpec, families: int, prompts: int) -> int:
    """How many families each prompt asks for and does not state."""
    return 0 if first.replies == "written" else unstated_for(families, prompts)


def _too_few(record: Record, kept: Sequence[str], left_out: Sequence[str], asked: int) -> str:
    """Why too few families are left, and the fix."""
    empty = sum(one.judged == "written" and not one.reply.strip() for one in record.choices)
    if EMPTY in record.environment and 2 * empty > len(record.choices):
        off = "switch it off at the server and give another --out, or "
        return (
            f"replies to {empty} of {len(record.choices)} rules were empty "
            f"({record.environment[EMPTY]}): thinking counts in the {REPLY_TOKENS} tokens of a "
            f"reply; {off if record.spec.rest.get('endpoint') else ''}name another --model"
        )
    fewer = "fewer --rules-at-once, or " if kept else ""
    return (
        f"{counted(len(kept), 'family is', 'families are')} left, where {asked} are asked for at "
        f"once; give {fewer}a stronger model, since without chat it fails {', '.join(left_out)}"
    )
