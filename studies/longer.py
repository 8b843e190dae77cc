"""Trained at 1,028 tokens instead of 256: is what attention loses what it was not trained at?

    rulekeep study longer run|build|check

`recite` by the protocol `long` in a quarter of its steps, tested up to 4,096 tokens. Beside
our memory stands the attention that learns marked rules in the fewest steps: a convolution over
eight tokens, and earliness (studies/beyond.py). Fills docs/evidence.md and README.
"""

from collections.abc import Sequence

from rulekeep.analysis.best import steps_to_learn
from rulekeep.analysis.rows import Rows, TaskSetting, Variant
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import AnySpec, RunSpec, mixer_specs
from rulekeep.study import Claim, Study, Sweep
from rulekeep.sweeps.presets import long as protocol

SHORT, TRAINED, LONG = 256, 1028, 4096
STEPS = 1000
EARLY, MARKED = SETTINGS = [TaskSetting("recite", "early"), TaskSetting("recite", "marked")]
ASKED = [("retention", SHORT), ("retention", TRAINED), ("retention", LONG)]
ASKED += [("exact", TRAINED), ("exact", LONG)]
VARIANTS = {
    "attention": Variant(
        "attention[conv_size=8,added_positions=earliness]",
        "attention, convolution, earliness",
    ),
    "ours": Variant(
        "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]",
        "sparse_delta, no convolution, earliness",
    ),
}


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Marked rules first: they are the harder."""
    mixers = mixer_specs(",".join(VARIANTS[key].mixer for key in ("ours", "attention")))
    specs = protocol(records, mixers=mixers, steps=STEPS, furthest=LONG)
    kept = [spec for spec in specs if isinstance(spec, RunSpec) and spec.task == "recite"]
    return sorted(kept, key=lambda spec: spec.task_options["placement"] == "early")


def table(rows: Rows) -> str:
    """Both, and the difference."""
    head = ["", "", "rate", *(f"{figure}, {at}" for figure, at in ASKED), "steps to 0.9"]
    body = []
    for setting in SETTINGS:
        for key, variant in VARIANTS.items():
            group = rows.cell(key, setting)
            assert group is not None, (key, setting)
            texts = [rows.text(key, setting, *one) for one in ASKED]
            steps = f"{steps_to_learn(group, 'retention'):,.0f}"
            body.append([setting.name, variant.name, f"{group.rate:.3g}", *texts, steps])
        apart = [rows.more("ours", "attention", setting, *one).text() for one in ASKED]
        body.append([setting.name, "difference", "", *apart, ""])
    return markdown_table(head, body)


STUDY = Study(
    question="Is what attention loses beyond the trained length what it was not trained at?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=TRAINED,
    sweeps={"longer-training": Sweep("sweep")},
    tables={"kept": table},
    claims={
        "attention_marked": Claim(lambda rows: rows.known("attention", MARKED, *ASKED[2]).mean),
        "more": Claim(
            lambda rows: rows.more("ours", "attention", MARKED, "retention", LONG), minimum=0
        ),
    },
)
