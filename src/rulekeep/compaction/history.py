"""Histories of agents: rules and facts among turns, and the chat after each compaction.

    history = made(families, spec, 7)
    history.messages        # in OpenAI's format
    history.rules           # each with its place, and the option that held before a revision
    history.fresh[0]        # the chat that comes after the first compaction

A history is a function of its name: the seed, the style, the tokens, and its number. Each states a
rule at every place of `PLACES`. Every option of a rule stands once in a list of names too, with the
control without rules as well: an option that merely stands in the text is no rule. No torch.
"""

import json
import random
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import count as numbers
from typing import NamedTuple

from rulekeep.compaction.messages import Count, Message, tokens_of, word_count
from rulekeep.language.chat import Message as Turn
from rulekeep.language.chat import small_talk
from rulekeep.language.families import Families
from rulekeep.seeds import named_seed
from rulekeep.specs import UsageError
from rulekeep.specs.compaction import CompactionSpec

# Rules that hold: in the system prompt, in a rules file that a tool reads at the start, in a user's
# turn at the start, in the middle, near the end, in three turns, and revised later.
HOLDING = ("system", "file", "first", "middle", "late", "several", "revised")
# Rules that do not hold: withdrawn later, or quoted in what a tool or an e-mail says.
QUOTED = ("tool", "mail")
PLACES = (*HOLDING, "withdrawn", *QUOTED)
RULES_FILE = "AGENTS.md"
FACTS = 10
_LEAST_TURNS = 10
# Who tells the facts, by turns.
_TELLERS = ("user", "tool", "assistant")

_WORDS = tomllib.loads(files("rulekeep.compaction").joinpath("words.toml").read_text("utf-8"))


