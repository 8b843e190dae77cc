# SPDX-FileCopyrightText: Copyright (c) 2026 rulekeep maintainers
# SPDX-License-Identifier: MIT
"""Rules in words as kvpress's evaluation reads them: one parquet file for each distance.

For example: python benchmarks/rulekeep/create_huggingface_dataset.py --distances 0,512
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from rulekeep.language.chat import converse, words_of
from rulekeep.language.contract import REPLY_TOKENS
from rulekeep.language.families import read_families
from rulekeep.specs import LanguageSpec

TALK = "\n\nOur conversation so far:\n"


def rows(distance: int, prompts: int, seed: int) -> Iterator[dict[str, Any]]:
    """Three tasks of the same rules: `binding`, its floor and its bound."""
    families = read_families("")
    spec = LanguageSpec(model="-", replies="written", mentions="word", distance=distance, seed=seed)
    unruled = spec.model_copy(update={"control": "no_rules"})
    for number in range(prompts):
        stated, without = (
            converse(families, one, "test", number, words_of) for one in (spec, unruled)
        )
        for task, talk in (("binding", stated), ("floor", without), ("bound", stated)):
            system, *turns = talk.messages
            said = "\n".join(f"{turn.role}: {turn.text}" for turn in turns)
            # kvpress has one turn of the user: context, then question.
            context = f"{system.text}{TALK if turns else ''}{said}\n\n"
            for one, rule in zip(stated.asked, stated.rules, strict=True):
                family = families[one.family]
                yield {
                    "context": context,
                    "question": f"{rule} " * (task == "bound") + family.request,
                    # One context has one prefix, and each family would have its own.
                    "answer_prefix": "",
                    "answer": family.options[one.option or 0],
                    "max_new_tokens": REPLY_TOKENS,
                    "task": task,
                    "family": one.family,
                    "prompt": number,
                }


def main() -> None:
    """Write `data/DISTANCE/test.parquet` beside this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--distances", default="0,512,2048", help="words and marks of chat")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for distance in map(int, given.distances.split(",")):
        path = Path(__file__).parent / "data" / str(distance) / "test.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([*rows(distance, given.prompts, given.seed)])
        parquet.write_table(table, path)
        print(f"{table.num_rows} rows: {path}")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
