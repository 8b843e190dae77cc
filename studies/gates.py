"""Gates: is it what a gate sees that keeps rules, where are they lost, and how often do gates open?

    rulekeep study gates run|build|check

From variant 6 of the ladder to 7 a write gate comes to see eight tokens where it saw its own. A
step of training then moves it eight times as far by what they share. Each of two controls has one
without the other (studies/controls). Then single runs that `rulekeep explain` has read: at which
step rules are lost, and how often gates open by kind of token. Fills docs/evidence.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from rulekeep.analysis.rows import Rows, TaskSetting, Variant
from rulekeep.analysis.summary import Summary
from rulekeep.analysis.variants import is_variant
from rulekeep.commands.records import read_explanations
from rulekeep.explain.record import GATE, Difference, Explanation, Trace
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.records.store import read_runs
from rulekeep.specs import AnySpec, mixer_specs, written
from rulekeep.study import Claim, Study, Sweep, not_shown
from rulekeep.sweeps.presets import CATALOGUE_LENGTH, SEEDS, cell

RESULTS = Path(__file__).parent.parent / "results"
SHORT, LONG, FAR = LENGTHS = (256, 4096, 16384)
EARLY = TaskSetting("recite", "early")
# What the grids of 6 and 7 chose.
RATE = 1e-2
# Our memory as the ladder has it, by its name there.
SIX, SEVEN = mixer_specs(
    "sparse_delta[short_convolution=false,hidden=248,gate_kernel=1,read_first=false,gate_penalty=0,"
    "added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240,read_first=false,gate_penalty=0,"
    "added_positions=earliness]"
)
CHANGES = {"6": SIX, "7": SEVEN}
CONTROLS = {
    "scaled": "studies/controls/gates.py:ScaledGate[hidden=248,added_positions=earliness]",
    "slowed": "studies/controls/gates.py:SlowedGate[hidden=240,added_positions=earliness]",
}
# Tokens that a gate sees, and how far a step moves it.
GATES = {"6": ("1", "1"), "scaled": ("1", "8"), "slowed": ("8", "1"), "7": ("8", "8")}
# In the order of a text: what is to be kept, what is not, what asks for it.
KINDS = ("cue", "rule", "item", "decoy rule", "decoy item", "filler", "request", "<go>")
NONE = "–"


def is_at_rate(record: Record) -> bool:
    """Whether a run is at the rate that is compared."""
    return record.spec.learning_rate == RATE


VARIANTS = {
    **{
        key: Variant(
            written(one.mixer, {**one.options, **one.settings}), f"variant {key}", is_at_rate
        )
        for key, one in CHANGES.items()
    },
    **{key: Variant(mixer, f"{key} gate") for key, mixer in CONTROLS.items()},
}


def controls() -> Sequence[AnySpec]:
    """The two controls on early rules, as the ladder runs its variants."""
    to_far = CATALOGUE_LENGTH.also_tested(FAR)
    asked = cell(EARLY.task, EARLY.placement, *to_far)
    return [
        one.spec(**asked, seed=seed, learning_rate=RATE)
        for one in mixer_specs(",".join(CONTROLS.values()))
        for seed in SEEDS
    ]


# --- what a gate sees, and how fast it moves -----------------------------------------------------


def more(key: str, over: str) -> Callable[[Rows], Summary]:
    """What one keeps more than another at 16,384 tokens, paired by seed."""
    return lambda rows: rows.more(key, over, EARLY, "retention", FAR)


def of_controls(rows: Rows) -> str:
    """One without the other, both, and none."""
    head = ["tokens seen", "a step moves it", EARLY.name]
    head += [*(f"{length:,} tokens" for length in LENGTHS), f"seeds 1 to 5 at {FAR:,}"]
    head.append(f"gain at {FAR:,} over 6")
    body = []
    for key, has in GATES.items():
        cells = [rows.text(key, EARLY, "retention", length) for length in LENGTHS]
        seeds = sorted(rows.known(key, EARLY, "retention", FAR).seeds.items())
        cells.append(", ".join(f"{kept:.3f}" for _, kept in seeds))
        gained = NONE if key == "6" else more(key, "6")(rows).text()
        body.append([*has, VARIANTS[key].name, *cells, gained])
    return markdown_table(head, body)


# --- single runs that are explained --------------------------------------------------------------


def explained(folder: str) -> list[tuple[Record, Explanation]]:
    """The runs of a folder that `rulekeep explain` has read."""
    found = {one.run: one for one in read_explanations(RESULTS / folder, [])}
    runs = read_runs(RESULTS / folder).records
    return [(record, found[record.id]) for record in runs if record.id in found]


def named(record: Record) -> str:
    """As the ladder has it, or by its mixer."""
    ours = (key for key, one in CHANGES.items() if is_variant(record, one))
    return next((f"variant {key}" for key in ours), record.spec.mixer)


def lost(_: Rows) -> str:
    """At which step rules are lost, of all above chance."""

    def said(one: Difference) -> str:
        return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"

    head = [f"{EARLY.name}, seed 1", "tokens", "right after the rules", "before the answer", "said"]
    head += ["lost at capture", "in the body", "at read-out"]
    body = []
    for record, one in explained("catalogue"):
        probed = one.probes[-1]
        found = (probed.places[0].found, probed.places[-1].found, probed.said)
        at_each = (probed.lost.capture, probed.lost.body, probed.lost.readout)
        shares = [f"{share.mean:.3f}" for share in found]
        body.append([named(record), f"{probed.context:,}", *shares, *map(said, at_each)])
    return markdown_table(head, sorted(body))


def opened(trace: Trace | None) -> str:
    """How often gates are open; in brackets the one that opens most often."""
    if trace is None or trace.zeros == 1:
        # Of none at all a plain 0: what is nearly none would look alike.
        return NONE if trace is None else "0"
    return f"{1 - trace.zeros:.2%} ({1 - min(trace.zeros_by_gate, default=trace.zeros):.2%})"


def open_gates(_: Rows) -> str:
    """Of four runs a row a layer, by kind of token."""
    body = []
    for record, one in explained("beyond"):
        spec, found = record.spec, one.traced
        run = f"{spec.task}, {spec.task_options['placement']}, seed {spec.seed}"
        traces = {(trace.layer, trace.kind): trace for trace in found.gates if trace.part == GATE}
        for layer in sorted({layer for layer, _ in traces}):
            cells = [opened(traces.get((layer, kind))) for kind in KINDS]
            body.append([run, f"{found.context:,}", f"{layer}", *cells])
    return markdown_table(["gates open", "tokens", "layer", *KINDS], sorted(body))


def one_run(name: str) -> Explanation:
    """The run that is explained of a variant, or of a mixer."""
    (found,) = (one for record, one in explained("catalogue") if named(record) == name)
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


STUDY = Study(
    question="What must a write gate see, where are rules lost, and how often do gates open?",
    variants=VARIANTS,
    settings=[EARLY],
    context=SHORT,
    reads=("catalogue",),
    sweeps={"gate-controls": Sweep("controls")},
    tables={"controls": of_controls, "lost": lost, "open": open_gates},
    claims={
        "scaled_gain": Claim(more("scaled", "6"), minimum=0),
        "slowed_gain": Claim(more("slowed", "6"), minimum=0),
        "scaled_slowed": not_shown(more("scaled", "slowed")),
        "delta_found": Claim(lambda _: one_run("delta").probes[-1].places[-1].found.mean),
        "delta_said": Claim(lambda _: one_run("delta").probes[-1].said.mean),
        "own_token_open": Claim(open_at_fillers("variant 6")),
        "eight_tokens_open": Claim(open_at_fillers("variant 7")),
    },
)
