"""The ladder: which change from the article's slots to our memory keeps early, weak rules?

    rulekeep study ladder run|build|check

`recite`, early and marked rules, trained at 256 tokens at most for 1,000 steps, each variant at the
rate that the validation set chose. Retention at 16,384 tokens; what a change gains is paired by
seed. Beside the ladder stand the changes at equal rates.

From variant 6 to 7 a write gate comes to see eight tokens where it saw its own. A step of training
then moves it eight times as far by what they share. Each of two controls has one without the other
(studies/controls). Then single runs that `rulekeep explain` has read: at which step rules are lost,
and how often gates open by kind of token. Fills docs/evidence.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import Rows, Span, TaskSetting, Variant, floored, is_variant, mean, more
from rulekeep.analysis.summary import Interval, Summary
from rulekeep.explain.record import GATE, Explanation, Trace
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.records.folders import kept_beside, of_kind
from rulekeep.records.store import whole_runs
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec, mixer_specs
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import CATALOGUE_LENGTH, SEEDS, cell, protocol

SHARED = load_file(Path(__file__).with_name("shared.py"))

RESULTS = Path(__file__).parent.parent / "results"
SHORT, _, FAR = LENGTHS = (256, 4096, 16384)
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
BESIDE = {"1": None, "7a": "7", "8": "7", "11": "12", "12": "10"}
# At equal rates: by placement who is asked, and the rate of each that was not chosen.
RATES = (3e-3, 1e-2)
ASIDE = {
    "early": {"5": 3e-3, "6": 3e-3, "7": 3e-3},
    "marked": {"7": 1e-2, "8": 3e-3, "9": 1e-2},
}
# From 6 to 7 a gate sees more, and is moved further: either alone.
CONTROLS = {
    "scaled": "studies/controls/gates.py:ScaledGate[hidden=248,added_positions=earliness]",
    "slowed": "studies/controls/gates.py:SlowedGate[hidden=240,added_positions=earliness]",
}
# What the grids of 6 and 7 chose, and the controls have.
GATE_RATE = 1e-2
SIX, SEVEN = (f"{key} at {GATE_RATE:g}" for key in ("6", "7"))
# By variant its name, the tokens that a gate sees, and how far a step moves it.
GATES = {
    SIX: ("variant 6", "1", "1"),
    "scaled": ("scaled gate", "1", "8"),
    "slowed": ("slowed gate", "8", "1"),
    SEVEN: ("variant 7", "8", "8"),
}
# In the order of a text: what is to be kept, what is not, what asks for it.
KINDS = ("cue", "rule", "item", "decoy rule", "decoy item", "filler", "request", "<go>")
NONE = "–"


def of_grid(key: str) -> Callable[[Record], bool]:
    """Whether a run is the grid's, and not one at the rate that was not chosen."""

    def only(record: Record) -> bool:
        aside = ASIDE.get(str(record.spec.task_options["placement"]), {}).get(key)
        return record.spec.seed == SEEDS[0] or record.spec.learning_rate != aside

    return only


def at(rate: float) -> Callable[[Record], bool]:
    """Whether a run is at this rate."""
    return lambda record: record.spec.learning_rate == rate


VARIANTS = {
    **{key: Variant(MIXERS[key].text, f"{key} {NAMES[key]}", of_grid(key)) for key in ORDER},
    **{
        f"{key} at {rate:g}": Variant(MIXERS[key].text, key, at(rate))
        for key in dict.fromkeys(key for asked in ASIDE.values() for key in asked)
        for rate in RATES
    },
    **{key: Variant(control, key) for key, control in CONTROLS.items()},
}


# --- what makes the runs -------------------------------------------------------------------------


