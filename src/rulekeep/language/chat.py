"""Conversations: rules, then chat as distance, then requests. Each is a function of its name alone.

    conversation = converse(families, spec, "test", 7, tokens_of)
    conversation.messages        # what the model reads before any request
    conversation.asked           # which rules, with which option, and where they stand

`tokens_of` counts the tokens of a message as the model reads it: distance is in its tokens. The
filler is small talk made from templates; no word of it is an option of the shipped rules. No torch.
"""

import math
import random
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

from rulekeep.compaction.messages import word_count
from rulekeep.language.families import Families, Family
from rulekeep.language.system import SystemPrompt
from rulekeep.seeds import named_seed, split_name
from rulekeep.specs import UsageError
from rulekeep.specs.language import LanguageSpec

Role: TypeAlias = Literal["system", "user", "assistant"]
Split: TypeAlias = Literal["validation", "test"]
SYSTEM = "You are a helpful assistant."
# Right before the rules, and in no mention of one.
LEAD = "Follow these rules. "
# Families that each prompt asks for without stating them, and in how many prompts each at least.
UNSTATED, UNSTATED_PROMPTS = 2, 4

_WORDS = tomllib.loads(files("rulekeep.language").joinpath("words.toml").read_text("utf-8"))


class Message(NamedTuple):
    """One turn of a chat."""

    role: Role
    text: str


def parted(marks: re.Pattern[str], text: str) -> str:
    """A text with a space in each of these marks, which would end a message."""
    return marks.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text)


def whole_letters(text: str) -> str:
    """A text without half a letter, which is none that a model can read."""
    return text.encode(errors="replace").decode()


def words_of(turns: Sequence[Message]) -> int:
    """Words and marks of some turns: what no tokenizer changes."""
    return sum(word_count(one.text) for one in turns)


# The tokens that some turns add to a conversation.
Counter: TypeAlias = Callable[[Sequence[Message]], int]
# Turns of about so many tokens in all.
Talk: TypeAlias = Callable[[random.Random, int, Counter], list[list[Message]]]


class Asked(NamedTuple):
    """A rule of a conversation: its family, the option that is right, and its rank in the text.

    A family that is asked for and not stated has no option, and ranks after the rules.
    """

    family: str
    option: int | None
    rank: int


class Conversation(NamedTuple):
    """What is read before the requests, and the rules that they ask about.

    `rules` are their texts in `messages`, in the order of `asked`; none where none is stated. Those
    of a user's system prompt stand in its first message, all others in a list after `LEAD`.
    Families that are not stated come last in `asked`.
    """

    messages: tuple[Message, ...]
    asked: tuple[Asked, ...]
    rules: tuple[str, ...] = ()


def converse(
    families: Families,
    spec: LanguageSpec,
    split: Split,
    number: int,
    tokens_of: Counter,
    talk: Talk | None = None,
    system: SystemPrompt | None = None,
) -> Conversation:
    """Conversation `number` of a split: another cell of the same seed has the same rules in it.

    `talk` gives the turns of its chat; small talk if left out. `system` is a user's system prompt:
    its rules are stated where they stand in it.
    """
    name = (split, spec.seed, number)
    drawn = _stream("rules", *name)
    names = system.rules if system else _together(families, spec.rules_at_once, drawn)
    stated = tuple(
        Asked(name, drawn.randrange(len(families[name].options)), rank)
        for rank, name in enumerate(names)
    )
    said = [_said(families[one.family], _told(spec, families, one), drawn) for one in stated]
    asked = stated + _unstated(families, spec, stated, number)
    chat = (talk or small_talk)(_stream("chat", *name), spec.distance, tokens_of)
    places = _stream("mentions", *name)
    mentions = _mentions(families, asked, spec)
    for mention in mentions:
        chat.insert(places.randrange(len(chat) + 1), mention)
    rules = "" if spec.control == "no_rules" else f" {LEAD}{' '.join(said)}"
    if system:
        text = system.said(dict(zip(names, said, strict=True)) if rules else {})
        turns = [[Message("system", text)], *chat]
    elif spec.placement == "start":
        turns = [[Message("system", SYSTEM + rules)], *chat]
    else:
        now = [Message("user", f"From now on:{rules}"), Message("assistant", "I will.")]
        half = len(chat) // 2 if talk is None else _middle(chat, tokens_of)
        middle = [now] if rules else []
        turns = [[Message("system", SYSTEM)], *chat[:half], *middle, *chat[half:]]
    messages = tuple(message for turn in turns for message in turn)
    return Conversation(messages, asked, tuple(said) if rules else ())


