"""An independent reader of the tasks: words in, answers out, by the tasks' descriptions alone.

It knows no roles and no masks: it splits words like `rule-7`, reads the instructions as a
person would, and says what the answer is, where its rules stand and which are first uses.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

from rulekeep.tasks import (
    TASKS,
    ApplyOptions,
    OverrideOptions,
    Recall,
    SampledTask,
    TaskOptions,
)

# The sampled tasks of the catalogue: those whose answers are read, and those that ask for labels.
_EVERY = tuple(kind for kind in TASKS.values() if issubclass(kind, SampledTask))
SAMPLED = tuple(kind for kind in _EVERY if not kind.labelled)
LABELLED = tuple(kind for kind in _EVERY if kind.labelled)
# Those that `read` reads.
ALL_BUT_RECALL = tuple(kind for kind in SAMPLED if kind is not Recall)


class Told(NamedTuple):
    """The answer's words; for each its instruction's place or None; rule, first use, no-rule."""

    words: list[str]
    source: list[int | None]
    rule: list[bool]
    first: list[bool]
    prohibition: list[bool]


def make(task: type[SampledTask], **options: Any) -> SampledTask:
    return task(task.options_type.parse(**options))  # type: ignore[call-arg]


def number(word: str) -> int:
    return int(word.split("-")[1])


def of_kind(words: list[str], kind: str) -> list[int]:
    return [i for i, word in enumerate(words) if word.startswith(f"{kind}-")]


def instructions(words: list[str], options: TaskOptions, kind: str, count: int) -> list[int]:
    """Where the instructions of a kind of word stand, in order."""
    if options.placement == "marked":
        marked = [i + 1 for i, word in enumerate(words) if word == "<rule>"]
        return [i for i in marked if words[i].startswith(f"{kind}-")]
    return of_kind(words, kind)[:count]


def read(task: SampledTask, words: list[str]) -> Told:
    """What is to be answered after these words."""
    return READERS[task.name](task, words)


def _recite(task: SampledTask, words: list[str]) -> Told:
    options = task.options
    at = instructions(words, options, "rule", options.rules)
    at += instructions(words, options, "item", 1)
    rule = [True] * options.rules + [False]
    return Told([words[i] for i in at], list(at), rule, rule, [False] * len(at))


def _apply(task: SampledTask, words: list[str]) -> Told:
    options = task.options
    assert isinstance(options, ApplyOptions)
    rules = {}
    for i in instructions(words, options, "rule", options.rules):
        rules[number(words[i]) % options.rules] = (f"shows-{number(words[i])}", i, False)
    return _shows(words, options.rules, options.kinds, rules)


def _override(task: SampledTask, words: list[str]) -> Told:
    options = task.options
    assert isinstance(options, OverrideOptions)
    m = options.rules + (options.rules + 1) // 2
    told = instructions(words, options, "rule", options.rules)
    told += [i + 1 for i, word in enumerate(words) if word == "<revise>"]
    rules = {}
    for i in sorted(told):
        value = number(words[i])
        shows = "<none>" if value < m else f"shows-{value}"
        rules[value % m] = (shows, i, value < m)
    assert len(rules) == options.rules
    return _shows(words, m, options.kinds, rules)


def _shows(
    words: list[str], attributes: int, kinds: int, rules: dict[int, tuple[str, int, bool]]
) -> Told:
    told = Told([], [], [], [], [])
    seen: set[int] = set()
    for item in words[words.index("<ask>") + 1 : -1]:
        told.words.append(item)
        for column in told[1:]:
            column.append(None if column is told.source else False)
        for a in range(attributes):
            if a % kinds != number(item) % kinds:
                continue
            shows, at, prohibition = rules.get(a, (f"default-{a}", None, False))
            told.words.append(shows)
            told.source.append(at)
            told.rule.append(a in rules)
            told.first.append(a in rules and a not in seen)
            told.prohibition.append(prohibition)
            seen.add(a)
    return told


READERS = {"recite": _recite, "apply": _apply, "override": _override}


def every_answer(task: SampledTask) -> Iterator[tuple[Fraction, Told]]:
    """Every answer of a tiny task, with a weight in proportion to how often it comes."""
    options = task.options
    k, v = options.rules, options.rule_words
    if task.name in ("recite", "recall"):
        for rules in permutations(range(v), k):
            words = [f"{'rule' if task.name == 'recite' else 'value'}-{rule}" for rule in rules]
            if task.name == "recite":
                for item in range(options.items):
                    rule = [True] * k + [False]
                    yield Fraction(1), Told([*words, f"item-{item}"], [], rule, rule, [])
                continue
            for keys in permutations(range(options.items), k):
                pairs = zip(keys, words, strict=True)
                answer = [word for key, value in pairs for word in (f"key-{key}", value)]
                yield Fraction(1), Told(answer, [], [False, True] * k, [False, True] * k, [])
        return
    assert isinstance(options, ApplyOptions | OverrideOptions)
    m = k if task.name == "apply" else k + (k + 1) // 2
    requests = [
        items
        for items in product(range(options.items), repeat=options.outputs)
        if sorted(item % options.kinds for item in items)
        == sorted(i % options.kinds for i in range(options.outputs))
    ]
    # Items of a kind are as likely each, and so are the orders of the kinds.
    sizes = [len(range(kind, options.items, options.kinds)) for kind in range(options.kinds)]
    for chosen in combinations(range(m), k):
        for values in product(*(range(a, v, m) for a in chosen)):
            weight, rules = Fraction(1), {}
            for a, value in zip(chosen, values, strict=True):
                if task.name == "apply":
                    rules[a] = (f"shows-{value}", 0, False)
                    continue
                weight *= Fraction(1, 2) if value < m else Fraction(1, 2 * len(range(a + m, v, m)))
                shows = "<none>" if value < m else f"shows-{value}"
                rules[a] = (shows, 0, value < m)
            for items in requests:
                share = weight
                for item in items:
                    share /= sizes[item % options.kinds]
                words = ["<ask>", *(f"item-{item}" for item in items), "<go>"]
                yield share, _shows(words, m, options.kinds, rules)
