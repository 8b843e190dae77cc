# SPDX-FileCopyrightText: Copyright (c) 2026 rulekeep maintainers
# SPDX-License-Identifier: MIT
"""The share of rules that a model's replies follow, as `rulekeep language --replies written` says.

A reply follows its rule where it shows the right option, and none of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def calculate_metrics(df: pd.DataFrame) -> dict[str, Any]:
    """The share of each task with its interval over prompts, and the share of each family."""
    # kvpress imports every scorer: only who measures rules needs rulekeep.
    from rulekeep.language.contract import spoken
    from rulekeep.language.families import read_families
    from rulekeep.language.intervals import of_shares

    known, followed = read_families(""), list[bool]()
    for name, answer, reply in zip(df["family"], df["answer"], df["predicted_answer"], strict=True):
        shown = known[name].shown(spoken(reply))
        followed.append([*shown] == [option == answer for option in known[name].options])
    scores = dict[str, Any]()
    for task, rows in df.assign(followed=followed).groupby("task", sort=False):
        shares = rows.groupby("prompt")["followed"].mean().round(4)
        one = of_shares(shares.to_numpy())
        scores[str(task)] = {
            "followed": round(one.mean, 4),
            "low": round(one.low, 4),
            "high": round(one.high, 4),
            "prompts": len(shares),
            "by_family": rows.groupby("family", sort=False)["followed"].mean().round(4).to_dict(),
        }
    return scores
