"""The catalogue: every published mixer beside attention, at equal parameters and at 16 KiB a layer.

    rulekeep study catalogue run|build|check

Retention of `recite` with early rules and of `override` with marked ones. Training takes 1,000
steps at 256 tokens at most, at the rate that the validation set chose on the first, with seed 1.
Then four mixers with 1 to 64 KiB of state a layer. Fills docs/evidence.md.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.groups import Group
from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import (
    Rows,
    TaskSetting,
    Variant,
    mean,
    more,
    pivot,
    state_kib,
    text_of,
)
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.registry import load_file
from rulekeep.specs import AnySpec, MixerSpec, mixer_specs, written
from rulekeep.study import Claim, Family, Study, Sweep
from rulekeep.sweeps.presets import (
    CATALOGUE,
    CATALOGUE_LENGTH,
    RECITE_AND_OVERRIDE,
    catalogue,
    protocol,
)

SHARED = load_file(Path(__file__).with_name("shared.py"))

SHORT, MIDDLE, LONG, FAR = 256, 1028, 4096, 16384
LENGTHS = (SHORT, MIDDLE, LONG)
RECITE, OVERRIDE = SETTINGS = [TaskSetting("recite", "early"), TaskSetting("override", "marked")]
KIB, NEAR_ENOUGH = 16, 0.05
# What gives a state its size.
SIZING = ("heads", "key_width", "slots", "window")
SIZES = (1, 4, 16, 64)
# 16 KiB of state a layer as well, within five per cent; two heads, where a head's keys give the
# width. The gates of lstm and gru cannot be had so wide for so few parameters.
CATALOGUE_16_KIB = mixer_specs(
    "sliding_window[positions=rotary,window=28],slots[slots=64,hidden=224],"
    "linear_attention[heads=2,key_width=62,hidden=200],"
    "retnet[heads=2,key_width=64,output_gate=true,hidden=160],"
    "ssd[heads=2,key_width=56,output_gate=true,short_convolution=true,hidden=224],"
    "ssd[heads=2,key_width=64,hidden=256],"
    "gated_linear[heads=2,key_width=64,output_gate=true,hidden=136],"
    "delta[heads=2,key_width=52,short_convolution=true,hidden=208],"
    "delta[heads=2,key_width=64,hidden=192],"
    "gated_delta[heads=2,key_width=52,output_gate=true,short_convolution=true,hidden=176],"
    "gated_delta[heads=2,key_width=64,hidden=192],"
    "kda[heads=2,key_width=52,output_gate=true,short_convolution=true,hidden=136],"
    "kda[heads=2,key_width=64,hidden=144],gated_slots[slots=32,hidden=192],"
    "routed_slots[slots=32,hidden=192],"
    "delta+sliding_window[delta.heads=2,delta.key_width=64,sliding_window.positions=rotary,"
    "sliding_window.window=28,hidden=224],"
    "sparse_delta[short_convolution=false,heads=2,key_width=64,hidden=192],"
    "sparse_delta[short_convolution=false,heads=2,key_width=64,hidden=192,added_positions=earliness]"
)
# From 1 to 64 KiB of state a layer, within five per cent of attention's parameters; a head more or
# less where they would not fit. Those of 4 and 16 KiB are the catalogue's too.
STATE_BYTES = mixer_specs(
    "sliding_window[positions=rotary,window=1,sinks=1],"
    "sliding_window[positions=rotary,window=4],"
    "sliding_window[positions=rotary,window=28],"
    "sliding_window[positions=rotary,window=124],"
    "delta[key_width=4,hidden=304],delta,delta[heads=2,key_width=64,hidden=192],"
    "delta[heads=1,key_width=256,hidden=64],"
    "routed_slots[slots=2,top_k=1,hidden=248],routed_slots[slots=8,hidden=240],"
    "routed_slots[slots=32,hidden=192],routed_slots[slots=128,heads=2,hidden=128],"
    "sparse_delta[short_convolution=false,key_width=4,hidden=288,added_positions=earliness],"
    "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness],"
    "sparse_delta[short_convolution=false,heads=2,key_width=64,hidden=192,added_positions=earliness],"
    "sparse_delta[short_convolution=false,heads=1,key_width=256,hidden=64,added_positions=earliness]"
)


def name_of(one: MixerSpec, *, sized: bool = True) -> str:
    """As a user asks for it, but for the feed-forward layers, which make parameters equal.

    Without what gives its state a size, if not `sized`.
    """
    asked = {**one.options, **one.settings}
    left_out = {"hidden", *(() if sized else SIZING)}
    # Of a hybrid an option has its mixer's name before it.
    kept = {name: value for name, value in asked.items() if name.split(".")[-1] not in left_out}
    return written(one.mixer, kept)


def variants(mixers: Sequence[MixerSpec]) -> dict[str, Variant]:
    """Each by its name."""
    return {name_of(one): Variant(one.text, name_of(one)) for one in mixers}


EQUAL, SIZED = [*variants(CATALOGUE)], [*variants(CATALOGUE_16_KIB)]
BYTES = {mixer: [name_of(one) for one in STATE_BYTES if one.mixer == mixer]
         for mixer in dict.fromkeys(one.mixer for one in STATE_BYTES)}  # fmt: skip
# The form at 16 KiB of what can be had so.
AT_16_KIB = {name_of(one, sized=False): name_of(one) for one in CATALOGUE_16_KIB}
OURS = "sparse_delta[short_convolution=false,added_positions=earliness]"
OURS_16 = AT_16_KIB[OURS]
# The penalty of our memory as a part of others: without it, and with it.
PENALTY = "gate_penalty=0.001"
CONVOLVED, GATED_DELTA = "delta[short_convolution=true]", "gated_delta"
GATED = "gated_slots"
PENALISED = {
    CONVOLVED: f"delta[short_convolution=true,{PENALTY},hidden=248]",
    GATED_DELTA: f"gated_delta[{PENALTY}]",
}
WITH_PENALTY = {
    free: name_of(one)
    for free, one in zip(PENALISED, mixer_specs(",".join(PENALISED.values())), strict=True)
}


# Our memory as it is by default.
DEFAULT = "sparse_delta"
# With the start that every other mixer has which decays.
LSTM, GRU = "lstm[half_life_tokens=1024]", "gru[half_life_tokens=1024]"


# --- tables --------------------------------------------------------------------------------------


def kib(group: Group) -> float:
    """State a layer after 1,028 tokens: one that grows is given there."""
    return state_kib(group, MIDDLE)


def kept(group: Group, length: int) -> float:
    """What a group keeps at a length: groups are ranked by it."""
    found = group.summary("retention", length)
    return -1.0 if found is None or found.mean is None else found.mean


def ranked(rows: Rows, names: Sequence[str], setting: TaskSetting, length: int) -> list[Group]:
    """Who is run in full, what keeps most first."""
    found = rows.cells(setting, names)
    return sorted(found, key=lambda group: (-kept(group, length), group.label))


def long(
    setting: TaskSetting, names: Sequence[str], size: int | None = None
) -> Callable[[Rows], str]:
    """A task setting with costs and rates, what keeps most first; of another size below, marked."""

    def table(rows: Rows) -> str:
        groups = ranked(rows, names, setting, MIDDLE)
        far = [g.label for g in groups if size and abs(kib(g) / size - 1) > NEAR_ENOUGH]
        title = setting.name + (f", {size} KiB a layer" if size else "")
        head = [
            title,
            "parameters",
            f"KiB at {MIDDLE}",
            "rate",
            *(f"{at} tokens" for at in LENGTHS),
        ]
        body = []
        for group in sorted(groups, key=lambda group: group.label in far):
            cells = [text_of(group.summary("retention", at)) for at in LENGTHS]
            (parameters,) = {*group.cost("parameters").values()}
            mark = " †" if group.label in far else ""
            costs = [f"{parameters:,.0f}", f"{kib(group):,.1f}", f"{group.rate:.3g}"]
            body.append([group.label + mark, *costs, *cells])
        return markdown_table(head, body)

    return table


def by_bytes(rows: Rows) -> str:
    """Four mixers at four sizes of state: retention of `recite`'s early rules at 4,096 tokens."""
    return pivot(
        f"{RECITE.name}, {LONG} tokens",
        {f"{size} KiB a layer": place for place, size in enumerate(SIZES)},
        BYTES,
        lambda place, names: rows.text(names[place], RECITE, "retention", LONG),
    )


