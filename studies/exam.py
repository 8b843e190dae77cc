"""The exam: which rules do attention and the article's slots keep, on all four tasks?

    rulekeep study exam run|build|check

Four tasks, early and marked rules, trained at 256 tokens at most. Beside the runs stand the tasks'
certificates: what readers without memory score on them. Fills docs/results.md, README and
results/certificates/README.md.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import Rows, Span, TaskSetting, Variant, floored
from rulekeep.printable import markdown_table
from rulekeep.records.folders import kept_beside
from rulekeep.registry import load_file
from rulekeep.reporting.marked import pieces
from rulekeep.study import Claim, Study, Sweep
from rulekeep.tasks import TASKS, Recite, SampledTask

SHARED = load_file(Path(__file__).with_name("shared.py"))

LENGTHS = SHORT, MIDDLE, LONG = 256, 1028, 4096
SETTINGS = [
    TaskSetting(task, placement)
    for task in ("apply", "override", "recall", "recite")
    for placement in ("early", "marked")
]
OTHERS = [one for one in SETTINGS if one.task != "override"]
MARKED = [one for one in OTHERS if one.placement == "marked"]
VARIANTS = {
    "learned": Variant("attention[added_positions=learned]", "attention, learned positions"),
    "none": Variant("attention[positions=none]", "attention, no positions"),
    "rotary": Variant("attention[positions=rotary]", "attention, rotary positions"),
    "slots": Variant("slots", "slots"),
}


# --- certificates --------------------------------------------------------------------------------

CERTIFICATES = Path(__file__).parent.parent / "results" / "certificates"
HEAD = ["task", "placement", "context", "test examples", "chance", "worst local reader", "excess"]
HEAD += ["bound", "whole, bag: excess", "whole, nearest: excess", "passes"]
WHOLE = ("whole context, bag", "whole context, nearest example")


def certified(*, default: bool) -> Callable[[Rows], str]:
    """A line a task, placement and context, of default options or of others.

    It has the reader without memory that comes nearest to the bound, and what two readers of the
    whole context score.
    """

    def table(_: Rows) -> str:
        found: list[tuple[tuple[Any, ...], list[str]]] = []
        for record in kept_beside(CERTIFICATES, []):
            task, options = record["task"], record["options"]
            # The article is certified by exact enumeration: a table of its own.
            if not issubclass(TASKS[task], SampledTask):
                continue
            defaults = TASKS[task].options_type().model_dump()
            changed = [
                ("" if value is True else f"{value} ") + key.replace("_", " ")
                for key, value in options.items()
                if key not in ("placement", "layout") and value != defaults[key]
            ]
            if bool(changed) == default:
                continue
            zoology = options.get("layout") == "zoology"
            title = ", ".join([task + " zoology" * zoology, *changed])
            order = ([*TASKS].index(task), zoology, changed, options["placement"])
            found += [
                ((*order, one["context"]), [title, options["placement"], *reading(one)])
                for one in record["contexts"]
            ]
        return markdown_table(HEAD, [line for _, line in sorted(found)])

    return table


def reading(one: Mapping[str, Any]) -> list[str]:
    """The figures of a certificate at one context."""
    worst = max((row for row in one["readings"] if row["local"]), key=lambda row: row["bound"])
    excess = {row["reader"]: row["excess"] for row in one["readings"]}
    counts = [f"{one['context']:,}", f"{one['examples']:,}", f"{worst['chance']:.3f}"]
    bound = [worst["reader"], f"{worst['excess']:+.4f}", f"{worst['bound']:.4f}"]
    beside = [f"{excess[name]:+.3f}" for name in WHOLE]
    return [*counts, *bound, *beside, "yes" if one["passed"] else "NO"]


# --- the example of README -----------------------------------------------------------------------


class Look(NamedTuple):
    """How words of a kind are drawn: fill, edge and text colour."""

    face: str = "none"
    edge: str = "none"
    text: str = "#6a6a6a"


# In characters, and of one its width in inches.
_LINE_WIDTH, _CHARACTER, _LINE_HEIGHT = 62, 0.0785, 0.27


def marked_words(blocks: Sequence[Sequence[tuple[str, str]]], looks: Mapping[str, Look]) -> Figure:
    """Words of a text, each with the look of its kind; a block begins a line. Below, the kinds."""
    named = [(kind, kind) for kind, look in looks.items() if look.edge != "none"]
    lines: list[list[tuple[str, str, int]]] = []
    for block in [*blocks, named]:
        lines.append([])
        at = 0
        for word, kind in block:
            if at + len(word) > _LINE_WIDTH:
                lines.append([])
                at = 0
            lines[-1].append((word, kind, at))
            at += len(word) + 2
    height = _LINE_HEIGHT * (len(lines) + 0.4)
    width = _CHARACTER * (_LINE_WIDTH + 2)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, _LINE_WIDTH + 1), ylim=(len(lines) - 0.3, -0.7))
    axes.axis("off")
    for y, line in enumerate(lines):
        # What the kinds are stands a little apart.
        lower = y + (0.25 if y == len(lines) - 1 else 0)
        for word, kind, at in line:
            look = looks[kind]
            box = {"boxstyle": "round,pad=0.18", "facecolor": look.face, "edgecolor": look.edge}
            axes.text(
                at + len(word) / 2, lower, word, ha="center", va="center", color=look.text,
                fontsize=9, family="DejaVu Sans Mono", bbox=box,
            )  # fmt: skip
    return figure


# What the words of an example are, as they are drawn.
LOOKS = {
    "rule": Look("#d3efe3", "#009E73", "#00503a"),
    "item": Look("#d6eaf8", "#0072B2", "#003f63"),
    "decoy": Look("none", "#b35900", "#8a4500"),
    "answer": Look("#006b4e", "#006b4e", "#ffffff"),
    "plain": Look(),
}
KINDS = {"first": "answer", "cue": "plain", "request": "plain", "left out": "plain"}


def example(_: Rows) -> bytes:
    """README's example: `rulekeep show recite --rules 2 --n 2`, its last, head, body and answer."""
    task = Recite(Recite.options_type(rules=2))
    sample = task.sample("test", 128, 1, seed=0, start=1)
    words = [
        (re.sub("… (.*) tokens.*", r"… \1 more tokens …", text), KINDS.get(kind, kind))
        for text, kind in pieces(sample, 0, task.vocabulary)
    ]
    said = next(place for place, (text, _) in enumerate(words) if text == "<go>") + 1
    return as_bytes(marked_words([words[:said], words[said:]], LOOKS), "svg")


def kept(variant: str, settings: Sequence[TaskSetting], length: int) -> Callable[[Rows], Span]:
    """The least and the most that a variant keeps, by task setting."""
    return lambda rows: Span.of(
        rows.known(variant, one, "retention", length).mean for one in settings
    )


CLAIMS = {
    "rotary_short": Claim(
        lambda rows: floored(kept("rotary", SETTINGS, SHORT)(rows).low, 2), 2, 0.98
    ),
    "rotary_middle": Claim(kept("rotary", SETTINGS, MIDDLE), 2, maximum=0.53),
    "none_marked_short": Claim(kept("none", MARKED, SHORT), 2, maximum=0.49),
}

STUDY = Study(
    question="Which rules do attention and the article's slots keep beyond the lengths trained on?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=SHORT,
    sweeps={"exam": Sweep("standard")},
    tables={
        **{f"retention-{at}": lambda rows, at=at: SHARED.by_variant(rows, at) for at in LENGTHS},
        "certificates": certified(default=True),
        "certificates-rules": certified(default=False),
    },
    figures={"example.svg": example},
    claims=CLAIMS,
)
