"""The ladder: which change from the article's slots to our memory keeps early, weak rules?

    rulekeep study ladder run|build|check

`recite`, early and marked rules, trained at 256 tokens at most for 1,000 steps, each variant at the
rate that the validation set chose. Retention at 16,384 tokens; what a change gains is paired by
seed. Beside the ladder stand the changes at equal rates. Fills docs/evidence.md.
"""

from collections.abc import Callable, Sequence

from rulekeep.analysis.cells import Group
from rulekeep.analysis.plots import Strip, as_bytes, strips
from rulekeep.analysis.rows import NOT_RUN, Rows, Span, TaskSetting, Variant, floored
from rulekeep.analysis.summary import Summary
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import AnySpec, mixer_specs, written
from rulekeep.study import Claim, Study, Sweep, not_shown
from rulekeep.sweeps.presets import CATALOGUE_LENGTH, SEEDS, cell, protocol

SHORT, LONG, FAR = LENGTHS = (256, 4096, 16384)
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


def mixer(key: str) -> str:
    """As a sweep reads it."""
    one = MIXERS[key]
    return written(one.mixer, {**one.options, **one.settings})


VARIANTS = {
    **{key: Variant(mixer(key), f"{key} {NAMES[key]}", of_grid(key)) for key in ORDER},
    **{
        f"{key} at {rate:g}": Variant(mixer(key), key, at(rate))
        for key in dict.fromkeys(key for asked in ASIDE.values() for key in asked)
        for rate in RATES
    },
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


# --- tables --------------------------------------------------------------------------------------


def beside(key: str) -> str | None:
    """Which one it changes; None of the first."""
    return BESIDE.get(key, ORDER[ORDER.index(key) - 1])


def gain(key: str, over: str | None, setting: TaskSetting) -> Callable[[Rows], Summary | None]:
    """What one keeps more than another at 16,384 tokens; None where one of both is not run."""

    def more(rows: Rows) -> Summary | None:
        known = over and all(rows.row(one, setting, "retention", FAR) for one in (key, over))
        return rows.more(key, str(over), setting, "retention", FAR) if known else None

    return more


def short(rows: Rows) -> str:
    """Retention at 16,384 tokens of both placements."""
    head = ["", "what a variant changes", *(f"{one.placement} rules" for one in SETTINGS)]
    body = [
        [key, NAMES[key], *(rows.text(key, one, "retention", FAR) for one in SETTINGS)]
        for key in ORDER
    ]
    return markdown_table(head, body)


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


def each_seed(rows: Rows, key: str, setting: TaskSetting) -> str:
    """What each seed keeps at 16,384 tokens, in their order."""
    found = rows.known(key, setting, "retention", FAR).seeds
    return ", ".join(f"{kept:.3f}" for _, kept in sorted(found.items()))


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
                cells += [each_seed(rows, one, setting), gained.text() if gained else NONE]
                body.append([setting.placement, key, f"{rate:g}", *cells])
                before = one
    return markdown_table(head, body)


def drawn(rows: Rows) -> bytes:
    """A panel a placement: each variant at every length."""

    def strip(group: Group | None) -> Strip | str:
        if group is None:
            return NOT_RUN
        return Strip(
            {length: group.by_seed("retention", length) for length in LENGTHS},
            {length: group.summary("retention", length) for length in LENGTHS},
            round(group.chance("retention", LONG) or 0.0, 3),
        )

    panels = {
        f"{one.task}, {one.placement} rules": [strip(rows.cell(key, one)) for key in ORDER]
        for one in SETTINGS
    }
    return as_bytes(strips(panels, [f"{NAMES[key]}  {key}" for key in ORDER], LENGTHS), "png")


# --- claims --------------------------------------------------------------------------------------


def more(key: str, over: str, setting: TaskSetting) -> Callable[[Rows], Summary]:
    """What one keeps more than another at 16,384 tokens, paired by seed."""
    return lambda rows: rows.more(key, over, setting, "retention", FAR)


def summary(key: str, setting: TaskSetting) -> Callable[[Rows], Summary]:
    """What one keeps at 16,384 tokens."""
    return lambda rows: rows.known(key, setting, "retention", FAR).summary


def lowest(keys: str, setting: TaskSetting) -> Callable[[Rows], float]:
    """The lowest seed of several at 16,384 tokens, rounded down."""
    return lambda rows: floored(
        min(rows.known(key, setting, "retention", FAR).lowest for key in keys.split())
    )


def shown_early(rows: Rows) -> list[str]:
    """Whose gain on early rules has an interval above 0."""
    gains = {key: gain(key, beside(key), EARLY)(rows) for key in ORDER}
    return [key for key, one in gains.items() if one is not None and one.low > 0]


OWN = ("3", "4", "5", "6")
CLAIMS = {
    # Early rules: a gate that sees eight tokens.
    "eight_tokens": Claim(
        more("7", "6", EARLY), minimum=0, holds=lambda rows: shown_early(rows) == ["7"]
    ),
    "own_token": Claim(
        lambda rows: Span.of(rows.known(key, EARLY, "retention", FAR).mean for key in OWN), 2
    ),
    "eight_tokens_lowest": Claim(lowest("7", EARLY)),
    "zeros": not_shown(more("7", "7a", EARLY)),
    # Marked rules: the penalty too.
    "eight_tokens_marked": Claim(lambda rows: summary("7", MARKED)(rows).mean or 0.0),
    "penalty": Claim(more("9", "8", MARKED), minimum=0),
    "penalty_lowest": Claim(lowest("9 10 12", MARKED), minimum=0.98),
    "both_low_rate": Claim(more("9 at 0.003", "7 at 0.003", MARKED), minimum=0),
    "both_high_rate": not_shown(more("9 at 0.01", "7 at 0.01", MARKED)),
    "both_better_rates": not_shown(more("9 at 0.003", "7 at 0.01", MARKED)),
}

STUDY = Study(
    question="Which change from the article's slots to our memory keeps early, weak rules?",
    variants=VARIANTS,
    settings=SETTINGS,
    context=SHORT,
    sweeps={
        "catalogue": Sweep("ladder"),
        "ladder-rates": Sweep("equal_rates"),
    },
    tables={
        "short": short,
        **{one.placement: long(one) for one in SETTINGS},
        "equal-rates": at_equal_rates,
    },
    figures={"ladder.png": drawn},
    claims=CLAIMS,
)
