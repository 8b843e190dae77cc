"""The tables of the catalogue in docs/evidence.md, out of its records.

    python benchmarks/catalogue_table.py                  # of results/catalogue
    python benchmarks/catalogue_table.py RUNS

Every mechanism of the presets `catalogue` and `catalogue-16-kib`, in one folder: retention on test,
mean over the seeds with its 95 % interval (Student t), highest at 1028 tokens first. At 16 KiB a
mechanism whose state is further from it than 5 % stands below the others with a dagger, unranked.
One with fewer than five seeds in one of the cells is named under the tables as not run yet.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from exam_table import text_of

from rulekeep.article.report import markdown_table
from rulekeep.presets import CATALOGUE, CATALOGUE_16_KIB
from rulekeep.report import merged
from rulekeep.resolving import described
from rulekeep.specs import Contestant, written
from rulekeep.store import RESULTS, Record, read_runs
from rulekeep.summary import ENOUGH_SEEDS, Summary, summarise_scores

ROOT = Path(__file__).parent.parent / "results" / "catalogue"
CELLS = (("recite", "early"), ("override", "marked"))
CONTEXTS = (256, 1028, 4096)
# A state is a layer's, and one that grows is given at this many tokens.
RANKED_AT = 1028
KIB = 16
NEAR_ENOUGH = 0.05
_OWN = ("mixer", "mixer_options", "width", "layers", "hidden", "added_positions")


class Row(NamedTuple):
    """A mechanism in one cell: what it costs, its retention and `exact` at each length, or None.

    `seeds` has the retention of each seed, by seed.
    """

    name: str
    parameters: int
    kib: float
    rate: float
    retention: Mapping[int, Summary | None]
    seeds: Mapping[int, Mapping[int, float]]
    exact: Mapping[int, Summary | None]

    @property
    def place(self) -> float:
        """What it is ranked by, lowest first."""
        found = self.retention[RANKED_AT]
        return math.inf if found is None or found.mean is None else -found.mean


def page(root: Path) -> str:
    """Every table, as Markdown, each under what it compares."""
    records = read_runs(root).records
    # The gates of lstm and gru cannot be had at 16 KiB: shown as they are.
    others = [one for one in CATALOGUE if one.mixer in ("lstm", "gru")]
    parts, run = [], {cell: set[str]() for cell in CELLS}
    for title, kib, mixers in (
        ("", None, CATALOGUE), (f", {KIB} KiB a layer", KIB, [*CATALOGUE_16_KIB, *others])
    ):  # fmt: skip
        for task, placement in CELLS:
            rows = measured(mixers, records, task, placement)
            run[task, placement].update(row.name for row in rows)
            if rows:
                parts.append(table(f"{task}, {placement}{title}", rows, kib=kib))
    every = [name_of(one) for one in (*CATALOGUE, *CATALOGUE_16_KIB)]
    missing = [name for name in every if not all(name in names for names in run.values())]
    if missing:
        done = len(every) - len(missing)
        named = "`, `".join(missing)
        parts.append(f"{done} of {len(every)} mechanisms are run. Not yet: `{named}`.\n")
    return "\n".join(parts)


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
) -> Row | None:
    """The row of one mechanism, at the rate with the most seeds; None while some are not run.

    Two records that differ in the lengths tested alone, of two presets, are one run.
    """
    own = _own(described(one.spec(task=task))[0].model_dump(mode="json"))
    by_rate: dict[float, list[Record]] = {}
    for record in records:
        spec = record["spec"]
        placed = spec["task"] == task and spec["task_options"]["placement"] == placement
        if placed and _own(spec) == own and record["status"] in RESULTS:
            by_rate.setdefault(spec["learning_rate"], []).append(record)
    runs = max((merged(by_rate[rate]) for rate in sorted(by_rate)), key=len, default=[])
    if len(runs) < ENOUGH_SEEDS:
        return None
    return _row(one, runs, contexts)


def _own(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: spec[key] for key in _OWN}


def name_of(one: Contestant) -> str:
    """As a user would ask for it, but for the feed-forward layers.

    They only make up for what a mixer has more or less of.
    """
    asked = {**one.options, **one.settings}
    asked.pop("hidden", None)
    return written(one.mixer, asked)


def _row(one: Contestant, runs: Sequence[Record], contexts: Sequence[int]) -> Row:
    scores: dict[str, dict[int, dict[int, float]]] = {"retention": {}, "exact": {}}
    costs = None
    for run in runs:
        tested = {e["context"]: e for e in run["evaluations"] if e["split"] == "test"}
        for context in contexts:
            if context in tested or run["status"] == "diverged":
                for figure, found in scores.items():
                    value = tested[context][figure] if context in tested else math.nan
                    found.setdefault(context, {})[run["spec"]["seed"]] = value
        if run["status"] == "done":
            costs = run["costs"]
    assert costs is not None, f"{one.mixer}: every seed diverged"
    layers = one.spec().layers
    retention, exact = (
        {c: summarise_scores(list(found[c].values())) if c in found else None for c in contexts}
        for found in scores.values()
    )
    return Row(
        name_of(one),
        costs["parameters"],
        costs["state_bytes"][str(RANKED_AT)] / layers / 1024,
        runs[0]["spec"]["learning_rate"],
        retention,
        {c: scores["retention"].get(c, {}) for c in contexts},
        exact,
    )


def table(title: str, rows: Sequence[Row], *, kib: float | None = None) -> str:
    """The rows, highest retention first; those of another size below, marked, if `kib` is given."""
    head = [
        title, "parameters", f"KiB at {RANKED_AT}", "rate", *(f"{c} tokens" for c in CONTEXTS)
    ]  # fmt: skip
    body = []
    far = {row.name for row in rows if kib and abs(row.kib / kib - 1) > NEAR_ENOUGH}
    for row in sorted(rows, key=lambda row: (row.name in far, row.place, row.name)):
        cells = [text_of(found) for found in row.retention.values()]
        mark = " †" if row.name in far else ""
        body.append(
            [row.name + mark, f"{row.parameters:,}", f"{row.kib:,.1f}", f"{row.rate:.3g}", *cells]
        )
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