def by_penalty(rows: Rows) -> str:
    """Mixers of others without the penalty of our memory and with it, and what they gain."""
    head = ["without it → with it: gain", "figure", "rates", *(f"{at:,} tokens" for at in LENGTHS)]
    body = []
    for setting in SETTINGS:
        for both in WITH_PENALTY.items():
            rates = " → ".join(f"{rows.group(one, setting).rate:.3g}" for one in both)
            for figure in ("retention", "exact"):
                cells = [gain_by_penalty(rows, *both, setting, figure, at) for at in LENGTHS]
                body.append([f"{both[0]}: {setting.name}", figure, rates, *cells])
    return markdown_table(head, body)


def gain_by_penalty(
    rows: Rows, free: str, penalised: str, setting: TaskSetting, figure: str, at: int
) -> str:
    """The mean without the penalty, the mean with it, and the difference with its interval."""
    before, after = (rows.known(one, setting, figure, at).mean for one in (free, penalised))
    gain = rows.more(penalised, free, setting, figure, at).text(3)
    return f"{before:.3f} → {after:.3f}: {gain}"


# --- figures -------------------------------------------------------------------------------------


def drawn(rows: Rows) -> bytes:
    """A panel a task setting, and one at 16 KiB: each mixer at every length."""
    names = [group.label for group in ranked(rows, EQUAL, RECITE, LONG)]
    panels: Mapping[str, Sequence[Group | str | None]] = {
        f"{one.task}, {one.placement} rules": [rows.cell(name, one) for name in names]
        for one in SETTINGS
    } | {
        f"{RECITE.task}, {RECITE.placement} rules, {KIB} KiB a layer": [
            rows.cell(AT_16_KIB[name], RECITE) if name in AT_16_KIB
            else f"not at {KIB} KiB"
            for name in names
        ]
    }  # fmt: skip
    return as_bytes(SHARED.strips(panels, names, LENGTHS), "png")