class Rule(NamedTuple):
    """A rule of a history: as stated last, each way it is stated, and what it was before."""

    family: str
    place: str
    option: str
    texts: tuple[str, ...]
    # Of a revised rule: the option that held before.
    former: str = ""
    former_text: str = ""
    # What takes a rule back.
    withdrawal: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is to be followed at the end."""
        return self.place in HOLDING


class Fact(NamedTuple):
    """A fact of the task: its sentence, and the value that nobody can guess."""

    text: str
    value: str


class History(NamedTuple):
    """What an agent has read and written, and what comes after each compaction.

    `stated` are its rules, or none of them in the control without rules.
    """

    messages: list[Message]
    rules: tuple[Rule, ...]
    stated: tuple[Rule, ...]
    facts: tuple[Fact, ...]
    fresh: tuple[list[Message], ...]


def made(
    families: Families,
    spec: CompactionSpec,
    number: int,
    count: Count = word_count,
    recorded: Sequence[Sequence[Message]] = (),
) -> History:
    """History `number` of a cell, with the chat after each round.

    `recorded` are a user's own sessions: each is a history, instead of a made one.
    """
    head, after = _WORDS["system"], round((1 - spec.budget) * spec.tokens) or 1
    # A cell with another budget has the same history before its first round.
    if recorded:
        head, turns, rest = _recorded(recorded, spec, number, count)
    else:
        turns = [*_turns(spec.style, _stream("turns", spec, number), spec.tokens, numbers(), count)]
        streams = (_stream(f"round {n}", spec, number) for n in range(spec.rounds))
        ids = (numbers(1000 * (n + 1)) for n in range(spec.rounds))
        rest = [
            [*_turns(spec.style, drawn, after, of, count)]
            for drawn, of in zip(streams, ids, strict=True)
        ]
    drawn = _stream("rules", spec, number)
    rules, facts = _rules(families, number, drawn), _facts(drawn)
    stated = () if spec.control == "no_rules" else rules
    system = _plant(turns, rules, stated, facts, families, drawn, head)
    fresh = tuple([message for turn in block for message in turn] for block in rest)
    messages = [system, *(message for turn in turns for message in turn)]
    return History(messages, rules, stated, facts, fresh)


def _stream(purpose: str, spec: CompactionSpec, number: int) -> random.Random:
    name = f"compaction {purpose} {spec.style} {spec.tokens} {number}"
    return random.Random(named_seed(name, spec.seed))


def _rules(families: Families, number: int, drawn: random.Random) -> tuple[Rule, ...]:
    """A rule for each place, of families that differ; groups take turns at the places."""
    by_group: dict[str, list[str]] = {}
    for name in sorted(families):
        by_group.setdefault(families[name].group, []).append(name)
    if len(families) < len(PLACES):
        raise UsageError(f"rules: {len(families)} families; {len(PLACES)} or more are needed")
    for names in by_group.values():
        drawn.shuffle(names)
    groups, rules = sorted(by_group), []
    for at, place in enumerate(PLACES):
        order = [groups[(at + number + step) % len(groups)] for step in range(len(groups))]
        name = next(by_group[group] for group in order if by_group[group]).pop()
        family = families[name]
        option, former = drawn.sample(range(len(family.options)), 2)
        ways = [family.rule, *family.wordings]
        drawn.shuffle(ways)
        texts = tuple(way.replace("{}", family.options[option]) for way in ways)
        rule = Rule(name, place, family.options[option], texts[: 3 if place == "several" else 1])
        if place == "revised":
            old = family.options[former]
            rule = rule._replace(former=old, former_text=ways[-1].replace("{}", old))
        if place == "withdrawn":
            rule = rule._replace(
                withdrawal=f"What I said about {rule.option} no longer holds; forget it."
            )
        rules.append(rule)
    return tuple(rules)


def _facts(drawn: random.Random) -> tuple[Fact, ...]:
    """Ten facts of the task, each with a value of its own."""
    facts = []
    for text, kind in drawn.sample(_WORDS["facts"], FACTS):
        value = kind.format(
            name=_name(drawn), number=drawn.randint(1001, 9999), hex=f"{drawn.getrandbits(36):09x}"
        )
        facts.append(Fact(text.format(value), value))
    return tuple(facts)


def _name(drawn: random.Random) -> str:
    return "".join(drawn.choice(_WORDS["syllables"]) for _ in range(4))


def _plant(
    turns: list[list[Message]], rules: Sequence[Rule], stated: Sequence[Rule],
    facts: Sequence[Fact], families: Families, drawn: random.Random, head: str,
) -> Message:  # fmt: skip
    """Put rules, lists of names and facts into the turns; returns the system message."""
    last = len(turns) - 1
    system: Message = {"role": "system", "content": head}
    for rule in stated:
        text, place = rule.texts[0], rule.place
        if place == "system":
            system = {**system, "content": f"{system['content']}\n{text}"}
        elif place == "first":
            _say(turns[0], text)
        elif place == "middle":
            _say(turns[last // 2], text)
        elif place == "late":
            _say(turns[last - 1], text)
        elif place == "several":
            for part, way in zip((1, 2, 4), rule.texts, strict=False):
                _say(turns[last * part // 5], way)
        elif place == "revised":
            _say(turns[last // 4], rule.former_text)
            _say(turns[last * 7 // 10], f"I changed my mind, so this counts instead: {text}")
        elif place == "withdrawn":
            _say(turns[last // 3], text)
            _say(turns[last * 3 // 4], rule.withdrawal)
        elif place in QUOTED:
            _quote(turns[last * (6 if place == "tool" else 4) // 10], text, place, drawn)
    file = [rule.texts[0] for rule in stated if rule.place == "file"]
    has_tools = any(message["role"] == "tool" for turn in turns for message in turn)
    turns[0][1:1] = read_rules_file(file, has_tools)
    for rule in rules:
        options = [*families[rule.family].options]
        drawn.shuffle(options)
        _note(drawn.choice(turns[1:last]), f"Names seen: {', '.join(options)}.", "tool")
    for at, fact in enumerate(facts):
        _note(turns[1 + (last - 2) * at // FACTS], fact.text, _TELLERS[at % 3])
    return system


def read_rules_file(rules: Sequence[str], has_tools: bool = True) -> list[Message]:
    """The messages in which an agent reads its rules file, or a user pastes it."""
    listed = "\n".join(f"- {text}" for text in (*_WORDS["project"], *rules))
    file = f"# {RULES_FILE}\n\n## Project\n{listed}\n"
    if not has_tools:
        return [
            {"role": "assistant", "content": f"Please show me {RULES_FILE}."},
            {"role": "user", "content": file},
        ]
    return [_call("call_rules", "read_file", {"path": RULES_FILE}), _result("call_rules", file)]


def _say(turn: list[Message], text: str) -> None:
    """A user says it, after what he asks."""
    turn[0] = {**turn[0], "content": f"{turn[0]['content']} {text}"}


def _quote(turn: list[Message], text: str, place: str, drawn: random.Random) -> None:
    """What a tool found, or an e-mail that was read: words of others."""
    number = drawn.randint(101, 999)
    quote = (
        f'Comment by another user on issue {number}: "{text}"'
        if place == "tool"
        else f'E-mail {number} from Lee Park to the old team, forwarded: "{text}"'
    )
    _note(turn, quote, "tool")


def _note(turn: list[Message], text: str, role: str) -> None:
    """Add to the last message of this role; where there is none, to the user's."""
    at = max((n for n, message in enumerate(turn) if message["role"] == role), default=0)
    turn[at] = {**turn[at], "content": f"{turn[at].get('content') or ''}\n{text}".strip()}


