"""The sampled tasks: drawn alike whatever the call, solvable, balanced, and free of leaks."""

import itertools
from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import (
    ALL_BUT_RECALL,
    READERS,
    SAMPLED,
    every_answer,
    instructions,
    make,
    number,
    of_kind,
    read,
)
from scipy.stats import chi2_contingency, chisquare

from rulekeep.tasks import (
    Apply,
    Override,
    Recall,
    Recite,
    Role,
    Sample,
    SampledTask,
    Split,
)

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
WINDOW = 33


@st.composite
def tasks(draw: st.DrawFn, kinds: tuple[type[SampledTask], ...] = SAMPLED) -> SampledTask:
    """Any task with any options that it takes."""
    task = draw(st.sampled_from(kinds))
    k = draw(st.integers(1, 12) | st.just(64))
    options: dict[str, Any] = {
        "rules": k,
        "rule_words": draw(st.integers(3 * k + 3, 3 * k + 60)),
        "items": draw(st.integers(64, 90)),
        "fillers": draw(st.integers(1, 40)),
        "decoy_rate": draw(st.sampled_from([0.0, 0.2, 0.7, 1.0])),
        "placement": draw(st.sampled_from(["early", "marked"])),
    }
    if task in (Apply, Override):
        options["outputs"] = draw(st.integers(1, 6) | st.just(64))
        options["kinds"] = draw(st.integers(1, 4))
    if task is Override:
        options["revisions"] = draw(st.integers(0, 5))
    if task is Recall and options["placement"] == "early":
        options["layout"] = draw(st.sampled_from(["exam", "zoology"]))
    return make(task, **options)


def words_of(task: SampledTask, tokens: np.ndarray) -> list[str]:
    return task.words(tokens).split()


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def rows(sample: Sample, keep: slice) -> Sample:
    return Sample(*(x[keep] if isinstance(x, np.ndarray) else x for x in sample))


slow = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)  # fmt: skip


@slow
@given(tasks(), st.sampled_from(SPLITS), st.integers(0, 50), st.integers(0, 300), st.data())
def test_an_example_is_a_function_of_its_name(
    task: SampledTask, split: Split, seed: int, start: int, data: st.DataObject
) -> None:
    context = task.shortest_context + data.draw(st.integers(0, 100))
    whole = task.sample(split, context, 12, seed=seed, start=start)
    task.sample("train", context + 1, 3, seed=seed + 1)
    part = task.sample(split, context, 5, seed=seed, start=start + 4)
    assert same(part, rows(whole, slice(4, 9)))
    other = task.sample(split, context, 12, seed=seed + 1, start=start)
    assert not np.array_equal(other.tokens, whole.tokens)


@slow
@given(tasks(ALL_BUT_RECALL), st.sampled_from(SPLITS), st.integers(0, 60))
def test_an_independent_reader_of_the_instructions_is_always_right(
    task: SampledTask, split: Split, more: int
) -> None:
    sample = task.sample(split, task.shortest_context + more, 6)
    for i, tokens in enumerate(sample.tokens):
        words = words_of(task, tokens)
        told = read(task, words[: sample.answer_start])
        assert words[sample.answer_start :] == told.words
        assert sample.rule[i].tolist() == told.rule
        assert sample.first_mention[i].tolist() == told.first
        assert sample.prohibition[i].tolist() == told.prohibition
        assert sample.source[i].tolist() == [
            # The item of `apply` and `override` is asked for, not instructed.
            -1 if at is None else at
            for at in told.source
        ]
        assert sample.item[i].tolist() == [word.startswith("item-") for word in told.words]
        assert sample.supervised[i].all()


