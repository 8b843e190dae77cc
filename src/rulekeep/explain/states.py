"""What is probed: the rules of an example, where its state is read, and the state there.

Rules are found from the answer back: at the first use of a rule stands the position of its
instruction (`Sample.source`). If the task has one group of rule words (`recite`), rule j is the
j-th that the answer asks for, and the j-th in the text. If words fall into groups (`apply`,
`override`: attributes), rule j is the one of group j.

If all rules stand in the first quarter of every prefix, all are probed at one place right after the
last, and at fractions of the way to the answer. Otherwise each rule is probed separately right
after it was stated, and all of them before the answer.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from rulekeep.mixers.base import flattened
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.specs import UsageError
from rulekeep.tasks.base import Split
from rulekeep.tasks.sampled import Sample, SampledTask

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_TOKENS_AT_ONCE = 2**16


class Drawn(NamedTuple):
    """Examples up to the answer, and their rules: -1 in all three if one is not asked for.

    `words` numbers the word of a rule among those of the task, `at` is its place in the text, and
    `columns` the place of its first use in the answer.
    """

    prefixes: Int[np.ndarray, "n prefix"]
    words: Int[np.ndarray, "n rules"]
    at: Int[np.ndarray, "n rules"]
    columns: Int[np.ndarray, "n rules"]


class Read(NamedTuple):
    """A place to probe: which rules, and after how many tokens of each example (0: not read)."""

    share: float
    rules: tuple[int, ...]
    after: Int[np.ndarray, " n"]


def samples(task: SampledTask, split: Split, context: int, seed: int, n: int) -> Iterator[Sample]:
    """Examples 0 to n - 1, as many at once as fit."""
    rows = max(1, _TOKENS_AT_ONCE // context)
    for start in range(0, n, rows):
        yield task.sample(split, context, min(rows, n - start), seed=seed, start=start)


def drawn(name: str, every: Iterable[Sample]) -> Drawn:
    """The examples of a task, with what a probe needs of them.

    Raises:
        UsageError: the rules of the task have no words of their own.
    """
    prefixes, rules = [], []
    for sample in every:
        prefixes.append(sample.tokens[:, : sample.answer_start].astype(np.int32))
        rules.append(_rules(name, sample))
    most = max(part.shape[2] for part in rules)
    padded = [
        np.pad(part, ((0, 0), (0, 0), (0, most - part.shape[2])), constant_values=-1)
        for part in rules
    ]
    return Drawn(np.concatenate(prefixes), *np.concatenate(padded, axis=1))


def _rules(name: str, sample: Sample) -> Int[np.ndarray, "3 n rules"]:
    """Words, places and columns of the rules of a sample."""
    known = sample.rule_words
    if known is None:
        raise UsageError(
            f"task {name!r}: has no rule_words, so a probe has nothing to tell apart; "
            "give the task its rule_words"
        )
    row, column = np.nonzero(sample.first_mention & sample.supervised)
    at = sample.source[row, column]
    index = np.full(max(sample.tokens.max(), known.tokens.max()) + 1, -1)
    index[known.tokens] = np.arange(len(known.tokens))
    word = index[sample.tokens[row, at]]
    count = np.bincount(row, minlength=len(sample.tokens))
    rule = known.groups[word]
    if not known.groups.any():
        rule = np.arange(len(row)) - np.repeat(count.cumsum() - count, count)
        if ((np.diff(row) == 0) & (np.diff(at) < 0)).any():
            raise UsageError(
                f"task {name!r}: asks for its rules in another order than they stand in, so "
                "no probe can stand for one; explain a run of recite, apply or override"
            )
    if not len(row):
        raise UsageError(f"task {name!r}: has no first use of a rule; explain a run of recite")
    tables = np.full((3, len(sample.tokens), int(rule.max()) + 1), -1)
    tables[:, row, rule] = word, at, column
    return tables


def reads(at: Int[np.ndarray, "n rules"], end: int) -> tuple[int | None, list[Read]]:
    """The end of the head with all rules (None: there is none), and the places to read.

    `end` is the number of tokens before the answer.
    """
    head = int(at.max()) + 1
    n, rules = at.shape
    every = tuple(range(rules))
    if head <= end // 4:
        return head, [
            Read(share, every, np.full(n, round(head + share * (end - head)))) for share in SHARES
        ]
    own = [Read(0.0, (rule,), at[:, rule] + 1) for rule in every if (at[:, rule] >= 0).any()]
    return None, [*own, Read(1.0, every, np.full(n, end))]


@torch.no_grad()
def states_at(
    model: LanguageModel, prefixes: Int[np.ndarray, "n prefix"], after: Int[np.ndarray, "n reads"]
) -> list[np.ndarray]:
    """The states of all layers after this many tokens of each example, `[n, floats]` per read.

    Rows that are not read (0) are zero.

    Raises:
        UsageError: a state has another size at each example's place.
    """
    device = model.head.weight.device
    found: list[np.ndarray | None] = [None] * after.shape[1]
    rows = max(1, _TOKENS_AT_ONCE // prefixes.shape[1])
    for start in range(0, len(prefixes), rows):
        stops = after[start : start + rows]
        tokens = torch.from_numpy(prefixes[start : start + rows]).long().to(device)
        state, done = None, 0
        for stop in np.unique(stops[stops > 0]).tolist():
            _, state = model.advance(tokens[:, done:stop], state)
            done = stop
            states = flat(state)
            for read, here in enumerate((stops == stop).T):
                if here.any():
                    table = found[read]
                    if table is None:
                        shape = (len(prefixes), states.shape[1])
                        table = found[read] = np.zeros(shape, dtype=np.float32)
                    if table.shape[1] != states.shape[1]:
                        raise UsageError(
                            "the state has another size at each rule, so one probe cannot read "
                            "it; explain a run with rules in the head (placement early)"
                        )
                    table[start + np.flatnonzero(here)] = states[here]
    assert all(table is not None for table in found), "every place is read in some example"
    return [table for table in found if table is not None]


def flat(state: ModelState) -> np.ndarray:
    """All tensors of all layers of a state, `[batch, floats]`."""
    parts = [flattened(tensor).float() for layer in state.layers for tensor in layer]
    # An empty state has no tensor.
    joined: np.ndarray = (torch.cat(parts, dim=1) if parts else torch.zeros(0, 0)).cpu().numpy()
    return joined


@torch.no_grad()
def state_floats(model: LanguageModel, tokens: Tensor) -> int:
    """The number of values in the state after these tokens, `[1, time]`."""
    _, state = model.advance(tokens)
    return int(flat(state).shape[1])
