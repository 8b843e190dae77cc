"""Which compactors keep the rules of an agent's history?

    tools/compactor_envs.py make all DIR                    # an environment a package
    studies/compaction.py DIR results/compaction            # makes missing cells, each in its own
    rulekeep sweep studies/compaction.py:read --out results/compaction-read     # with a model
    rulekeep study compaction build|check

Compactors as they are installed, and our own. A cell is one compactor with one budget and one
guard, over the same histories. Fills docs/compaction-findings.md and README.
"""

import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from statistics import fmean

from rulekeep.analysis.rows import Rows
from rulekeep.analysis.summary import Interval
from rulekeep.compaction.compactors import SHOWN
from rulekeep.compaction.figures import ROUND, Place, Read, Survival, cells, readings
from rulekeep.compaction.history import HOLDING
from rulekeep.language.compressions import EVICTIONS, ROUNDINGS, Compression
from rulekeep.language.families import read_families
from rulekeep.printable import markdown_table
from rulekeep.specs import CompactionSpec
from rulekeep.specs.compaction import STAND_INS
from rulekeep.study import Claim, Study

ROOT = Path(__file__).parent.parent
ADAPTERS = ROOT / "studies" / "compactors"
# What each command adds for every compactor: guards, the floor, and budgets.
CELLS = (
    ("--guards", "none,system,restate", "--control", "none"),
    ("--control", "no_rules"),
    ("--budget", "0.5,0.1", "--control", "none"),
)
OURS = "keep_last,keep_ends,clear_tools,extract,summary,everything,nothing"
# Of a cache, a quarter as of the text.
CACHES = (
    "knorm@0.25", "snapkv@0.25", "h2o@0.25", "tova@0.25", "streaming_llm@0.25", "snapkv+ends@0.25",
    "kivi@4bit",
)  # fmt: skip
# Families that the model is asked about: so many of each group.
_OF_A_GROUP = 4
SMALL = "SmolLM2-135M-Instruct"


def read(*, model: str = SMALL) -> list[CompactionSpec]:
    """Cells in which a small model reads what is left."""
    families = read_families("agents")
    names = list[str]()
    for group in sorted({family.group for family in families.values()}):
        of_group = sorted(name for name, family in families.items() if family.group == group)
        names += of_group[:_OF_A_GROUP]
    whole = {"compactor": "everything", "rounds": 1}
    return [
        CompactionSpec.parse(
            **{
                "reader": model, "families": tuple(names), "style": "chat", "tokens": 2000,
                "histories": 12, "rounds": 3, **cell,
            }
        )
        for cell in (
            {**whole, "compress": CACHES}, {"compactor": "keep_last"}, {"compactor": "keep_ends"},
            {**whole, "control": "no_rules"}, {"compactor": "summary", "model": model},
            {"compactor": "extract"},
            # Asked about after the first round and the last: these are of five.
            *({"compactor": name, "rounds": 5} for name in ("keep_last", "keep_ends", "extract")),
            {"compactor": "summary", "model": model, "rounds": 5},
        )
    ]  # fmt: skip