def ladder(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Each variant, early and marked: it may learn one and not the other, so each has its grid."""
    cells = {(one.task, one.placement): [(one.task, one.placement)] for one in SETTINGS}
    return protocol(records, [*MIXERS.values()], TO_FAR, cells)


def equal_rates() -> Sequence[AnySpec]:
    """What the ladder lacks of five seeds at the rate that was not chosen."""
    return [
        MIXERS[key].spec(**cell("recite", placement, *TO_FAR), seed=seed, learning_rate=rate)
        for placement, asked in ASIDE.items()
        for key, rate in asked.items()
        for seed in SEEDS[1:]
    ]


def controls() -> Sequence[AnySpec]:
    """The two controls on early rules, as the ladder runs its variants."""
    return [
        one.spec(**cell(EARLY.task, EARLY.placement, *TO_FAR), seed=seed, learning_rate=GATE_RATE)
        for one in mixer_specs(",".join(CONTROLS.values()))
        for seed in SEEDS
    ]


# --- tables --------------------------------------------------------------------------------------


def beside(key: str) -> str | None:
    """Which one it changes; None of the first."""
    return BESIDE.get(key, ORDER[ORDER.index(key) - 1])


def gain(key: str, over: str | None, setting: TaskSetting) -> Callable[[Rows], Summary | None]:
    """What one keeps more than another at 16,384 tokens; None where one of both is not run."""

    def gained(rows: Rows) -> Summary | None:
        known = over and all(rows.row(one, setting, *AT_FAR) for one in (key, over))
        return rows.more(key, str(over), setting, *AT_FAR) if known else None

    return gained


def short(rows: Rows) -> str:
    """Retention at 16,384 tokens of both placements."""
    head = ["", "what a variant changes", *(f"{one.placement} rules" for one in SETTINGS)]
    body = [[key, NAMES[key], *(rows.text(key, one, *AT_FAR) for one in SETTINGS)] for key in ORDER]
    return markdown_table(head, body)


GAINS = Family(
    lambda rows: {
        f"{key} − {beside(key)}: {one.name}": gained
        for one in SETTINGS
        for key in ORDER
        if (gained := gain(key, beside(key), one)(rows))
    }
)
# What a gate sees, and how fast it moves.
OF_GATES = Family(
    lambda rows: {
        f"{GATES[one][0]} − {GATES[other][0]}": rows.more(one, other, EARLY, *AT_FAR)
        for one, other in (("scaled", SIX), ("slowed", SIX), (SEVEN, SIX), ("scaled", "slowed"))
    }
)


def long(setting: TaskSetting) -> Callable[[Rows], str]:
    """A placement at every length, with rates and gains; what is not run is left out."""

    def table(rows: Rows) -> str:
        head = ["", setting.name, *(f"{length:,} tokens" for length in LENGTHS)]
        head += [f"exact at {FAR:,}", "rate", f"gain at {FAR:,}", "over"]
        body = []
        for key in ORDER:
            group = rows.cell(key, setting)
            if group is None:
                continue
            cells = [rows.text(key, setting, "retention", length) for length in LENGTHS]
            gained = gain(key, beside(key), setting)(rows)
            over = [gained.text(), str(beside(key))] if gained else [NONE, NONE]
            exact = rows.text(key, setting, "exact", FAR)
            body.append([key, NAMES[key], *cells, exact, f"{group.rate:g}", *over])
        return markdown_table(head, body)

    return table


def at_equal_rates(rows: Rows) -> str:
    """Both placements at either rate, and what a change gains there."""
    head = ["recite", "variant", "rate", *(f"{length:,} tokens" for length in LENGTHS)]
    head += [f"seeds 1 to 5 at {FAR:,}", "gain over the one before, same rate"]
    body = []
    for setting in SETTINGS:
        for rate in RATES:
            before = None
            for key in ASIDE[setting.placement]:
                one = f"{key} at {rate:g}"
                cells = [rows.text(one, setting, "retention", length) for length in LENGTHS]
                gained = gain(one, before, setting)(rows)
                cells.append(rows.known(one, setting, *AT_FAR).each_seed)
                cells.append(gained.text() if gained else NONE)
                body.append([setting.placement, key, f"{rate:g}", *cells])
                before = one
    return markdown_table(head, body)


def of_controls(rows: Rows) -> str:
    """What a gate sees without how fast it moves, the reverse, both, and none."""
    head = ["tokens seen", "a step moves it", EARLY.name]
    head += [*(f"{length:,} tokens" for length in LENGTHS), f"seeds 1 to 5 at {FAR:,}"]
    head.append(f"gain at {FAR:,} over 6")
    body = []
    for key, (name, *has) in GATES.items():
        cells = [rows.text(key, EARLY, "retention", length) for length in LENGTHS]
        cells.append(rows.known(key, EARLY, *AT_FAR).each_seed)
        gained = NONE if key == SIX else rows.more(key, SIX, EARLY, *AT_FAR).text()
        body.append([*has, name, *cells, gained])
    return markdown_table(head, body)


def drawn(rows: Rows) -> bytes:
    """A panel a placement: each variant at every length."""
    panels = {
        f"{one.task}, {one.placement} rules": [rows.cell(key, one) for key in ORDER]
        for one in SETTINGS
    }
    return as_bytes(
        SHARED.strips(panels, [f"{NAMES[key]}  {key}" for key in ORDER], LENGTHS), "png"
    )


# --- single runs that are explained --------------------------------------------------------------


def explained(folder: str) -> list[tuple[Record, Explanation]]:
    """The runs of a folder that `rulekeep explain` has read."""
    explanations = of_kind(kept_beside(RESULTS / folder, []), Explanation, [])
    found = {one.run: one for one in explanations}
    runs = whole_runs(RESULTS / folder)
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


# --- claims --------------------------------------------------------------------------------------


def lowest(keys: str, setting: TaskSetting) -> Callable[[Rows], float]:
    """The lowest seed of several at 16,384 tokens, rounded down."""
    return lambda rows: floored(
        min(rows.known(key, setting, *AT_FAR).lowest for key in keys.split())
    )


def shown(rows: Rows) -> list[str]:
    """The changes that are shown to gain."""
    return [name for name, one in GAINS.tested(rows).items() if one.is_shown]


OWN = ("3", "4", "5", "6")
CLAIMS = {
    # Early rules: a gate that sees eight tokens.
    "eight_tokens": Claim(
        more("7", "6", EARLY, *AT_FAR), minimum=0, holds=lambda rows: not shown(rows)
    ),
    "own_token": Claim(
        lambda rows: Span.of(rows.known(key, EARLY, *AT_FAR).mean for key in OWN), 2
    ),
    "eight_tokens_lowest": Claim(lowest("7", EARLY)),
    "zeros": GAINS.not_shown(f"7a − 7: {EARLY.name}", reverse=True),
    "tested": Claim(lambda rows: len(GAINS.tested(rows)), 0),
    # Marked rules: the penalty too.
    "eight_tokens_marked": Claim(mean("7", MARKED, *AT_FAR)),
    "penalty": Claim(more("9", "8", MARKED, *AT_FAR), minimum=0),
    "penalty_lowest": Claim(lowest("9 10 12", MARKED), minimum=0.98),
    "both_low_rate": Claim(more("9 at 0.003", "7 at 0.003", MARKED, *AT_FAR), minimum=0),
    "both_high_rate": Claim(more("9 at 0.01", "7 at 0.01", MARKED, *AT_FAR)),
    "both_better_rates": Claim(more("9 at 0.003", "7 at 0.01", MARKED, *AT_FAR)),
    # What a gate sees, and how fast it moves.
    "both_gain": OF_GATES.shown("variant 7 − variant 6"),
    "scaled_gain": OF_GATES.not_shown("scaled gate − variant 6"),
    "slowed_gain": OF_GATES.not_shown("slowed gate − variant 6"),
    "scaled_slowed": OF_GATES.not_shown("scaled gate − slowed gate"),
    # Single runs.
    "delta_found": Claim(lambda _: one_run("delta").probes[-1].places[-1].found.mean),
    "delta_said": Claim(lambda _: one_run("delta").probes[-1].said.mean),
    "own_token_open": Claim(open_at_fillers("variant 6")),
    "eight_tokens_open": Claim(open_at_fillers("variant 7")),
}

STUDY = Study(
    question="Which change from the article's slots to our memory keeps rules, and how?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=SHORT,
    sweeps={
        "catalogue": Sweep("ladder"),
        "ladder-rates": Sweep("equal_rates"),
        "gate-controls": Sweep("controls"),
    },
    families={"a change of the ladder": GAINS, "sight and speed": OF_GATES},
    tables={
        "short": short,
        **{one.placement: long(one) for one in SETTINGS},
        "equal-rates": at_equal_rates,
        "controls": of_controls,
        "lost": lost,
        "open": open_gates,
    },
    figures={"ladder.png": drawn},
    claims=CLAIMS,
)