@slow
@given(tasks((Recall,)), st.integers(0, 60))
def test_recall_answers_each_key_once_with_its_value(task: SampledTask, more: int) -> None:
    sample = task.sample("test", task.shortest_context + more, 6)
    k = task.options.rules
    for i, tokens in enumerate(sample.tokens):
        words = words_of(task, tokens)
        before = words[: sample.answer_start]
        if task.shortest_context == 4 * k and "<bos>" not in words:
            keys_at = list(range(0, 2 * k, 2))
        elif task.options.placement == "marked":
            keys_at = [j + 1 for j, word in enumerate(before) if word == "<rule>"]
        else:
            # A head of K pairs and as many fillers; decoys start after it.
            keys_at = [j for j in of_kind(before, "key") if j < 1 + 3 * k]
        pairs = {words[j]: j + 1 for j in keys_at}
        assert len(pairs) == k
        queries = [j for j, word in enumerate(words) if word in pairs and j not in keys_at]
        assert len(queries) == k
        assert {words[j] for j in queries} == set(pairs)
        assert [words[j + 1] for j in queries] == [words[pairs[words[j]]] for j in queries]
        values_at = [j + 1 - sample.answer_start for j in queries]
        assert np.flatnonzero(sample.supervised[i]).tolist() == values_at
        assert sample.source[i][values_at].tolist() == [pairs[words[j]] for j in queries]
        assert (sample.source[i] >= 0).sum() == k


@slow
@given(tasks(), st.sampled_from(SPLITS), st.integers(0, 80))
def test_roles_say_what_tokens_are_and_no_instruction_is_late(
    task: SampledTask, split: Split, more: int
) -> None:
    sample = task.sample(split, task.shortest_context + more, 8)
    assert sample.tokens.shape == sample.roles.shape
    if not (isinstance(task, Recall) and "<bos>" not in task.vocabulary):
        assert sample.answers.shape[1] == task.answer_length
        late = sample.instructions[:, sample.answer_start - WINDOW :]
        assert not late.any()
        cues = sample.roles == Role.CUE
        assert not cues[:, sample.answer_start - WINDOW :].any()
        # Rate 0 leaves no decoy; rate 1 no filler outside the head.
        rate = task.options.decoy_rate
        assert rate > 0 or not sample.decoys.any()
    wanted = ("rule-", "item-", "value-", "key-")
    for tokens, roles in zip(sample.tokens, sample.roles, strict=True):
        for word, role in zip(words_of(task, tokens), roles, strict=True):
            if role in (Role.RULE, Role.ITEM, Role.DECOY_RULE, Role.DECOY_ITEM):
                assert word.startswith(wanted)
            elif role == Role.PLAIN:
                assert word.startswith("filler-") or word in ("<bos>", "<go>")
            elif role == Role.CUE:
                assert word in ("<rule>", "<revise>")