def drawn_by_bytes(rows: Rows) -> bytes:
    """A line a mixer through the means, a bar an interval, a point a seed."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, ((mixer, names), colour) in enumerate(zip(BYTES.items(), COLOURS, strict=False)):
        groups = rows.cells(RECITE, names)
        # A little apart, so that one does not hide the other.
        x = [kib(group) * 1.05 ** (place - 1.5) for group in groups]
        for at, group in zip(x, groups, strict=True):
            values = [*group.by_seed("retention", LONG).values()]
            axes.plot([at] * len(values), values, ".", color=colour, alpha=0.4)
            summary = group.summary("retention", LONG)
            axes.plot([at, at], [summary.low, summary.high], color=colour, linewidth=1.2)
        axes.plot(x, [kept(group, LONG) for group in groups], "o-", color=colour, label=mixer)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [f"{size}" for size in SIZES])
    axes.set(
        xlabel="KiB of state a layer", ylabel=f"retention at {LONG:,} tokens", ylim=(-0.02, 1.02)
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return as_bytes(figure, "png")


# --- claims --------------------------------------------------------------------------------------

AT_LONG = ("retention", LONG)
# More than these our memory is not shown to keep of early rules, at equal parameters.
NOT_SHOWN = {GATED, CONVOLVED, GATED_DELTA, "kda", "delta", LSTM, GRU}
NOT_SHOWN |= {"linear_attention", "kda[output_gate=true,short_convolution=true]"}
# The same of revised ones, at 16 KiB.
UNDECIDED_16 = {AT_16_KIB[GATED_DELTA], AT_16_KIB["kda"], LSTM}
# The table of 16 KiB has these too, at their own size.
BESIDE_SIZED = [*SIZED, LSTM, GRU]


def best_other(rows: Rows, names: Sequence[str], setting: TaskSetting) -> str:
    """Of all but our memory the one that keeps most at 4,096 tokens."""
    return ranked(rows, others(rows, names, setting), setting, LONG)[0].label


def others(rows: Rows, names: Sequence[str], setting: TaskSetting) -> list[str]:
    """Who of these is run beside our memory."""
    cells = rows.cells(setting, names)
    return [cell.label for cell in cells if cell.first.mixer != "sparse_delta"]


def beside(ours: str, names: Sequence[str]) -> Family:
    """Our memory beside each other, on both task settings at 4,096 tokens."""
    return Family(
        lambda rows: {
            f"{name}: {setting.name}": rows.more(ours, name, setting, *AT_LONG)
            for setting in SETTINGS
            for name in others(rows, names, setting)
        }
    )


BESIDE_EQUAL, BESIDE_16_KIB = beside(OURS, EQUAL), beside(OURS_16, BESIDE_SIZED)
# With the penalty more than without it; and our memory more than `delta` with it.
OF_PENALTY = Family(
    lambda rows: {
        f"{after} − {free}: {one.name}": rows.more(after, free, one, *AT_LONG)
        for after, free in [*((b, a) for a, b in WITH_PENALTY.items()), OURS_AND_DELTA]
        for one in SETTINGS
    }
)
OURS_AND_DELTA = (DEFAULT, WITH_PENALTY[CONVOLVED])
BY_BYTES = Family(
    lambda rows: {
        f"{SMALLEST} − {name}": rows.more(SMALLEST, name, RECITE, *AT_LONG)
        for name in BYTES["delta"]
    }
)
SMALLEST = BYTES["sparse_delta"][0]


def undecided(rows: Rows, family: Family, setting: TaskSetting) -> set[str]:
    """The others that our memory is not shown to keep more than at 4,096 tokens."""
    return {
        key.removesuffix(f": {setting.name}")
        for key, one in family.tested(rows).items()
        if key.endswith(setting.name) and not one.is_shown
    }


CLAIMS = {
    # Early rules at equal parameters.
    "gated_slots_mean": Claim(
        mean(GATED, RECITE, *AT_LONG),
        holds=lambda rows: best_other(rows, EQUAL, RECITE) == GATED,
    ),
    "gated_slots_far": Claim(
        lambda rows: rows.known(GATED, RECITE, "retention", FAR).summary,
        holds=lambda rows: round(kib(rows.cell(GATED, RECITE)) / kib(rows.cell(OURS, RECITE))) == 2,
    ),
    "ours_gated_slots_4096": BESIDE_EQUAL.not_shown(f"{GATED}: {RECITE.name}"),
    # Described: at 16,384 tokens few others were tested.
    "ours_gated_slots_16384": Claim(more(OURS, GATED, RECITE, "retention", FAR)),
    "equal_not_shown": Claim(
        lambda rows: len(undecided(rows, BESIDE_EQUAL, RECITE)),
        0,
        holds=lambda rows: undecided(rows, BESIDE_EQUAL, RECITE) == NOT_SHOWN,
    ),
    "default_lowest": Claim(
        lambda rows: rows.known(DEFAULT, RECITE, "retention", LONG).lowest, maximum=0.9
    ),
    # Revised rules at 16 KiB a layer.
    "override_16_more": Claim(
        more(OURS_16, AT_16_KIB[CONVOLVED], OVERRIDE, *AT_LONG),
        holds=lambda rows: best_other(rows, SIZED, OVERRIDE) == AT_16_KIB[CONVOLVED],
    ),
    "override_16_others": Claim(
        lambda rows: len(others(rows, BESIDE_SIZED, OVERRIDE)),
        0,
        holds=lambda rows: undecided(rows, BESIDE_16_KIB, OVERRIDE) == UNDECIDED_16,
    ),
    # The penalty as a part of others.
    **{
        f"penalty_{said}": claim(f"{WITH_PENALTY[free]} − {free}: {one.name}")
        for said, claim, free, one in (
            ("gain", OF_PENALTY.shown, CONVOLVED, OVERRIDE),
            ("early", OF_PENALTY.not_shown, CONVOLVED, RECITE),
            ("gated", OF_PENALTY.not_shown, GATED_DELTA, OVERRIDE),
            ("gated_early", OF_PENALTY.not_shown, GATED_DELTA, RECITE),
        )
    },
    "penalty_exact": Claim(
        more(WITH_PENALTY[CONVOLVED], CONVOLVED, OVERRIDE, "exact", MIDDLE), maximum=0
    ),
    **{
        f"penalty_{said}": claim(f"{DEFAULT} − {WITH_PENALTY[CONVOLVED]}: {one.name}")
        for said, claim, one in (
            ("ours", OF_PENALTY.shown, OVERRIDE),
            ("ours_early", OF_PENALTY.not_shown, RECITE),
        )
    },
    # What more steps change (studies/rivals.py).
    "gated_delta_early": Claim(mean(GATED_DELTA, RECITE, *AT_LONG)),
    "delta_early": Claim(mean(CONVOLVED, RECITE, *AT_LONG)),
    # By bytes of state.
    **{
        f"bytes_delta_{size}": BY_BYTES.not_shown(f"{SMALLEST} − {name}")
        for size, name in zip(SIZES[2:], BYTES["delta"][2:], strict=True)
    },
}


def catalogue_16_kib(records: Sequence[Record]) -> Sequence[AnySpec]:
    """The catalogue at 16 KiB of state a layer, except mixers that cannot be so large."""
    return protocol(records, CATALOGUE_16_KIB, CATALOGUE_LENGTH, RECITE_AND_OVERRIDE)


def state_bytes(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Four mixers at 1, 4, 16 and 64 KiB of state a layer: recite early."""
    cells = {("recite", "early"): [("recite", "early")]}
    return protocol(records, STATE_BYTES, CATALOGUE_LENGTH, cells)


