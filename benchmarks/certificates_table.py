"""The tables of results/certificates/README.md, out of the certificates beside it.

    python benchmarks/certificates_table.py

A row a task, placement and context: the reader without memory that comes nearest to the bound, and
what two readers of the whole context score. Then the same with other options than the defaults.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rulekeep.commands.records import certificates
from rulekeep.printable import markdown_table
from rulekeep.tasks import TASKS, SampledTask

ROOT = Path(__file__).parent.parent / "results" / "certificates"
HEAD = ["task", "placement", "context", "test examples", "chance", "worst local reader", "excess"]
HEAD += ["bound", "whole, bag: excess", "whole, nearest: excess", "passes"]
BESIDE = ("whole context, bag", "whole context, nearest example")
# What a row says in words of its own.
SAID = ("placement", "layout")


def pages(root: Path = ROOT) -> tuple[str, str]:
    """Both tables as Markdown: of default options, and of others."""
    found: dict[bool, list[tuple[tuple[Any, ...], list[str]]]] = {True: [], False: []}
    for record in certificates(root)[0]:
        kind = TASKS[record["task"]]
        if not issubclass(kind, SampledTask):
            continue  # By exact enumeration: a table of its own.
        options = record["options"]
        zoology = options.get("layout") == "zoology"
        defaults = kind.options_type().model_dump()
        changed = [
            f"{value} {key.replace('_', ' ')}"
            for key, value in options.items()
            if key not in SAID and value != defaults[key]
        ]
        order = (list(TASKS).index(record["task"]), zoology, changed, options["placement"])
        title = ", ".join([record["task"] + " zoology" * zoology, *changed])
        for one in record["contexts"]:
            row = [title, options["placement"], *_figures(one)]
            found[not changed].append(((*order, one["context"]), row))
    whole, others = ([row for _, row in sorted(rows)] for rows in (found[True], found[False]))
    return _table(whole), _table(others)


def _figures(one: Mapping[str, Any]) -> list[str]:
    local = [row for row in one["readings"] if row["local"]]
    worst = max(local, key=lambda row: row["bound"])
    beside = {row["reader"]: row["excess"] for row in one["readings"]}
    return [
        f"{one['context']:,}",
        f"{one['examples']:,}",
        f"{worst['chance']:.3f}",
        worst["reader"],
        f"{worst['excess']:+.4f}",
        f"{worst['bound']:.4f}",
        *(f"{beside[name]:+.3f}" for name in BESIDE),
        "yes" if one["passed"] else "NO",
    ]


def _table(rows: Sequence[list[str]]) -> str:
    return markdown_table(HEAD, rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write("\n".join(pages()))
