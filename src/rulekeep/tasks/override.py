"""Keep the rules and update them: `apply` with defaults, prohibitions and revisions.

    <bos> filler-3 rule-7 rule-2 … | rule-4 … <revise> rule-13 … <ask> item-6 item-3 <go>
    | item-6 default-0 shows-8 item-3 shows-13 <none>

There are M attributes, half as many again as rules. Rule words 0 to M - 1 are prohibitions, one for
each attribute: it shows `<none>`. A later rule word r is a requirement: attribute r modulo M shows
`shows-r`. An attribute without a rule shows its default. A word after `<revise>` replaces the rule
of its attribute; the same word without the cue is a decoy.

A rule in force is a prohibition with probability one half, revised or not. Otherwise it is a
requirement, each equally likely. So the best guess without memory is `<none>`. It is right on
exactly half of the first uses, and never on requirements. Averaged over both kinds, a reader
without memory scores at most one half.
"""

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from rulekeep.tasks.base import Role, Split
from rulekeep.tasks.drawing import Rows, Streams, Text, distinct
from rulekeep.tasks.requests import RequestOptions, RequestTask, Shown
from rulekeep.tasks.sampled import MOST_RULES, Sample


class OverrideOptions(RequestOptions):
    """As for `apply`; an example has 0 to `revisions` revisions, each number equally likely."""

    revisions: Annotated[int, Field(ge=0, le=64)] = 2

    @property
    def attributes(self) -> int:
        """Attributes, with a rule or without: M."""
        return self.rules + math.ceil(self.rules / 2)

    def most_rules(self) -> int:
        """Every attribute needs a prohibition and a requirement."""
        return min(MOST_RULES, self.rule_words // 2 * 2 // 3)


class Override(RequestTask):
    """K rules on some of the attributes, revisions of them, and a request for N items."""

    name: ClassVar[str] = "override"
    options_type: ClassVar[type[RequestOptions]] = OverrideOptions
    options: OverrideOptions

    def __init__(self, options: OverrideOptions | None = None) -> None:
        self.options = options = options or OverrideOptions()
        m = options.attributes
        super().__init__([("default", m)], ("<revise>", "<none>"))
        assert self.rule_words is not None
        self.rule_words.answers[:m] = self._cues["<none>"]
        # Ways to choose k attributes and a word for each: elementary symmetric polynomials.
        ways = [1] + [0] * options.rules
        for size in self._sizes:
            for i in range(options.rules, 0, -1):
                ways[i] += ways[i - 1] * int(size)
        self._count_tuples(ways[options.rules] * math.factorial(options.rules))
        self.shortest_context = self._shortest(
            options.rules, width=1, tail=self._tail, more=2 * options.revisions
        )

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        k, m = self.options.rules, self.options.attributes
        order = distinct(streams("order"), n, k, m)[0]
        is_prohibition = streams("prohibitions").random((n, k)) < 0.5
        value = streams("values").integers(1, self._sizes[order])
        rules = order + m * np.where(is_prohibition, 0, value)
        requested = self._requested(streams, split, rules)
        text, at, cues_at = self._open(
            streams, n, context - self.answer_length, k,
            tail=self._tail, later=self.options.revisions,
        )  # fmt: skip
        in_force_at = self._write(streams, text, rules, at, cues_at)
        default = np.tile(self._starts["default"].first + np.arange(m), (n, 1))
        required = self._starts["shows"].first + rules

        def by_attribute(table: np.ndarray, of_rules: np.ndarray | bool) -> np.ndarray:
            np.put_along_axis(table, order, of_rules, axis=1)
            return table

        shown = Shown(
            by_attribute(default, np.where(is_prohibition, self._cues["<none>"], required)),
            by_attribute(np.zeros((n, m), dtype=bool), True),
            by_attribute(np.zeros((n, m), dtype=bool), is_prohibition),
            np.full((n, m), 0.5),
            by_attribute(np.full((n, m), -1), in_force_at),
        )
        return self._answered(text, requested, shown)

    def _write(self, streams: Streams, text: Text, rules: Rows, at: Rows, cues_at: Rows) -> Rows:
        """Writes rules and revisions so that `rules` are in force at the end; places, `[n, k]`.

        The last revision is drawn first: the word that it replaced is drawn given the word that it
        set. So the rules in force have the same distribution as without revisions.
        """
        n, places = cues_at.shape
        count = streams("revisions").integers(0, places + 1, (n, 1))
        turn = streams("revision turns").random((n, places)).argsort(axis=1).argsort(axis=1)
        target = streams("revised").integers(0, rules.shape[1], (n, places))
        replaced, first_word = streams("replaced"), self._starts["rule"].first
        current, in_force_at = rules.copy(), at.copy()
        written = [np.flatnonzero(turn[:, j] < count[:, 0]) for j in range(places)]
        for j, rows in reversed([*enumerate(written)]):
            word, cue_at = current[rows, target[rows, j]], cues_at[rows, j]
            text.tokens[rows, cue_at], text.roles[rows, cue_at] = self._cues["<revise>"], Role.CUE
            text.tokens[rows, cue_at + 1], text.roles[rows, cue_at + 1] = (
                first_word + word,
                Role.RULE,
            )
            current[rows, target[rows, j]] = self._another(replaced, word)
        for j, rows in enumerate(written):
            in_force_at[rows, target[rows, j]] = cues_at[rows, j] + 1
        text.put(at, first_word + current, Role.RULE)
        return in_force_at

    def _another(self, stream: np.random.Generator, word: np.ndarray) -> np.ndarray:
        """Another word of the same attribute, drawn as rules are, but not the same word."""
        m = self.options.attributes
        attribute, rank = word % m, word // m
        others = self._sizes[attribute] - 1 - (rank > 0)
        # A half for the prohibition against 1 / (2 (size - 1)) for each other requirement.
        to_prohibition = stream.random(len(word)) * (1 + others / (self._sizes[attribute] - 1)) < 1
        requirement = 1 + stream.integers(0, np.maximum(others, 1))
        requirement += (rank > 0) & (requirement >= rank)
        another: np.ndarray = attribute + m * np.where((rank > 0) & to_prohibition, 0, requirement)
        return another