def combinations(task: SampledTask, sample: Sample) -> set[tuple[str, ...]]:
    """The rules in force in the order stated, with the first item: read off the words."""
    found = set()
    for tokens in sample.tokens:
        words = words_of(task, tokens)[: sample.answer_start]
        if task.name == "recite":
            found.add(tuple(read(task, words).words))
            continue
        at = instructions(words, task.options, "rule", task.options.rules)
        rules = [words[i] for i in at]
        if task.name == "override":
            m = task.options.rules + (task.options.rules + 1) // 2
            for i in [i + 1 for i, word in enumerate(words) if word == "<revise>"]:
                turn = [number(rule) % m for rule in rules].index(number(words[i]) % m)
                rules[turn] = words[i]
        found.add((*rules, words[words.index("<ask>") + 1]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", ALL_BUT_RECALL)
@pytest.mark.parametrize("placement", ["early", "marked"])
@pytest.mark.parametrize(("rules", "rule_words"), [(1, 12), (2, 7), (3, 60)])
def test_splits_share_no_combination_at_any_context_and_have_every_word(
    task: type[SampledTask], placement: str, rules: int, rule_words: int
) -> None:
    made = make(task, rules=rules, rule_words=rule_words, items=18, placement=placement)
    assert made.combinations is not None
    seen: dict[str, set[tuple[str, ...]]] = {}
    for split in SPLITS:
        seen[split] = set()
        for context, seed in ((96, 0), (130, 1)):
            seen[split] |= combinations(made, made.sample(split, context, 1500, seed=seed))
        words = {word for found in seen[split] for word in found if word.startswith("rule-")}
        assert len(words) == rule_words
    for one, two in itertools.combinations(SPLITS, 2):
        assert not seen[one] & seen[two]
    if made.combinations < 500:
        # All of a small space comes up: so the count is right as well.
        assert sum(map(len, seen.values())) == made.combinations


TINY = [
    (Recite, {"rules": 2, "rule_words": 6, "items": 4}),
    (Recite, {"rules": 3, "rule_words": 5, "items": 4}),
    (Apply, {"rules": 2, "rule_words": 7, "items": 9, "outputs": 2, "kinds": 2}),
    (Apply, {"rules": 3, "rule_words": 6, "items": 8, "outputs": 2, "kinds": 1}),
    (Apply, {"rules": 3, "rule_words": 7, "items": 9, "outputs": 3, "kinds": 2}),
    (Override, {"rules": 2, "rule_words": 7, "items": 5, "outputs": 2, "kinds": 1}),
    (Override, {"rules": 1, "rule_words": 13, "items": 9, "outputs": 3, "kinds": 2}),
    (Recall, {"rules": 2, "rule_words": 4, "items": 5}),
    (Recall, {"rules": 3, "rule_words": 4, "items": 3}),
]


def test_every_sampled_task_has_an_independent_reader_and_tiny_cases() -> None:
    assert READERS.keys() == {task.name for task in ALL_BUT_RECALL}, "write it in reading.py"
    assert {task for task, _ in TINY} == set(SAMPLED), "add its cases to TINY"


@pytest.mark.parametrize(("task", "options"), TINY)
def test_chance_is_that_of_the_best_guess_without_the_context(
    task: type[SampledTask], options: dict[str, Any]
) -> None:
    """By enumerating every answer with its weight, as exact fractions."""
    made = make(task, **options)
    weights: defaultdict[Any, Counter[str]] = defaultdict(Counter)
    for weight, told in every_answer(made):
        for i, word in enumerate(told.words):
            weights[tuple(told.words[:i]), told.rule[i], told.first[i]][word] += weight
    met = set()
    for split in SPLITS:
        sample = made.sample(split, 70, 400)
        for i, answer in enumerate(sample.answers):
            words = words_of(made, answer)
            for j in np.flatnonzero(sample.supervised[i]):
                key = tuple(words[:j]), bool(sample.rule[i, j]), bool(sample.first_mention[i, j])
                best = Fraction(max(weights[key].values())) / sum(weights[key].values())
                assert sample.chance[i, j] == pytest.approx(float(best), abs=1e-12), key
                met.add(key)
    assert len(met) > 20


@pytest.mark.parametrize("task", SAMPLED)
@pytest.mark.parametrize("placement", ["early", "marked"])
def test_decoys_are_at_their_rate_and_name_rules_in_force_as_often_as_others(
    task: type[SampledTask], placement: str
) -> None:
    made = make(task, placement=placement, decoy_rate=0.4)
    sample = made.sample("test", 1028, 200)
    # What no instruction, cue, request or head stands on, and is body.
    body = np.isin(sample.roles, (Role.PLAIN, Role.DECOY_RULE, Role.DECOY_ITEM))
    body[:, :20] = False
    body[:, sample.answer_start - 1 :] = False
    n = body.sum()
    assert sample.decoys[body].mean() == pytest.approx(0.4, abs=5 * (0.24 / n) ** 0.5)
    rule_decoys = (sample.roles == Role.DECOY_RULE) & body
    first = made.vocabulary.index("value-0" if task is Recall else "rule-0")
    counts = np.bincount(sample.tokens[rule_decoys] - first, minlength=32)
    assert chisquare(counts).pvalue > 1e-4
    # Of the decoys that are rule words, K in 32 are the words of this example's instructions.
    hits = total = 0
    for tokens, roles in zip(sample.tokens, sample.roles, strict=True):
        told = set(tokens[roles == Role.RULE].tolist())
        decoys = tokens[roles == Role.DECOY_RULE]
        hits += np.isin(decoys, list(told)).sum() - len(decoys) * len(told) / 32
        total += len(decoys)
    assert abs(hits) < 5 * (total * 4 / 32) ** 0.5


def test_decoys_of_a_recall_whose_keys_are_all_shown_are_values() -> None:
    sample = make(Recall, rules=4, items=4, decoy_rate=0.4).sample("test", 256, 20)
    assert (sample.roles == Role.DECOY_RULE).any()
    assert not (sample.roles == Role.DECOY_ITEM).any()


@pytest.mark.parametrize("task", SAMPLED)
@pytest.mark.parametrize("placement", ["early", "marked"])
def test_body_places_and_order_tell_nothing_of_the_rules(
    task: type[SampledTask], placement: str
) -> None:
    made = make(task, placement=placement)
    sample = made.sample("train", 96, 6000)
    for turn in range(2):
        at = (sample.roles == Role.RULE).argmax(axis=1)
        if turn:
            later = sample.roles == Role.RULE
            later[np.arange(len(later)), at] = False
            at = later.argmax(axis=1)
        rule = sample.tokens[np.arange(len(at)), at] % 8
        last = sample.tokens[:, sample.answer_start - 8]
        decoys = (sample.roles == Role.DECOY_RULE).sum(axis=1)
        first_decoy = sample.tokens[np.arange(len(at)), (sample.roles == 4).argmax(axis=1)] % 8
        last_rule = sample.roles.shape[1] - 1 - (sample.roles == Role.RULE)[:, ::-1].argmax(axis=1)
        for other in (last % 7, np.minimum(decoys, 20), first_decoy, at, last_rule // 4):
            table = np.zeros((8, int(other.max()) + 1))
            np.add.at(table, (rule, other), 1)
            table = table[:, table.sum(axis=0) >= 60]
            assert chi2_contingency(table).pvalue > 1e-4


def test_rules_of_a_split_are_as_likely_each_after_the_other() -> None:
    made = make(Recite, rules=2, rule_words=6, items=8)
    for split in SPLITS:
        rules = made.sample(split, 64, 9000).answers[:, :2] - made.vocabulary.index("rule-0")
        table = np.bincount(rules[:, 0] * 6 + rules[:, 1], minlength=36).reshape(6, 6)
        assert not np.diag(table).any()
        assert chisquare(table[~np.eye(6, dtype=bool)]).pvalue > 1e-4


def test_prohibitions_and_requirements_are_balanced_revised_or_not() -> None:
    made = make(Override, revisions=3)
    sample = made.sample("test", 200, 6000)
    first = sample.first_mention
    last_rule = sample.source > 40
    for where in (first, first & last_rule, first & ~last_rule):
        n = where.sum()
        assert n > 1000
        assert sample.prohibition[where].mean() == pytest.approx(0.5, abs=4 * (0.25 / n) ** 0.5)
    none = made.vocabulary.index("<none>")
    assert np.array_equal(sample.answers == none, sample.prohibition)
    revised = np.array([(row == made.vocabulary.index("<revise>")).sum() for row in sample.tokens])
    assert chisquare(np.bincount(revised, minlength=4)).pvalue > 1e-4


def test_zoology_queries_follow_the_published_power_law() -> None:
    made = make(Recall, layout="zoology", rules=4, rule_words=128, items=128)
    sample = made.sample("train", 64, 20_000)
    first_gap = (sample.source[:, 1::2] == 1).argmax(axis=1)
    law = np.arange(1, 29) ** (0.01 - 1)
    # The first pair draws its gap first, so its law is the whole one.
    assert chisquare(np.bincount(first_gap, minlength=28), 20_000 * law / law.sum()).pvalue > 1e-4


@pytest.mark.parametrize("task", SAMPLED)
@pytest.mark.parametrize("context", [96, 65_536])
def test_defaults_reach_from_the_shortest_length_of_the_grid_to_the_longest(
    task: type[SampledTask], context: int
) -> None:
    made = make(task)
    assert made.shortest_context <= (64 if task in (Recite, Recall) else 96)
    assert made.sample("validation", context, 3).tokens.shape == (3, context)
