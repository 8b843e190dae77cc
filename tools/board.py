"""Writes docs/board.md: who keeps rules longest, out of results/ and submissions/.

python tools/board.py

A row is a mixer with its options that has run a protocol to its end. Where validation chose among
learning rates, its choice is shown.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from submit import submitted

from rulekeep.analysis.groups import Group
from rulekeep.analysis.ranking import kept
from rulekeep.analysis.rows import Row, Rows, TaskSetting, Variant, state_kib
from rulekeep.analysis.summary import failing_not_excluded
from rulekeep.mixers import MIXERS
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.records.store import whole_runs
from rulekeep.specs import HYBRID, written
from rulekeep.sweeps.presets import SEEDS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "board.md"
SETTINGS = [TaskSetting(task, at) for task in ("recite", "apply") for at in ("early", "marked")]
_MODEL = ("width", "layers", "hidden", "added_positions")
CERTIFICATES = "../results/certificates/README.md"


class Protocol(NamedTuple):
    """What is alike in a table: trained to, steps, seeds, shown at, and its folders of results."""

    name: str
    context: int
    steps: int
    seeds: tuple[int, ...]
    shown: int
    folders: tuple[str, ...]


PROTOCOLS = [
    Protocol("standard", 256, 2000, SEEDS, 4096,
             ("exam", "beyond", "carries", "attention-controls")),
    Protocol("quick", 128, 1000, (1,), 512, ("quick",)),
]  # fmt: skip


class Source(NamedTuple):
    """Records, where they are, the seeds that each variant has, and code of plug-ins by mixer."""

    records: list[Record]
    link: str
    seeds: tuple[int, ...]
    code: dict[str, str]


def sources(protocol: Protocol) -> Iterator[Source]:
    """The committed results of a protocol, then the submissions."""
    for name in protocol.folders:
        link = f"../results/{name}/records.jsonl"
        records = whole_runs(ROOT / "results" / name)
        # Second rates are beside their grid.
        if (aside := ROOT / "results" / f"{name}-aside").exists():
            records += whole_runs(aside)
        yield Source(records, link, protocol.seeds, {})
    for path in sorted((ROOT / "submissions").glob("*.jsonl")):
        one = submitted(path)
        if one.protocol.startswith(protocol.name):
            yield Source(one.records, f"../submissions/{path.name}", SEEDS, dict(one.code))


def variants(records: Iterable[Record]) -> dict[str, Variant]:
    """Every mixer with its options and the settings of its model, named by what was given."""
    found = {}
    for one in records:
        given = one.shown_options
        model = {key: one.spec.rest[key] for key in _MODEL if key in one.given}
        text = written(one.spec.mixer, {**given, **model})
        # What has fewer hidden channels has them for parameters alike.
        shown = {key: value for key, value in model.items() if key != "hidden"}
        if one.spec.mixer == "attention":
            # A baseline is named for what it is.
            shown = {"positions": one.spec.mixer_options.get("positions", "none"), **shown}
        # Of a plug-in its class: the link beside it leads to its file.
        short = HYBRID.join(name.rpartition(":")[2] for name in one.spec.mixer.split(HYBRID))
        found[text] = Variant(text, ", ".join([short, *words({**shown, **given})]))
    return found


def words(options: dict[str, object]) -> Iterator[str]:
    """Options as a name has them."""
    for key, value in options.items():
        if key.endswith("positions"):
            yield "no positions" if value == "none" else str(value)
        elif isinstance(value, bool):
            yield f"{'' if value else 'no '}{key.replace('_', ' ')}"
        else:
            yield f"{key} {value}"


def lines(protocol: Protocol) -> list[list[str]]:
    """The rows of a table, the best first; what lacks a task setting is left out."""
    found, chances = [], ["–"] * len(SETTINGS)
    for source in sources(protocol):
        records = [one for one in source.records if one.spec.rest.get("steps") == protocol.steps]
        every = variants(records)
        rows = Rows(records, every, SETTINGS, protocol.context, source.seeds)
        if {*SETTINGS} <= {setting for _, setting in rows.groups}:
            chances = [rows.chance(one, "retention", protocol.shown) for one in SETTINGS]
        for key, variant in every.items():
            retentions = [rows.row(key, one, "retention", protocol.shown) for one in SETTINGS]
            if all(retentions):
                groups = [rows.group(key, one) for one in SETTINGS]
                mean = math.fsum(corrected(one, protocol.shown) for one in groups) / len(groups)
                has_diverged = math.isnan(mean)
                of_all = "–" if has_diverged else f"{mean:.3f}"
                found.append((has_diverged, -mean, [
                    variant.name, of_all, *(said(one) for one in retentions if one),
                    kib(rows, key, protocol.shown), links(variant, source),
                ]))  # fmt: skip
    ranked = [line for *_, line in sorted(found, key=lambda one: one[:2])]
    return [*ranked, ["guessing", "–", *chances, "–", "–"]]


def corrected(group: Group, length: int) -> float:
    """The mean of retention with chance taken out; NaN where a seed diverged."""
    by_seed = kept(group, length, corrects=True)
    return math.fsum(by_seed.values()) / len(by_seed)


def said(row: Row) -> str:
    """The mean over seeds, and the lowest where there are several; or how many diverged."""
    several = len(row.seeds) > 1
    if lost := row.summary.diverged:
        return f"{lost} of {len(row.seeds)} diverged"
    return f"{row.mean:.3f}" + (f" ({row.lowest:.3f})" if several else "")


def kib(rows: Rows, key: str, length: int) -> str:
    """KiB of state a layer."""
    group = rows.cell(key, SETTINGS[0])
    return "–" if group is None else f"{state_kib(group, length):,.0f}"


def links(variant: Variant, source: Source) -> str:
    """Where its records, its code and the certificates of its tasks are."""
    mixer = variant.one.mixer
    code = ", ".join(f"[code]({code_of(name, source)})" for name in mixer.split(HYBRID))
    return f"[records]({source.link}), {code}, [certificates]({CERTIFICATES})"


def code_of(mixer: str, source: Source) -> str:
    """Where the code of a mixer is: in the package, below on the page, or in a file of ours."""
    if mixer in MIXERS:
        return f"../src/rulekeep/mixers/{mixer}.py"
    return f"#{anchor(mixer)}" if mixer in source.code else f"../{mixer.rpartition(':')[0]}"


def anchor(mixer: str) -> str:
    """What a heading of this mixer is linked by."""
    kept = "".join(one for one in mixer.lower() if one.isalnum() or one in "_-")
    return f"code-of-{kept}"


def page() -> str:
    """The page."""
    parts = [HEAD.format(failing=failing_not_excluded(len(SEEDS)))]
    for one in PROTOCOLS:
        seeds = "one seed" if len(one.seeds) == 1 else f"{len(one.seeds)} seeds"
        parts.append(
            f"## {one.name.capitalize()}\n\nTrained to {one.context} tokens, {seeds}. Retention is "
            f"at {one.shown:,} tokens."
        )
        head = ["variant", "mean, corrected", *(f"`{s.task}`, {s.placement}" for s in SETTINGS)]
        head += ["KiB a layer", "behind it"]
        parts.append(markdown_table(head, lines(one)))
        for source in sources(one):
            for mixer, text in source.code.items():
                parts.append(f"## Code of {mixer}\n\n```python\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


HEAD = """# The board

Which variants keep rules beyond the length they were trained on. A cell is the mean retention over
seeds, and the lowest seed in brackets. Chance differs between tasks. So the mean over the four task
settings is of scores with chance taken out: 0 is guessing, 1 is perfect. It orders the rows.
A cell at the level of guessing keeps nothing. Below it a variant names decoys, or no rule at all.
Where five of five seeds learned, up to {failing:.0%} of seeds may still fail
([statistics](methods.md#statistics)).

On the site a click on a heading sorts by its column. Learning rates are chosen by
[one rule](methods.md#tuning), on validation alone: by one seed, and by five where two rates have
five.

Add your own: `rulekeep sweep standard --mixers FILE.py:CLASS --out RUNS`, then
`python tools/submit.py RUNS`. It checks the runs and writes one file for a pull request.

Made by `python tools/board.py`."""

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