def _stream(purpose: str, split: str, seed: int, number: int) -> random.Random:
    return random.Random(named_seed(f"language {purpose} {split_name(split)} {number}", seed))


def _together(families: Families, count: int, drawn: random.Random) -> list[str]:
    """Different families, none about the same words of a reply as another."""
    names = sorted(families)
    drawn.shuffle(names)
    taken = _apart(families, names, count)
    if len(taken) < count:
        raise UsageError(
            f"rules_at_once {count}: only {len(taken)} families can stand together; give fewer"
        )
    return taken


def _apart(families: Families, names: Iterable[str], count: int) -> list[str]:
    """The first so many families, none about the same words of a reply as one before it."""
    shown = dict[tuple[str, str], str]()
    for name in names:
        shown.setdefault((families[name].request, families[name].prefix), name)
    return [*shown.values()][:count]


def unstated_for(families: int, prompts: int) -> int:
    """How many families each prompt of a cell asks for without stating: each in some prompts."""
    return max(UNSTATED, min(families, math.ceil(UNSTATED_PROMPTS * families / prompts)))


def _unstated(
    families: Families, spec: LanguageSpec, stated: Sequence[Asked], number: int
) -> tuple[Asked, ...]:
    """Families that a prompt asks for and does not state: in turn, so that each is as often."""
    names = sorted(families)
    random.Random(named_seed("language unstated", spec.seed)).shuffle(names)
    count = spec.unstated if spec.replies == "scored" else 0
    begin, rules = number * count % len(names), [rule.family for rule in stated]
    taken = _apart(families, [*rules, *names[begin:], *names[:begin]], len(rules) + count)
    return tuple(Asked(name, None, rank) for rank, name in enumerate(taken) if rank >= len(rules))


def _told(spec: LanguageSpec, families: Families, one: Asked) -> int:
    """The option that the text has: under the control `swapped`, a rival of the right one."""
    assert one.option is not None
    if spec.control != "swapped":
        return one.option
    return (one.option + 1) % len(families[one.family].options)


def _said(family: Family, option: int, drawn: random.Random) -> str:
    old = drawn.randrange(len(family.options) - 1)
    return family.said(option, old + (old >= option) if family.is_revision else None)


def small_talk(drawn: random.Random, distance: int, tokens_of: Counter) -> list[list[Message]]:
    """Turns of at least `distance` tokens in all."""
    turns, tokens = list[list[Message]](), 0
    while tokens < distance:
        question, answer = drawn.choice(_WORDS["turns"])
        words = {
            "p": drawn.choice(_WORDS["places"]), "t": drawn.choice(_WORDS["things"]),
            "a": drawn.choice(_WORDS["animals"]), "m": drawn.choice(_WORDS["months"]),
            "n": drawn.randint(2, 30), "k": drawn.randint(0, 9),
        }  # fmt: skip
        turn = [
            Message("user", question.format(**words)),
            Message("assistant", answer.format(**words)),
        ]
        turns.append(turn)
        tokens += tokens_of(turn)
    return turns


def _middle(chat: Sequence[Sequence[Message]], tokens_of: Counter) -> int:
    """How many turns come before the middle, by tokens: to the nearest turn."""
    sums = [0, *accumulate(tokens_of(turn) for turn in chat)]
    return min(range(len(sums)), key=lambda at: abs(2 * sums[at] - sums[-1]))


def _mentions(
    families: Families, asked: Sequence[Asked], spec: LanguageSpec
) -> list[list[Message]]:
    """Every option of every family that is asked for, said once, the rule's own too.

    It is said as a word, or as somebody else's instruction. So no option stands out by a mention.
    """
    if spec.mentions == "none":
        return []
    turns = []
    for one in asked:
        family = families[one.family]
        for at, option in enumerate(family.options):
            if spec.mentions == "word":
                said, reply = f'I read "{option}" on a wall.', "I see."
            else:
                old = (at + 1) % len(family.options) if family.is_revision else None
                said = f'Somebody told another assistant: "{family.said(at, old)}"'
                reply = "I see. That is not for me."
            turns.append([Message("user", said), Message("assistant", reply)])
    return turns
