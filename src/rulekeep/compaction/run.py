"""One cell of compaction, one record: histories, each shortened and gone on with, round by round.

    for history in histories:
        for round in rounds:
            shorten to the budget ─ look for each rule and fact ─ add the chat that comes next

A call that fails, hangs or returns no history ends its history: its rules count as failed from that
round on, and the others go on. A run that is stopped goes on after the last history it has saved.
"""

import copy
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rulekeep.compaction.compactors import (
    Compactor,
    Logged,
    find,
    guarded,
    stand_in,
)
from rulekeep.compaction.figures import Survival, survival
from rulekeep.compaction.history import History, made
from rulekeep.compaction.messages import (
    CompactionError,
    Message,
    text_of,
    tokens_of,
    transcript,
    unpaired,
)
from rulekeep.compaction.saved import left_of
from rulekeep.compaction.verdicts import (
    Standing,
    facts_kept,
    given_rule,
    own_sentences,
    standing,
)
from rulekeep.language.checkpointed import checkpointed
from rulekeep.language.resolving import ResolvedCompaction, resolve_compaction
from rulekeep.records.record import Kept, Round
from rulekeep.records.store import RunFolder, Values
from rulekeep.registry import find_function
from rulekeep.specs import CompactionSpec
from rulekeep.specs.compaction import STAND_INS

if TYPE_CHECKING:
    from rulekeep.compaction.asking import Asker

_TOKENS_OF_A_SUMMARY = 1024


def run(
    resolved: ResolvedCompaction,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Values:
    """Shortens every history of a cell, from its checkpoint if there is one."""
    del log
    asker = None
    if resolved.spec.reader:
        # Only what is asked of a model loads torch.
        from rulekeep.compaction import asking

        asker = asking.Asker(resolved.spec, resolved.families)

    def step(known: dict[str, Any], number: int) -> None:
        rules, rounds, choices = shortened(resolved, number, asker)
        known["rules"] += [row._asdict() for row in rules]
        known["rounds"] += [row._asdict() for row in rounds]
        known["choices"] += choices

    start: dict[str, Any] = {"rules": [], "rounds": [], "choices": []}
    values, known = checkpointed(resolved, folder, progress, start, step)
    return {
        **values,
        **{key: known[key] for key in start},
        "costs": {"seconds": known["seconds"]},
        "environment": {},
        "notes": [],
    }


def survives(compact: Callable[..., Any] | str, **options: Any) -> Survival:
    """What a compactor keeps of the rules in made histories; no file is written.

    `options` are those of `rulekeep compact`, one value each: budget, rounds, histories, tokens,
    style, guard, model, rules, chat, count, seed, control.

    Raises:
        UsageError: an option is wrong, or the compactor asks for what there is not.
    """
    compactor = find(compact) if isinstance(compact, str) else Compactor.of(compact, "own")
    spec = CompactionSpec.parse(compactor=compactor.name, **options)
    resolved = resolve_compaction(spec, compactor)
    every = [shortened(resolved, number) for number in range(spec.histories)]
    return survival(
        [row for rules, *_ in every for row in rules], [one for _, of, _ in every for one in of]
    )


def shortened(
    resolved: ResolvedCompaction, number: int, asker: "Asker | None" = None
) -> tuple[list[Kept], list[Round], list[dict[str, Any]]]:
    """What each rule of a history comes to, what each round leaves, and what a reader is asked."""
    spec, count = resolved.spec, resolved.count
    history = made(resolved.families, spec, number, count, resolved.recorded)
    model, state = _model(resolved, history), dict[str, Any]()
    messages, budget = history.messages, int(spec.budget * tokens_of(history.messages, count))
    prompt = Path(spec.summary_prompt).read_text("utf-8") if spec.summary_prompt else ""
    compact = resolved.compactor and guarded(spec.guard, resolved.compactor, history)
    standings, reached = list[list[Standing]](), list[list[bool]]()
    rounds, failure, seen = list[Round](), "", dict[str, str]()
    choices = list[dict[str, Any]]()
    for at in range(spec.rounds):
        given, began = copy.deepcopy(messages), time.perf_counter()
        left = list[Message]()
        read = len(model.prompts) if model else 0
        if not failure:
            try:
                if compact:
                    left = compact(
                        messages=given, budget=budget, count=count, state=state, model=model,
                        prompt=prompt,
                    )  # fmt: skip
                elif spec.saved:
                    left = left_of(spec.saved, number, at)
            except CompactionError as error:
                failure = str(error)
        seconds = time.perf_counter() - began
        standings.append(
            [
                Standing("failed")
                if failure
                else standing(rule, resolved.families[rule.family], left)
                for rule in history.rules
            ]
        )
        prompts = "\0".join(model.prompts[read:]) if model else ""
        reached.append([any(text in prompts for text in rule.texts) for rule in history.rules])
        seen |= {text_of(message): transcript([message]) for message in messages}
        own = own_sentences(seen, left)
        rounds.append(
            Round(
                history=number, round=at + 1, before=tokens_of(messages, count), budget=budget,
                left=tokens_of(left, count), own=sum(map(count, own)),
                facts=facts_kept(history.facts, left), unpaired=unpaired(left),
                changed=given != messages, seconds=round(seconds, 4), failure=failure,
                invented=None if history.stated else given_rule(own),
            )
        )  # fmt: skip
        if asker and at + 1 in asker.rounds:
            choices += asker.asked(history, number, asker.rounds[at + 1], left)
        messages = [*left, *history.fresh[at]]
    rows = [
        Kept(
            history=number, family=rule.family, place=rule.place, option=rule.option,
            group=resolved.families[rule.family].group,
            verdicts=tuple(one.verdict for one in every),
            roles=tuple(one.role for one in every),
            lines=tuple("" if one.verdict == "verbatim" else one.line for one in every),
            reached=given_to if model else (),
        )
        for rule, every, given_to in zip(
            history.rules, zip(*standings, strict=True), zip(*reached, strict=True), strict=True
        )
    ]  # fmt: skip
    return rows, rounds, choices


def _model(resolved: ResolvedCompaction, history: History) -> Logged | None:
    """What a compactor asks as its model: a stand-in, a user's function, or a model of a folder."""
    name = resolved.spec.model
    if not name:
        return None
    if name in STAND_INS:
        told = [text for rule in history.rules if rule.holds for text in rule.texts]
        return Logged(stand_in(name, [*told, *(fact.text for fact in history.facts)]))
    return Logged(find_function(name, STAND_INS, "call") if ".py" in name else _loaded(name))


@cache
def _loaded(folder: str) -> Callable[[str], str]:
    """A model of a folder, as a function from a prompt to what it writes."""
    from rulekeep.language.chat import Message as Turn
    from rulekeep.language.models import load_model

    model = load_model(folder, "cpu", "float32")
    return lambda prompt: model.written([Turn("user", prompt)], _TOKENS_OF_A_SUMMARY)
