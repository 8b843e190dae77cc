"""Does it hang on the exam's small model? Our memory and attention, seven times as large.

    rulekeep study wide run|build|check

`recite`, marked rules: retention and `exact`, trained at 256 tokens at most, three seeds, and how
much more our memory keeps, paired by seed. Fills a part of docs/evidence.md.
"""

from collections.abc import Callable, Sequence

from rulekeep.analysis.cells import Group
from rulekeep.analysis.rows import Rows, TaskSetting, Variant, by_earliness, difference, state_kib
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import AnySpec, mixer_specs
from rulekeep.study import Claim, Study, Sweep
from rulekeep.sweeps.presets import CATALOGUE_LENGTH, protocol

SHORT, MIDDLE, LONG = LENGTHS = (256, 1028, 4096)
SEEDS = (1, 2, 3)
MARKED = TaskSetting("recite", "marked")
THEIRS = "attention[positions=rotary,width=128,layers=4]"
OURS = "sparse_delta[short_convolution=false,width=128,layers=4,added_positions=earliness]"
VARIANTS = {"theirs": Variant(THEIRS, THEIRS), "ours": Variant(OURS, OURS)}
SIGNAL = ",added_positions=earliness"
SIGNALLED, BARE = THEIRS.replace("]", f"{SIGNAL}]"), OURS.replace(SIGNAL, "")
# The other form of each: attention with earliness, our memory without.
OTHERS = {"signalled": Variant(SIGNALLED, SIGNALLED), "bare": Variant(BARE, BARE)}
FORMS = {THEIRS: ("theirs", "signalled"), BARE: ("bare", "ours")}
# The exam's, of which both are seven times the size.
SMALL = {"small": Variant("attention[positions=rotary]", "attention, rotary positions")}


def wide(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Each mixer on marked rules, at a rate of its own."""
    mixers = mixer_specs(",".join(one.mixer for one in (VARIANTS | OTHERS).values()))
    cells = {("recite", "marked"): [("recite", "marked")]}
    return protocol(records, mixers, CATALOGUE_LENGTH, cells, SEEDS)


def cell(rows: Rows, key: str) -> Group:
    """All runs of one of both."""
    found = rows.cell(key, MARKED)
    assert found is not None, key
    return found


def table(rows: Rows) -> str:
    """Both, and the difference."""
    asked = [("retention", at) for at in LENGTHS] + [("exact", at) for at in (SHORT, LONG)]
    head = [MARKED.name, "parameters", f"KiB at {MIDDLE}", "rate"]
    head += [*(f"{figure}, {at}" for figure, at in asked), f"each seed at {LONG}"]
    body = []
    for key, variant in VARIANTS.items():
        group = cell(rows, key)
        costs = [f"{parameters(group):,.0f}", f"{state_kib(group, MIDDLE):,.1f}"]
        texts = [rows.text(key, MARKED, *one) for one in asked]
        seeds = sorted(rows.known(key, MARKED, "retention", LONG).seeds.items())
        each = ", ".join(f"{kept:.3f}" for _, kept in seeds)
        body.append([variant.name, *costs, f"{group.rate:.3g}", *texts, each])
    both = cell(rows, "ours"), cell(rows, "theirs")
    more = [difference(*both, *one).text() for one in asked[:3]]
    body.append(["difference", "", "", "", *more, "", "", ""])
    return markdown_table(head, body)


def parameters(group: Group) -> float:
    """The same for every seed."""
    (found,) = {*group.cost("parameters").values()}
    return found


def mean(key: str, length: int) -> Callable[[Rows], float]:
    """What one of both keeps."""
    return lambda rows: rows.known(key, MARKED, "retention", length).mean


def at_chance(rows: Rows) -> bool:
    """Whether attention's interval at 4,096 tokens holds the chance level."""
    summary = rows.known("theirs", MARKED, "retention", LONG).summary
    return summary.low <= cell(rows, "theirs").chance("retention", LONG) <= summary.high


STUDY = Study(
    question="Does what small models show hold at seven times the parameters?",
    variants=VARIANTS | OTHERS | SMALL,
    settings=[MARKED],
    context=SHORT,
    seeds=SEEDS,
    reads=("exam",),
    sweeps={"wide": Sweep("wide")},
    tables={
        "kept": table,
        "earliness": lambda rows: by_earliness(rows, FORMS, [MARKED], "exact", LONG),
    },
    claims={
        "ours": Claim(mean("ours", LONG), minimum=0.99),
        "theirs": Claim(mean("theirs", LONG), holds=at_chance),
        "times": Claim(
            lambda rows: parameters(cell(rows, "theirs")) / parameters(cell(rows, "small")),
            0,
            minimum=6.5,
            maximum=7.5,
        ),
    },
)
