"""The first table of a report: what each variant keeps, beside the strongest attention."""

import math
from collections.abc import Sequence
from dataclasses import replace

from rulekeep.analysis.ranking import Ranked, Ranking
from rulekeep.reporting.tables import Cell, Table, Value, number_cell, seeds_cell, signed
from rulekeep.reporting.words import words

# More task settings have no column of their own.
_MOST_TASKS = 8


def ranked(ranking: Ranking) -> Table:
    """The answer: every variant, the user's own first, then by what it keeps."""
    tasks = [one.task for one in ranking.settings]
    rows = [_ranked(row, ranking, tasks) for row in ranking.rows]
    known = {row.label for row in ranking.rows}
    every = dict.fromkeys(label for one in ranking.settings for label in one.untested)
    untested = [label for label in every if label not in known]
    table = Table.of("ranking", *words("ranking", ranking=ranking, untested=untested), rows)
    own = frozenset(n for n, row in enumerate(ranking.rows) if row.group.is_own)
    return replace(table, own=own)


def _ranked(row: Ranked, ranking: Ranking, tasks: Sequence[str]) -> dict[str, Value]:
    whole, is_placed = row.retention, row.place is not None
    partly = f"{whole.mean or 0:.3f} ({len(row.by_task)} of {len(tasks)} settings)"
    diverged = Cell("diverged", -math.inf)
    return {
        "#": row.place,
        "variant": f"{row.label} (yours)" if row.group.is_own else row.label,
        "state (bytes)": number_cell(row.costs["state_bytes"], 0),
        "retention": whole if is_placed else Cell(partly, whole.mean),
        **({"corrected": row.kept if is_placed else None} if ranking.is_corrected else {}),
        "lowest seed": diverged if math.isnan(row.lowest) else row.lowest,
        f"against {ranking.baseline or 'attention'}": signed(row.difference),
        "training (s)": number_cell(row.costs["train_seconds"], 1),
        "decode (ms/token)": row.costs["decode_ms_per_token"],
        "parameters": number_cell(row.costs["parameters"], 0),
        "seeds": seeds_cell(row.kept.seeds),
        **{task: row.by_task.get(task) for task in tasks if 1 < len(tasks) <= _MOST_TASKS},
    }