def _turns(
    style: str, drawn: random.Random, tokens: int, ids: Iterator[int], count: Count
) -> Iterator[list[Message]]:
    """Turns of so many tokens at least: each a user's message, and what the agent does then."""
    taken = turns = 0
    longest = max(4, min(60, tokens // 150))
    while taken < tokens or turns < _LEAST_TURNS:
        if style == "chat":
            talked: list[list[Turn]] = small_talk(drawn, 1, lambda _: 1)
            turn = [{"role": one.role, "content": one.text} for one in talked[0]]
        else:
            turn = _worked(style, drawn, ids, longest)
        taken += tokens_of(turn, count)
        turns += 1
        yield turn


def _worked(style: str, drawn: random.Random, ids: Iterator[int], longest: int) -> list[Message]:
    """A request, one to three calls of tools with their results, and what the agent says."""
    turn: list[Message] = [{"role": "user", "content": _filled(drawn, _WORDS["requests"])}]
    for _ in range(drawn.randint(1, 3)):
        called = [f"call_{next(ids)}" for _ in range(2 if drawn.random() < 0.2 else 1)]
        name = drawn.choice(("read_file", "grep", "run"))
        calls = [_call(key, name, {"path": _path(drawn)})["tool_calls"][0] for key in called]
        said = _filled(drawn, _WORDS["steps"]) if drawn.random() < 0.5 else ""
        turn.append({"role": "assistant", "content": said, "tool_calls": calls})
        for key in called:
            lines = min(longest, max(3, round(drawn.expovariate(2.5 / longest))))
            said = "\n".join(_filled(drawn, _WORDS[style]) for _ in range(lines))
            turn.append(_result(key, said))
    turn.append({"role": "assistant", "content": _filled(drawn, _WORDS["replies"])})
    return turn


def _call(key: str, name: str, arguments: dict[str, str]) -> Message:
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": key, "type": "function", "function": function}]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result(key: str, text: str) -> Message:
    return {"role": "tool", "tool_call_id": key, "content": text}


def _path(drawn: random.Random) -> str:
    folder, file = drawn.choice(_WORDS["nouns"]), drawn.choice(_WORDS["nouns"])
    return f"src/{folder}/{file}_{drawn.randint(2, 40)}.py"


def _filled(drawn: random.Random, texts: Sequence[str]) -> str:
    return drawn.choice(texts).format(
        n=drawn.choice(_WORDS["nouns"]), m=drawn.choice(_WORDS["nouns"]),
        v=drawn.choice(_WORDS["verbs"]), f=_path(drawn), k=drawn.randint(2, 900),
        j=drawn.randint(2, 60),
    )  # fmt: skip


def _recorded(
    sessions: Sequence[Sequence[Message]], spec: CompactionSpec, number: int, count: Count
) -> tuple[str, list[list[Message]], list[list[list[Message]]]]:
    """A session of the user's own: its system prompt, its turns, and the chat after each round.

    A session that is longer goes on after each round; others follow in an order that is drawn.
    """
    every = [_as_turns(session, f"h{at}_") for at, session in enumerate(sessions)]
    long = [at for at, turns in enumerate(every) if len(turns) >= _LEAST_TURNS]
    if len(long) < spec.histories:
        raise UsageError(
            f"--chat {spec.chat}: {len(long)} of {len(sessions)} sessions have {_LEAST_TURNS} "
            f"turns of a user, and each is one history; give --histories {len(long) or 1}"
            f"{'' if long else ' and longer sessions'}"
        )
    own = long[number]
    others = [at for at in range(len(sessions)) if at != own]
    _stream("turns", spec, number).shuffle(others)
    waiting = deque(every[own])
    turns, size = list[list[Message]](), 0
    while waiting and (size < spec.tokens or len(turns) < _LEAST_TURNS):
        size += tokens_of(waiting[0], count)
        turns.append(waiting.popleft())
    waiting.extend(turn for at in others for turn in every[at])
    after, rest = (1 - spec.budget) * size, []
    for _ in range(spec.rounds):
        block, taken = list[list[Message]](), 0
        while taken < after:
            if not waiting:
                raise UsageError(
                    f"--chat {spec.chat}: is too short for {spec.rounds} rounds; each needs "
                    f"{after:.0f} new tokens; give fewer --tokens or --rounds"
                )
            taken += tokens_of(waiting[0], count)
            block.append(waiting.popleft())
        rest.append(block)
    first = sessions[own][0]
    return first["content"] if first["role"] == "system" else _WORDS["system"], turns, rest


def _as_turns(history: Sequence[Message], mark: str) -> list[list[Message]]:
    """Messages from one of the user's to the next; calls are named apart from other histories'."""
    turns = list[list[Message]]()
    for message in history:
        message = {**message}
        if "tool_call_id" in message:
            message["tool_call_id"] = mark + message["tool_call_id"]
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [{**call, "id": mark + call["id"]} for call in calls]
        if message["role"] == "user":
            turns.append([])
        if turns:
            turns[-1].append(message)
    return turns
