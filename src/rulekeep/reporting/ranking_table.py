"""The first table of a report: what each variant keeps, beside the strongest attention."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rulekeep.analysis.ranking import Ranked, Ranking
from rulekeep.reporting.tables import Cell, Table, Value, number_cell, seeds_cell, signed

# As tables over seeds say it.
INTERVAL = (
    "the 95 % interval over seeds (Student t). It is of seeds that learn: where they lie in two "
    "groups, how many are in the upper one, and the mean and interval of those."
)
# More task settings have no column of their own.
_MOST_TASKS = 8


def ranked(ranking: Ranking) -> Table:
    """The answer: every variant, the user's own first, then by what it keeps."""
    tasks = [one.task for one in ranking.settings]
    rows = [_ranked(row, ranking, tasks) for row in ranking.rows]
    table = Table.of(
        "ranking", f"What each variant keeps at {ranking.at}", _ranking_meaning(ranking), rows
    )
    own = frozenset(n for n, row in enumerate(ranking.rows) if row.is_own)
    return replace(table, own=own)


def _ranked(row: Ranked, ranking: Ranking, tasks: Sequence[str]) -> dict[str, Value]:
    whole, is_placed = row.retention, row.place is not None
    partly = f"{whole.mean or 0:.3f} ({len(row.by_task)} of {len(tasks)} settings)"
    diverged = Cell("diverged", -math.inf)
    return {
        "#": row.place,
        "variant": f"{row.label} (yours)" if row.is_own else row.label,
        "state (bytes)": number_cell(row.state_bytes, 0),
        "retention": whole if is_placed else Cell(partly, whole.mean),
        **({"corrected": row.kept if is_placed else None} if ranking.is_corrected else {}),
        "lowest seed": diverged if math.isnan(row.lowest) else row.lowest,
        f"against {ranking.baseline or 'attention'}": signed(row.difference),
        "training (s)": number_cell(row.train_seconds, 1),
        "decode (ms/token)": row.decode_ms,
        "parameters": number_cell(row.parameters, 0),
        "seeds": seeds_cell(row.kept.seeds),
        **{task: row.by_task.get(task) for task in tasks if 1 < len(tasks) <= _MOST_TASKS},
    }


def _ranking_meaning(ranking: Ranking) -> str:
    said = ["Retention: the share of rules right where the answer first needs them."]
    if len(ranking.settings) > 1:
        said.append(
            f"Mean over {len(ranking.settings)} task settings, seed by seed; “lowest seed” is that "
            "of any setting."
        )
    if ranking.is_corrected:
        said.append(
            "“Corrected” is the mean of (score − chance) / (1 − chance), since chance differs "
            "between settings. The order, the lowest seed and the differences are of it."
        )
    if ranking.left:
        said.append(
            f"Not in the mean, since not every variant ran them: {'; '.join(ranking.left)}."
        )
    if ranking.baseline:
        said.append(
            f"{ranking.baseline} is the attention that keeps most here on the test set; "
            "differences are paired by seed."
        )
    known = {row.label for row in ranking.rows}
    untested = dict.fromkeys(label for one in ranking.settings for label in one.untested)
    if missing := [label for label in untested if label not in known]:
        said.append(f"Not tested at this length: {'; '.join(missing)}.")
    said.append(f"In brackets: {INTERVAL} Differences are not corrected for their number.")
    return " ".join(said)
