# SPDX-FileCopyrightText: Copyright (c) 2026 rulekeep maintainers
# SPDX-License-Identifier: MIT
"""The share of rules that a model's replies follow, as `rulekeep language --replies written` says.

A reply follows its rule where it shows the right option, and none of the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def calculate_metrics(df: pd.DataFrame) -> dict[str, Any]:
    """The share of each task with its interval over prompts, and the share of each family."""
    # kvpress imports every scorer: only who measures rules needs rulekeep.
    import numpy as np

    from rulekeep.language.contract import spoken
    from rulekeep.language.families import read_families
    from rulekeep.language.intervals import interval, resampled

    known = read_families("")
    prompts = defaultdict[str, dict[int, list[bool]]](lambda: defaultdict(list))
    families = defaultdict[str, dict[str, list[bool]]](lambda: defaultdict(list))
    for row in df.to_dict("records"):
        family, task = known[row["family"]], str(row["task"])
        shown = family.shown(spoken(row["predicted_answer"]))
        followed = [*shown] == [option == row["answer"] for option in family.options]
        prompts[task][row["prompt"]].append(followed)
        families[task][row["family"]].append(followed)
    scores = dict[str, Any]()
    for task, rules in prompts.items():
        drawn = resampled(len(rules))
        one = interval(np.tile(_shares(rules), (len(drawn), 1)), drawn)
        scores[task] = {
            "followed": round(one.mean, 4),
            "low": round(one.low, 4),
            "high": round(one.high, 4),
            "prompts": len(rules),
            "by_family": dict(zip(families[task], _shares(families[task]), strict=True)),
        }
    return scores


def _shares(groups: Mapping[Any, Sequence[bool]]) -> list[float]:
    return [round(sum(group) / len(group), 4) for group in groups.values()]
