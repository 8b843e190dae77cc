"""The ladder: which change from the article's slots to our memory keeps early, weak rules?

    rulekeep study ladder run|build|check

`recite`, early and marked rules, trained at 256 tokens at most for 1,000 steps, each variant at the
rate that the validation set chose. Our memory has its earlier form: `apart` takes the shipped one
apart. Then single runs that `rulekeep explain` has read: at which step rules are lost. Fills
docs/evidence.md.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from rulekeep.analysis.rows import Rows, TaskSetting, Variant, is_variant
from rulekeep.analysis.summary import Interval, Summary
from rulekeep.explain.record import GATE, Explanation
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.records.folders import kept_beside, of_kind
from rulekeep.records.store import whole_runs
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec, mixer_specs
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import CATALOGUE_LENGTH, protocol

SHARED = load_file(Path(__file__).with_name("shared.py"))
RUNS = Path(__file__).parent.parent / "results" / "catalogue"
SHORT, FAR = 256, 16384
AT_FAR = ("retention", FAR)
# Gates that leak are seen at 16,384 tokens, and no state here grows.
TO_FAR = CATALOGUE_LENGTH.also_tested(FAR)
EARLY, MARKED = SETTINGS = [TaskSetting("recite", "early"), TaskSetting("recite", "marked")]
# From the article's memory to ours, a change a variant; the last but one without the signal.
LADDER = mixer_specs(
    "slots[hidden=224],linear_attention,delta,delta[added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=248,straight_through=false,gate_kernel=1,"
    "read_first=false,gate_penalty=0,added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=248,gate_kernel=1,read_first=false,gate_penalty=0,"
    "added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240,read_first=false,gate_penalty=0,"
    "added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240,gate_penalty=0,added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240,penalty_margin=0,penalty_start=0,"
    "added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240,penalty_start=0,added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240],"
    "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]"
)
# What each changes.
CHANGES = (
    "the article's slots",
    "content-addressed write: linear attention",
    "a write erases what it replaces: delta rule",
    "earliness: how early a token is",
    "write gate clipped: exact zeros",
    "a shut gate still learns: straight-through",
    "the gate sees eight tokens, from zero",
    "reads before it writes",
    "a penalty on open gates",
    "and on those that have only just shut",
    "the next without earliness",
    "the first 500 updates free of penalty: sparse_delta without convolution",
)
NAMES = {str(place): name for place, name in enumerate(CHANGES, 1)}
MIXERS = dict(zip(NAMES, LADDER, strict=True))
# Beside the chain, under the one that it differs from.
ORDER = [one for key in NAMES for one in ((key, "7a") if key == "7" else (key,))]
# With a sigmoid instead of the clip: what do exact zeros add there?
NAMES["7a"] = "the same with a sigmoid: no exact zeros"
(MIXERS["7a"],) = mixer_specs(
    "sparse_delta[short_convolution=false,hidden=240,gate_stretch=0,straight_through=false,"
    "read_first=false,gate_penalty=0,added_positions=earliness]"
)
# What one is held against where that is not the one before.
BESIDE = {"7a": "7", "8": "7", "11": "12", "12": "10"}
VARIANTS = {key: Variant(MIXERS[key].text, f"{key} {NAMES[key]}") for key in ORDER}


# --- what makes the runs -------------------------------------------------------------------------


def ladder(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Each variant, early and marked: it may learn one and not the other, so each has its grid."""
    cells = {(one.task, one.placement): [(one.task, one.placement)] for one in SETTINGS}
    return protocol(records, [*MIXERS.values()], TO_FAR, cells)


# --- tables --------------------------------------------------------------------------------------


def short(rows: Rows) -> str:
    """Retention at 16,384 tokens of both placements."""
    head = ["", "what a variant changes", *(f"{one.placement} rules" for one in SETTINGS)]
    body = [[key, NAMES[key], *(rows.text(key, one, *AT_FAR) for one in SETTINGS)] for key in ORDER]
    return markdown_table(head, body)


def gains(rows: Rows) -> dict[str, Summary]:
    """What each keeps more than the one that it changes; what is not run is left out."""
    pairs = [(key, BESIDE.get(key, before)) for before, key in pairwise(ORDER)]
    return {
        f"{key} − {over}: {one.name}": rows.more(key, over, one, *AT_FAR)
        for one in SETTINGS
        for key, over in pairs
        if all(rows.row(variant, one, *AT_FAR) for variant in (key, over))
    }


GAINS = Family(gains)


# --- single runs that are explained --------------------------------------------------------------


def explained() -> list[tuple[Record, Explanation]]:
    """The runs that `rulekeep explain` has read."""
    found = {one.run: one for one in of_kind(kept_beside(RUNS, []), Explanation, [])}
    runs = whole_runs(RUNS)
    return [(record, found[record.id]) for record in runs if record.id in found]


def named(record: Record) -> str:
    """As the ladder has it, or by its mixer."""
    ours = (key for key in ("6", "7") if is_variant(record, MIXERS[key]))
    return next((f"variant {key}" for key in ours), record.spec.mixer)


def lost(_: Rows) -> str:
    """At which step rules are lost, of all above chance."""

    def said(one: Interval) -> str:
        return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"

    head = [f"{EARLY.name}, seed 1", "tokens", "right after the rules", "before the answer", "said"]
    head += ["lost at capture", "in the body", "at read-out"]
    body = []
    for record, one in explained():
        probed = one.probes[-1]
        found = (probed.places[0].found, probed.places[-1].found, probed.said)
        at_each = (probed.lost.capture, probed.lost.body, probed.lost.readout)
        shares = [f"{share.mean:.3f}" for share in found]
        body.append([named(record), f"{probed.context:,}", *shares, *map(said, at_each)])
    return markdown_table(head, sorted(body))


def one_run(name: str) -> Explanation:
    """The run that is explained of a variant, or of a mixer."""
    (found,) = (one for record, one in explained() if named(record) == name)
    return found


def open_at_fillers(name: str) -> Callable[[Rows], str]:
    """How many percent of the second layer's gates are open at fillers, in one run."""

    def share(_: Rows) -> str:
        (zeros,) = (
            trace.zeros
            for trace in one_run(name).traced.gates
            if (trace.layer, trace.kind, trace.part) == (2, "filler", GATE)
        )
        return f"{100 * (1 - zeros):.3f}"

    return share


# --- claims --------------------------------------------------------------------------------------

CLAIMS = {
    "tested": SHARED.tested(GAINS, of_which=0),
    # Single runs.
    "delta_found": Claim(lambda _: one_run("delta").probes[-1].places[-1].found.mean),
    "delta_said": Claim(lambda _: one_run("delta").probes[-1].said.mean),
    "own_token_open": Claim(open_at_fillers("variant 6")),
    "eight_tokens_open": Claim(open_at_fillers("variant 7")),
}  # fmt: skip

STUDY = Study(
    question="Which change from the article's slots to our memory keeps rules, and how?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=SHORT,
    sweeps={"catalogue": Sweep("ladder")},
    families={"a change of the ladder": GAINS},
    tables={"short": short, "lost": lost},
    claims=CLAIMS,
)