def adapters(name: str) -> list[str]:
    """The compactors of one file of adapters."""
    text = (ADAPTERS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    lines = [line.removeprefix("async ") for line in text.splitlines()]
    found = [line[4:].partition("(")[0] for line in lines if line.startswith("def ")]
    place = f"studies/compactors/{name.replace('-', '_')}.py"
    return [f"{place}:{function}" for function in found if not function.startswith("_")]


# --- tables and claims ----------------------------------------------------------------------------

QUARTER = 0.25
# What others call the compactors here; other names are those of the adapters.
BOUNDS = ("everything", "nothing")


@cache
def found(rows: Rows) -> Mapping[Place, Survival]:
    """Every cell that no model reads."""
    return cells(record for record in rows.records if not record.choices)


def plain(rows: Rows, budget: float = QUARTER, guard: str = "none") -> list[tuple[Place, Survival]]:
    """The cells of a budget and a guard, the best first."""
    chosen = [
        (at, of) for at, of in found(rows).items() if (at.budget, at.guard) == (budget, guard)
    ]
    return sorted(chosen, key=lambda cell: (-cell[1].kept[-1].mean, -cell[1].facts[-1], cell[0]))


def name(at: Place) -> str:
    """A compactor as tables show it."""
    place, _, function = at.compactor.rpartition(":")
    called = function if place else SHOWN.get(at.compactor, at.compactor)
    package = Path(place).stem if place not in ("", "plain") else ""
    model = {"deaf": ", deaf", "copying": ", copying"}.get(at.model, "")
    shown = f"{package}: {called}" if package and package != "plain" else called
    return f"{shown}{model}".replace("_", " ")


def by_compactor(rows: Rows) -> str:
    """What is left after one round and after five, and what it costs."""
    body = [
        [
            name(at), f"{of.kept[0].mean:.2f}", of.kept[-1].text(".2f"),
            f"{of.misled[-1].mean:.2f}", f"{of.facts[-1]:.2f}", f"{max(of.left):.2f}",
            f"{max(of.unpaired):.2f}", f"{max(of.failed):.2f}",
        ]
        for at, of in plain(rows)
    ]  # fmt: skip
    head = [
        "compactor", "after 1", "after 5", "misled", "facts", "tokens/budget", "unpaired", "failed",
    ]  # fmt: skip
    return markdown_table(head, body)


def by_place(rows: Rows) -> str:
    """Rules left by where they were stated, after one round and after five."""
    body = []
    for at, of in plain(rows):
        if at.compactor not in BOUNDS:
            ends = [(every[0].mean, every[-1].mean) for every in map(of.by_place.get, HOLDING)]
            body.append([name(at), *(f"{first:.2f} {last:.2f}" for first, last in ends)])
    return markdown_table(["compactor", *HOLDING], body)


def by_guard(rows: Rows) -> str:
    """What pinning the system prompt and restating the rules mend, after five rounds."""
    every = {
        guard: {at[:2]: of for at, of in plain(rows, guard=guard)}
        for guard in ("none", "system", "restate")
    }
    body = [
        [
            name(at),
            *(
                of.kept[-1].text(".2f")
                if (of := of_guard.get((at.compactor, at.model)))
                else "not run"
                for of_guard in every.values()
            ),
        ]
        for at, _ in plain(rows)
        if at.compactor not in BOUNDS
    ]
    return markdown_table(["compactor", "alone", "system prompt pinned", "rules restated"], body)


def by_budget(rows: Rows) -> str:
    """Rules left after five rounds, by the share of the tokens that may be left."""
    every = {share: {at[:2]: of for at, of in plain(rows, share)} for share in (0.5, QUARTER, 0.1)}
    body = [
        [
            name(at),
            *(
                f"{of.kept[-1].mean:.2f}" if (of := of_guard.get(at[:2])) else "–"
                for of_guard in every.values()
            ),
        ]
        for at, _ in plain(rows)
        if at.compactor not in BOUNDS
    ]
    return markdown_table(["compactor", "half", "a quarter", "a tenth"], body)


def by_summary(rows: Rows) -> str:
    """Compactors with a model: what reached it, and the two ends between which a real one lies."""
    ends = {at[:2]: of for at, of in plain(rows) if at.model}
    body = []
    for compactor in dict.fromkeys(compactor for compactor, _ in ends):
        deaf, copying = (ends.get((compactor, one)) for one in STAND_INS)
        if deaf and copying and copying.reached:
            body.append(
                [
                    name(Place(compactor, "", QUARTER, "", "", 0, "", "")),
                    f"{copying.reached[0]:.2f}", f"{deaf.kept[-1].mean:.2f}",
                    f"{copying.kept[-1].mean:.2f}",
                ]
            )  # fmt: skip
    head = ["compactor", "reached in round 1", "left after 5, deaf", "left after 5, copying"]
    return markdown_table(head, sorted(body, key=lambda row: (-float(row[3]), row[0])))


@cache
def read_cells(rows: Rows) -> dict[tuple[str, str, str], Read]:
    """What the small model made of each round, by compactor, control and round."""
    return {
        (str(record.spec.rest["compactor"]), str(record.spec.rest["control"]), one.called): one
        for record in rows.records
        if record.choices
        for one in readings(record)
    }


def by_reading(rows: Rows) -> str:
    """Stored, said and obeyed by a small model, from the text that a compactor has left."""
    found = read_cells(rows).items()
    return _read_table(
        "compactor", "after",
        [
            (
                SHOWN[compactor] + (", no rule stated" if control != "none" else ""),
                "–" if called == "none" else called.removeprefix(ROUND), one,
            )
            for (compactor, control, called), one in found
            if called not in CACHES
        ],
    )  # fmt: skip


def by_cache(rows: Rows) -> str:
    """The same from a quarter of the cache, beside one round to a quarter of the text."""
    found = read_cells(rows).items()
    return _read_table(
        "what is shortened", "how",
        [
            ("cache", cached(called), one)
            if called in CACHES
            else ("text", SHOWN[compactor], one)
            for (compactor, control, called), one in found
            if control == "none" and called in (*CACHES, f"{ROUND}1", "none")
        ],
    )  # fmt: skip


def cached(text: str) -> str:
    """How a cache is compressed, as tables show it."""
    one = Compression.parse(text)
    kept = f"{one.amount:.0f} bits" if one.kind == "rounding" else f"{one.amount:.0%}"
    ends = ", ends kept" if one.guard else ""
    shown = {**EVICTIONS, **ROUNDINGS}[one.name].shown
    return f"{shown}{ends}, {kept}"


def _read_table(first: str, second: str, every: list[tuple[str, str, Read]]) -> str:
    """What is obeyed most first."""
    body = [
        [
            name, how, "–" if one.called in CACHES else f"{one.stored:.2f}",
            *(of.text(".2f") if of else "–" for of in (one.obeyed, one.tempted, one.said)),
            one.bound.text(".2f") if one.bound else "–",
            "–" if one.effective is None else f"{one.effective:.2f}",
        ]
        for name, how, one in sorted(every, key=lambda of: (-of[2].obeyed.mean, of[:2]))
    ]  # fmt: skip
    head = [first, second, "stored", "obeyed", "tempted", "said", "rule restated", "effective"]
    return markdown_table(head, body)


def obeyed(
    compactor: str, called: str = "none", control: str = "none"
) -> Callable[[Rows], Interval]:
    """The share of rules that the small model obeys."""
    return lambda rows: read_cells(rows)[compactor, control, called].obeyed


def off_the_line(rows: Rows) -> float:
    """How far obeyed is from floor + stored x (bound - floor), at most."""
    return max(
        abs(one.obeyed.mean - one.floor - one.stored * (one.bound.mean - one.floor))
        for one in read_cells(rows).values()
        if one.bound and one.called not in CACHES
    )


def others(rows: Rows) -> list[Survival]:
    """Compactors that people install, at a quarter and alone; of those with a model both ends."""
    return [of for at, of in plain(rows) if "/" in at.compactor]


def of(rows: Rows, compactor: str, model: str = "", guard: str = "none") -> Survival:
    """One compactor at a quarter; one of others by its file and function."""
    compactor = f"studies/compactors/{compactor}" if ":" in compactor else compactor
    cells_of = {at[:2]: cell for at, cell in plain(rows, guard=guard)}
    return cells_of[compactor, model]


def at_place(place: str, after: int, *compactors: str) -> Callable[[Rows], float]:
    """The most that any of these keeps of the rules of a place after so many rounds."""
    return lambda rows: max(of(rows, one).by_place[place][after - 1].mean for one in compactors)


def packages(rows: Rows) -> float:
    """How many packages the adapters are of."""
    del rows
    required = tomllib.loads((ADAPTERS / "requirements.toml").read_text(encoding="utf-8"))
    return sum(len(names) for name, names in required.items() if name != "day")


def mended_elsewhere(rows: Rows) -> float:
    """In how many compactors a pinned system prompt changes another place by over a twentieth."""
    pinned = {at[:2]: cell for at, cell in plain(rows, guard="system")}
    pairs = {at: (cell, pinned[at[:2]]) for at, cell in plain(rows) if at[:2] in pinned}
    changed = {
        at.compactor
        for at, (before, after) in pairs.items()
        for place in HOLDING
        if place != "system"
        and abs(after.by_place[place][-1].mean - before.by_place[place][-1].mean) > 0.051
    }
    return len(changed)


OLDEST_FIRST = (
    "keep_last", "plain.py:recent", "plain.py:kit_truncation", "plain.py:cutctx_drop_oldest",
    "langchain.py:trim", "agent_framework.py:truncation",
)  # fmt: skip
FIRST_KEPT = "agent_framework.py:truncation_first_user"
CLEARED = "langchain.py:clear_tool_uses"
SUMMARY, UNTRIMMED = "langchain.py:summarization", "langchain.py:summarization_untrimmed"
CLAIMS: dict[str, Claim] = {
    "packages": Claim(packages, 0),
    "compactors": Claim(lambda rows: len({at.compactor for at, _ in plain(rows)} - {*BOUNDS}), 0),
    "mean_first": Claim(lambda rows: fmean(one.kept[0].mean for one in others(rows)), 2),
    "mean_last": Claim(lambda rows: fmean(one.kept[-1].mean for one in others(rows)), 2),
    "deaf_most": Claim(
        lambda rows: max(
            cell.kept[-1].mean for at, cell in plain(rows) if at.model == "deaf"
        ), 2, maximum=0.3,
    ),
    "floor": Claim(
        lambda rows: max(cell.floor[-1].mean for _, cell in plain(rows) if cell.floor), 2, maximum=0
    ),
    "oldest_middle": Claim(at_place("middle", 1, *OLDEST_FIRST), 2, maximum=0.05),
    "oldest_late": Claim(at_place("late", 3, *OLDEST_FIRST), 2, maximum=0.1),
    "kept_first": Claim(at_place("first", 5, FIRST_KEPT), 2, minimum=0.95),
    "kept_middle": Claim(at_place("middle", 1, FIRST_KEPT), 2, maximum=0.05),
    "cleared": Claim(lambda rows: of(rows, CLEARED).kept[-1].mean, 2),
    "cleared_file": Claim(at_place("file", 1, CLEARED), 2, maximum=0.05),
    "cleared_size": Claim(lambda rows: max(of(rows, CLEARED).left), 1, minimum=1),
    "reached": Claim(lambda rows: (of(rows, SUMMARY, "copying").reached or [1])[0], 2),
    "reached_untrimmed": Claim(lambda rows: (of(rows, UNTRIMMED, "copying").reached or [0])[0], 2),
    "summary_first": Claim(lambda rows: of(rows, SUMMARY, "copying").kept[0].mean, 2),
    "summary_last": Claim(lambda rows: of(rows, SUMMARY, "copying").kept[-1].mean, 2, maximum=0.2),
    "untrimmed_last": Claim(lambda rows: of(rows, UNTRIMMED, "copying").kept[-1].mean, 2, 0.95),
    "restated": Claim(
        lambda rows: min(
            cell.kept[-1].mean for _, cell in plain(rows, guard="restate")
        ), 2, minimum=1,
    ),
    "pinned": Claim(lambda rows: of(rows, "keep_last", guard="system").kept[-1].mean, 2),
    "pinned_more": Claim(mended_elsewhere, 0, maximum=5),
    "ends": Claim(lambda rows: of(rows, "keep_ends").kept[-1].mean, 2),
    "unpaired": Claim(
        lambda rows: len(
            {at[0] for at, cell in plain(rows) if "/" in at[0] and max(cell.unpaired) > 0}
        ), 0,
    ),
    "obeyed_whole": Claim(lambda rows: obeyed("everything")(rows).mean, 2),
    "obeyed_floor": Claim(lambda rows: obeyed("everything", control="no_rules")(rows).mean, 2),
    "obeyed_ends": Claim(lambda rows: obeyed("keep_ends", "round 1")(rows).mean, 2),
    "obeyed_last": Claim(lambda rows: obeyed("keep_last", "round 3")(rows).mean, 2),
    "obeyed_ends_five": Claim(lambda rows: obeyed("keep_ends", "round 5")(rows).mean, 2),
    "obeyed_last_five": Claim(lambda rows: obeyed("keep_last", "round 5")(rows).mean, 2),
    "cache_ends": Claim(lambda rows: obeyed("everything", "snapkv+ends@0.25")(rows).mean, 2),
    "cache_most": Claim(
        lambda rows: max(
            one.obeyed.mean for one in read_cells(rows).values()
            if one.called in CACHES and "@0.25" in one.called and "ends" not in one.called
        ), 2,
    ),
    "cache_rounded": Claim(lambda rows: obeyed("everything", "kivi@4bit")(rows).mean, 2),
    "bound": Claim(
        lambda rows: min(one.bound.mean for one in read_cells(rows).values() if one.bound), 2, 0.9
    ),
    "off": Claim(off_the_line, 2, maximum=0.15),
    "misled": Claim(lambda rows: max(cell.misled[-1].mean for cell in others(rows)), 2),
}  # fmt: skip

STUDY = Study(
    question="Which compactors keep the rules of an agent's history?",
    variants={},
    settings=[],
    context=8000,
    reads=["compaction", "compaction-read"],
    tables={
        "compactors": by_compactor,
        "places": by_place,
        "guards": by_guard,
        "budgets": by_budget,
        "summaries": by_summary,
        "read": by_reading,
        "caches": by_cache,
    },
    claims=CLAIMS,
)


# --- running --------------------------------------------------------------------------------------


def main(words: list[str]) -> int:
    """Makes the missing cells of every package that has an environment in a folder."""
    home, out, *only = words
    required = tomllib.loads((ADAPTERS / "requirements.toml").read_text(encoding="utf-8"))
    every = {name: adapters(name) for name in required if name != "day"}
    every = {"ours": OURS.split(","), **every}
    for name, compactors in every.items():
        command = Path(home) / name / "bin" / "rulekeep" if name != "ours" else Path("rulekeep")
        if (only and name not in only) or not (name == "ours" or command.exists()):
            continue
        for options in CELLS:
            subprocess.run(
                [command, "compact", ",".join(compactors), *options, "--out", out],
                cwd=ROOT, check=False,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