def penalised(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Mixers of others with the penalty of our memory."""
    return catalogue(records, mixers=mixer_specs(",".join(PENALISED.values())))


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """All runs of the catalogue's folder but the ladder's."""
    made = catalogue, penalised, catalogue_16_kib, state_bytes
    return [spec for make in made for spec in make(records)]


STUDY = Study(
    question="Which published mixers keep early, weak rules at equal parameters or bytes of state?",
    variants=variants([*CATALOGUE, *CATALOGUE_16_KIB, *STATE_BYTES])
    | {name: Variant(PENALISED[free], name) for free, name in WITH_PENALTY.items()},
    settings=SETTINGS,
    context=SHORT,
    sweeps={"catalogue": Sweep("sweep")},
    families={
        f"{OURS} beside others, at equal parameters": BESIDE_EQUAL,
        f"{OURS} beside others, at {KIB} KiB a layer": BESIDE_16_KIB,
        "our penalty": OF_PENALTY,
        "by bytes": BY_BYTES,
    },
    tables={
        **{one.task: long(one, EQUAL) for one in SETTINGS},
        **{
            f"{one.task}-16-kib": long(one, [*BESIDE_SIZED, "lstm", "gru"], KIB) for one in SETTINGS
        },
        "bytes": by_bytes,
        "penalty": by_penalty,
    },
    claims=CLAIMS,
    figures={"catalogue.png": drawn, "state-bytes.png": drawn_by_bytes},
)
