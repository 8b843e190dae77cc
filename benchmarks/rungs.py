"""A row of a table: a mixer in one task setting, out of records. Itself no script."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rulekeep.analysis.plots import Strip
from rulekeep.analysis.summary import ENOUGH_SEEDS, Summary, summarise_scores
from rulekeep.analysis.variants import is_of_task, is_variant
from rulekeep.records.store import Record
from rulekeep.reporting import merged
from rulekeep.specs import Contestant, written

ROOT = Path(__file__).parent.parent / "results" / "catalogue"
CONTEXTS = (256, 1028, 4096)
# A state is a layer's, and one that grows is given at this many tokens.
RANKED_AT = 1028
SHORT, LONG = CONTEXTS[0], CONTEXTS[-1]
# What a figure says where there is no row.
NOT_RUN = "not run"


class Row(NamedTuple):
    """A mechanism in one cell: what it costs, its retention and `exact` at each length, or None.

    `seeds` has the retention of each seed, by seed; `chance` is that of retention.
    """

    one: Contestant
    parameters: int
    kib: float
    rate: float
    retention: Mapping[int, Summary | None]
    seeds: Mapping[int, Mapping[int, float]]
    exact: Mapping[int, Summary | None]
    chance: float

    @property
    def name(self) -> str:
        """What a table calls it."""
        # But for the feed-forward layers: they only make up for what a mixer has more or less of.
        asked = {**self.one.options, **self.one.settings}
        return written(self.one.mixer, {k: v for k, v in asked.items() if k != "hidden"})

    @property
    def strip(self) -> Strip:
        """As a figure has it."""
        return Strip(self.seeds, self.retention, self.chance)

    def by_seed(self, context: int) -> str:
        """What each seed keeps at a length, in their order: a cell of a table."""
        return ", ".join(f"{kept:.3f}" for _, kept in sorted(self.seeds[context].items()))


def measured(
    mixers: Iterable[Contestant], records: Sequence[Record], task: str, placement: str
) -> list[Row]:
    """A row for each mechanism that has been run in full."""
    rows = (row_of(one, records, task, placement) for one in mixers)
    return [row for row in rows if row is not None]


def row_of(
    one: Contestant,
    records: Sequence[Record],
    task: str,
    placement: str,
    contexts: Sequence[int] = CONTEXTS,
    enough: int = ENOUGH_SEEDS,
) -> Row | None:
    """The row of one mechanism, at the rate with the most seeds; None with fewer than enough.

    Two records that differ in the lengths tested alone, of two presets, are one run; what other
    code has made is no seed of the same.
    """
    by_rate: dict[tuple[float, str], list[Record]] = {}
    for record in records:
        tried = record.spec.learning_rate
        placed = is_of_task(record, task, placement=placement)
        if placed and record.is_result and tried and is_variant(record, one):
            by_rate.setdefault((tried, record.code), []).append(record)
    each = [(rate, merged(same)) for (rate, _), same in sorted(by_rate.items())]
    rate, runs = max(each, key=lambda found: len(found[1]), default=(math.nan, []))
    if len({run.spec.seed for run in runs}) < enough:
        return None
    return _row(one, runs, rate, contexts)


def _row(one: Contestant, runs: Sequence[Record], rate: float, contexts: Sequence[int]) -> Row:
    scores: dict[str, dict[int, dict[int, float]]] = {"retention": {}, "exact": {}}
    chances = set[float]()
    for run in runs:
        tested = {test.context: test for test in run.tests()}
        for context in contexts:
            if context in tested or run.status == "diverged":
                for figure, found in scores.items():
                    value = tested[context].figures[figure] if context in tested else math.nan
                    found.setdefault(context, {})[run.spec.seed] = value
        chances.update(round(test.chance["retention"], 3) for test in tested.values())
    # A run that diverged may not say all that it cost.
    measured = next((run for run in reversed(runs) if run.status == "done"), runs[0])
    # Where every seed diverged nothing was tested.
    (chance,) = chances or {math.nan}
    layers = one.spec().layers
    retention, exact = (
        {c: summarise_scores(list(found[c].values())) if c in found else None for c in contexts}
        for found in scores.values()
    )
    return Row(
        one,
        int(measured.costs["parameters"]),
        measured.state_bytes.get(RANKED_AT, math.nan) / layers / 1024,
        rate,
        retention,
        {c: scores["retention"].get(c, {}) for c in contexts},
        exact,
        chance,
    )
