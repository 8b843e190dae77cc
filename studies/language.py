"""Rules in words: which ones does a small language model follow when its context is compressed?

    rulekeep language --model SmolLM2-135M-Instruct --out results/language …    # a cell a record
    python studies/language.py SmolLM2-135M-Instruct       # which tokens evictions keep
    rulekeep study language build|check

SmolLM2-135M-Instruct, four-bit weights. *Retention* is the share of rules followed. *Binding* is
retention where every option was mentioned too, the rule's own as well. Fills
docs/language-findings.md, and the former form of mentions in docs/changes-of-method.md.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import Rows, Span
from rulekeep.analysis.summary import Interval
from rulekeep.language import compressions
from rulekeep.language.calibration import Judged, keys_of, name_of
from rulekeep.language.cells import RIVALS_ALONE, mentions_of
from rulekeep.language.figures import Followed, cell, without_rules
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.records.record import Choice
from rulekeep.records.store import packed_values, write_text
from rulekeep.study import Claim, Study

if TYPE_CHECKING:
    from rulekeep.language.models import ChatModel

WHOLE, NOT_RUN = "none", "not run"
# Tokens of chat at which the context is compressed.
SHORT, MIDDLE = 128, 512
WORD, RULE = "word", "instruction"
MENTIONS = {"none": "no mention", WORD: "options as words", RULE: "options as rules"}
# Cells of before: rivals alone are mentioned, and the rule's own option is not.
FORMER = {f"{WORD}{RIVALS_ALONE}": "rivals as words", f"{RULE}{RIVALS_ALONE}": "rivals as rules"}
EVICTIONS = {name: known.shown for name, known in compressions.EVICTIONS.items()}
SHARES = (0.5, 0.25, 0.1)
ROUNDINGS = {name: known.shown for name, known in compressions.ROUNDINGS.items()}
BITS = (4, 2)
TEXTS = {name: known.shown for name, known in compressions.COMPACTORS.items()}

# Which tokens are kept: the share of the cache, prompts, and where it is recorded.
LEAST, PROMPTS = 0.1, 60
KEPT = Path(__file__).parent.parent / "results" / "language-tokens" / "kept.json"


class Place(NamedTuple):
    """A cell: how far the rules are, what is mentioned, and how they are stated."""

    distance: int
    mentions: str = "none"
    control: str = "none"
    placement: str = "start"
    rules: int = 4


Cells = Mapping[Place, Mapping[str, Followed]]


@cache
def cells(rows: Rows) -> Cells:
    """Every compression of each cell, and the bytes of its cache."""
    found: dict[Place, dict[str, Followed]] = {}
    for record in rows.records:
        if record.choices and record.spec.families:
            of = found.setdefault(place(record), {})
            for name, one in cell(record).items():
                # The whole cache is scored beside each set of compressions: most prompts count.
                if name not in of or of[name].prompts < one.prompts:
                    of[name] = one
    return dict(sorted(found.items()))


def place(record: Record) -> Place:
    """The cell of a record."""
    asked = record.spec.rest
    return Place(
        int(str(asked["distance"])), mentions_of(record), str(asked["control"]),
        str(asked["placement"]), int(str(asked["rules_at_once"])),
    )  # fmt: skip


def tokens_read(rows: Rows) -> Mapping[Place, float]:
    """Tokens of a whole conversation in each cell, its rules and mentions too."""
    return {
        place(record): record.costs["tokens_per_prompt"]
        for record in rows.records
        if record.choices and record.spec.families
    }


def bytes_of(rows: Rows, mentions: str) -> Mapping[str, float]:
    """Bytes of each compressed cache at 512 tokens."""
    found: dict[str, float] = {}
    for record in rows.records:
        if record.spec.families and place(record) == Place(MIDDLE, mentions):
            found |= record.cache_bytes
    return found


# --- tables and figures --------------------------------------------------------------------------


def retention(found: Cells, at: Place, name: str = WHOLE) -> str:
    """A cell of a table."""
    one = found.get(at, {}).get(name)
    return NOT_RUN if one is None else one.retention.text()


def by_distance(rows: Rows, kinds: Mapping[str, str] = MENTIONS) -> str:
    """Retention without compression, by tokens of chat and kind of mention."""
    found = cells(rows)
    distances = sorted({at.distance for at in found if at == Place(at.distance, at.mentions)})
    body = [
        [f"{distance:,}", *(retention(found, Place(distance, kind)) for kind in kinds)]
        for distance in distances
    ]
    return markdown_table(["tokens of chat", *kinds.values()], body)


def by_former_distance(rows: Rows) -> str:
    """The same where rivals alone are mentioned."""
    return by_distance(rows, FORMER)


def by_unit(rows: Rows, kinds: Mapping[str, str] = MENTIONS) -> str:
    """What prompts and what families say, and the floors, at 512 tokens of chat."""
    found, body = cells(rows), []
    for kind, shown in kinds.items():
        one = found.get(Place(MIDDLE, kind), {}).get(WHOLE)
        if one is not None:
            floor = (
                f"about {former_floor(rows, kind):.2f}"
                if kind in FORMER
                else retention(found, Place(MIDDLE, kind, "no_rules"))
            )
            body.append([shown, one.retention.text(), one.over_families.text(), floor])
    head = ["mentions", "over prompts", "over families", "without the rule"]
    return markdown_table(head, body)


def by_former_unit(rows: Rows) -> str:
    """The same where rivals alone are mentioned."""
    return by_unit(rows, FORMER)


def former_floor(rows: Rows, kind: str) -> float:
    """What rivals that are mentioned leave to a rule's option that is neither stated nor mentioned.

    Its score is what it has in the same prompt without mentions, less its gain there. So its level
    is that of a text without mentions: that is its bias.
    """
    mentioned, plain = (of_cell(rows, Place(MIDDLE, one)) for one in (kind, "none"))
    keys = keys_of([*mentioned, *plain])
    once = np.ones((1, len(keys)))
    known = Judged(plain, keys)
    missing = {
        name_of(rule): rule.scores[rule.option] - gain
        for rule, gain in zip(known.rules, known.right(once)[1], strict=True)
    }
    unstated = []
    for row in mentioned:
        if name_of(row) in missing:
            scores = [*row.scores]
            # A fit leaves out what is stated: no other score changes by what is put there.
            scores[row.option] = missing[name_of(row)]
            unstated.append(row._replace(scores=tuple(scores)))
    return float(np.nanmean(Judged(unstated, keys).right(once)[0]))


def of_cell(rows: Rows, at: Place) -> list[Choice]:
    """What the test rules of a cell's largest record score, nothing compressed."""
    records = [one for one in rows.records if one.spec.families and place(one) == at]
    largest = max(records, key=lambda one: int(str(one.spec.rest["prompts"])))
    return [
        row for row in largest.choices
        if (row.compress, row.how, row.split) == (WHOLE, "obeyed", "test")
    ]  # fmt: skip


def by_eviction(rows: Rows) -> str:
    """Retention and binding at 512 tokens of chat, by eviction and share kept."""
    found = cells(rows)
    body = [["the whole cache", "all", *both(found, WHOLE)]]
    for name, shown in EVICTIONS.items():
        body += [[shown, f"{share:.0%}", *both(found, f"{name}@{share}")] for share in SHARES]
    for name, shown in ROUNDINGS.items():
        body += [[shown, f"{bits} bits", *both(found, f"{name}@{bits}bit")] for bits in BITS]
    return markdown_table(["cache", "kept", "retention", "binding"], body)


GUARDS = {"": "none", "ends": "both ends", "fair": "fair to rules", "rules": "rules (oracle)"}
GUARDED = ("snapkv", "tova", "h2o", "streaming_llm")


def guarded(name: str, guard: str) -> str:
    """A quarter kept, under a guard."""
    return f"{name}+{guard}@0.25" if guard else f"{name}@0.25"


def by_guard(rows: Rows) -> str:
    """A quarter of the cache kept at 512 tokens of chat, by guard."""
    found = cells(rows)
    middle = Place(MIDDLE, placement="middle")
    body = [
        [
            EVICTIONS[name],
            shown,
            *both(found, guarded(name, guard)),
            retention(found, middle, guarded(name, guard)),
        ]
        for name in GUARDED
        for guard, shown in GUARDS.items()
    ]
    head = ["eviction", "guard", "retention", "binding", "retention, rules in the middle"]
    return markdown_table(head, body)


def both(found: Cells, name: str) -> list[str]:
    """Retention, and with every option mentioned."""
    return [retention(found, Place(MIDDLE, kind), name) for kind in ("none", WORD)]


def by_text(rows: Rows) -> str:
    """Shortened text: rules stored, said and obeyed."""
    found = cells(rows)
    body = []
    names = [(WHOLE, "the whole text", "all")]
    names += [
        (f"{name}@{share}", shown, f"{share:.0%}")
        for name, shown in TEXTS.items()
        for share in SHARES
        if f"{name}@{share}" in found.get(Place(MIDDLE), {})
    ]
    for name, shown, kept in names:
        plain = found[Place(MIDDLE)][name]
        stored, said = (
            "–" if one is None else one.text() for one in (plain.stored, plain.said)
        )  # fmt: skip
        body.append([shown, kept, stored, said, *both(found, name)])
    return markdown_table(["text", "kept", "stored", "said", "obeyed", "binding"], body)


def by_count(rows: Rows) -> str:
    """How many rules at once, and where they stand; without compression, at 512 tokens."""
    found = cells(rows)
    ways = [Place(MIDDLE, rules=count) for count in (2, 4, 8)]
    ways.append(Place(MIDDLE, placement="middle"))
    body = []
    for at in ways:
        name = f"{at.rules} rules at the {at.placement}"
        texts = [retention(found, at._replace(mentions=kind)) for kind in ("none", WORD)]
        whole = found.get(at, {}).get(WHOLE)
        body.append([name, *texts, NOT_RUN if whole is None else whole.all_rules.text()])
    return markdown_table(["rules", "retention", "binding", "all rules of a prompt"], body)


def by_control(rows: Rows) -> str:
    """Without rules, and with a rival stated in place of the rule."""
    found = cells(rows)
    body = [
        [
            {"no_rules": "no rules", "swapped": "a rival as the rule"}[at.control],
            f"{at.distance:,}",
            MENTIONS[at.mentions],
            of[WHOLE].retention.text(),
            f"{of[WHOLE].chance:.3f}",
            at_chance(rows, at) if at.control == "no_rules" else "",
        ]
        for at, of in sorted(found.items(), key=lambda one: (one[0].control, one[0]))
        if at.control != "none" and at.mentions in MENTIONS and WHOLE in of
    ]
    head = ["control", "tokens of chat", "mentions", "retention", "chance", "families at chance"]
    return markdown_table(head, body)


def at_chance(rows: Rows, at: Place) -> str:
    """How many families a reader without rules does not beat chance on, of how many."""
    _, *families = without_rules(cells(rows)[at][WHOLE])
    return f"{sum(one.is_at_chance for one in families)} of {len(families)}"


def by_family(rows: Rows) -> str:
    """Each family without compression: without chat, and after 512 tokens."""
    found = cells(rows)
    ways = (Place(0), Place(MIDDLE), Place(MIDDLE, WORD))
    near, far, bound = (found[at][WHOLE].by_family for at in ways)
    order = sorted(near, key=lambda name: (-bound.get(name, 0.0), name))
    body = [
        [f"`{name}`", *(f"{of.get(name, 0.0):.2f}" for of in (near, far, bound))] for name in order
    ]
    return markdown_table(["family", "no chat", f"{MIDDLE} tokens", "binding"], body)


# Tokens left of 256, of attention trained on `recite`.
SMALL = {0.5: 128, 0.25: 64}
SMALL_NAMES = {**EVICTIONS, "expected_attention": None}


def side_by_side(rows: Rows) -> str:
    """The same evictions on a small trained attention, and here."""
    found, small = cells(rows), small_attention()
    body = [
        [
            shown,
            *(f"{small[shown, SMALL[share]]:.3f}" for share in SMALL),
            *(retention(found, Place(MIDDLE, WORD), f"{name}@{share}") for share in SMALL),
        ]
        for name, shown in SMALL_NAMES.items()
        if shown is not None
    ]
    head = [
        f"{who}, {share:.0%}" for who in ("small attention", "language model") for share in SMALL
    ]
    return markdown_table(["eviction", *head], body)


def small_attention() -> Mapping[tuple[str, int], float]:
    """Mean retention of early rules at 256 tokens, by eviction and tokens left (study kv_cache).

    Of two attentions with five seeds each, by rotary positions and by a convolution.
    """
    scores: dict[tuple[str, int], list[float]] = {}
    for one in packed_values(Path(__file__).parent.parent / "results" / "evictions", []):
        if one["placement"] != "early" or one["kind"] != "evictions":
            continue
        for at, name, amount, kept, _ in one["rows"]:
            if at == 256:
                scores.setdefault((name, amount), []).append(kept)
    return {key: sum(of) / len(of) for key, of in scores.items()}


@cache
def tokens_kept() -> Mapping[str, Mapping[str, float]]:
    """The share of each kind of token that is kept, by eviction."""
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    return {one["eviction"]: one for one in found["rows"]}


def by_token(rows: Rows) -> str:
    """Which tokens evictions keep, a tenth of the cache kept: options, mentions, chat."""
    del rows
    parts = {
        "options": "the rule's option", "own": "its mention", "rivals": "mentions of rivals",
        "chat": "the chat",
    }  # fmt: skip
    body = [
        [EVICTIONS[name], *(f"{shares[part]:.2f}" for part in parts)]
        for name, shares in tokens_kept().items()
    ]
    return markdown_table(["eviction", *parts.values()], body)


def over_distance(rows: Rows) -> bytes:
    """Rules followed over the tokens read, a line for each kind of mention."""
    found, tokens = cells(rows), tokens_read(rows)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for colour, (kind, name) in zip(COLOURS, MENTIONS.items(), strict=False):
        points = [
            (tokens[at], of[WHOLE].retention)
            for at, of in found.items()
            if at == Place(at.distance, kind) and WHOLE in of
        ]
        draw(axes, points, name, colour)
    axes.axhline(0.25, color="0.6", linewidth=1, linestyle=":")
    ticks = [64, 128, 256, 512, 1024, 2048, 4096]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{one:,}" for one in ticks])
    axes.set(xlabel="tokens read: rules, mentions, chat", ylabel="rules followed", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9)
    return as_bytes(figure, "svg")


def over_bytes(rows: Rows) -> bytes:
    """Binding over the bytes of the cache: a line an eviction or rounding."""
    found, sizes = cells(rows)[Place(MIDDLE, WORD)], bytes_of(rows, WORD)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    groups = [
        (name, shown, [f"{name}@{one}" for one in SHARES]) for name, shown in EVICTIONS.items()
    ]
    groups += [
        (name, f"{shown}, {BITS[0]} and {BITS[1]} bits", [f"{name}@{one}bit" for one in BITS])
        for name, shown in ROUNDINGS.items()
    ]
    colours = [*COLOURS, "#000000", "#8a8a8a", "#8b5a2b"]
    for colour, (name, shown, ways) in zip(colours, groups, strict=True):
        points = [(sizes[way] / 2**20, found[way].retention) for way in ways if way in found]
        draw(axes, points, shown, colour, dashed=name in ROUNDINGS)
    axes.axhline(found[WHOLE].retention.mean, color="black", linewidth=1, linestyle="--")
    axes.axhline(0.25, color="0.6", linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    ticks = [1, 2, 4, 8, 16]
    axes.set_xticks(ticks, [str(one) for one in ticks])
    axes.set(xlabel="MiB of cache", ylabel="binding", ylim=(0, 1.02))
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return as_bytes(figure, "svg")


def draw(
    axes: Axes, points: Iterable[tuple[float, Interval]], name: str, colour: str, *,
    dashed: bool = False,
) -> None:  # fmt: skip
    """A line through means, with intervals."""
    every = sorted(points)
    if every:
        at, of = zip(*every, strict=True)
        ends = [[abs(getattr(one, end) - one.mean) for one in of] for end in ("low", "high")]
        axes.errorbar(
            at, [one.mean for one in of], ends, label=name, color=colour, marker="o", markersize=4,
            capsize=2, linewidth=1.2, linestyle="--" if dashed else "-",
        )  # fmt: skip


# --- claims --------------------------------------------------------------------------------------


def kept(name: str = WHOLE, kind: str = "none", distance: int = MIDDLE) -> Callable[[Rows], float]:
    """Mean retention in a cell."""
    return lambda rows: cells(rows)[Place(distance, kind)][name].retention.mean


def change(name: str, *, loses: bool) -> Claim:
    """The difference from the whole cache, paired by prompt: whether a loss is shown."""

    def found(rows: Rows) -> Interval:
        by = cells(rows)[Place(MIDDLE)][name].difference
        assert by is not None, name
        return by

    return Claim(
        lambda rows: found(rows).text(), holds=lambda rows: (found(rows).high < 0) == loses
    )


def families(name: str) -> Callable[[Rows], Span]:
    """The least and the most retention of a family."""
    return lambda rows: Span.of(cells(rows)[Place(MIDDLE)][name].by_family.values())


def middle(name: str) -> Callable[[Rows], float]:
    """Mean retention where the rules stand in the middle of the chat."""
    return lambda rows: cells(rows)[Place(MIDDLE, placement="middle")][name].retention.mean


def whole_prompts(rules: int) -> Callable[[Rows], float]:
    """The share of prompts that have all their rules followed, nothing compressed."""
    return lambda rows: cells(rows)[Place(MIDDLE, rules=rules)][WHOLE].all_rules.mean


def stored(name: str) -> Callable[[Rows], float]:
    """The share of rules whose option is left in shortened text."""

    def found(rows: Rows) -> float:
        shares = cells(rows)[Place(MIDDLE)][name].stored
        assert shares is not None
        return shares.mean

    return found


def said(kind: str = "none", distance: int = MIDDLE) -> Callable[[Rows], float]:
    """The share of rules given back, nothing compressed."""

    def found(rows: Rows) -> float:
        shares = cells(rows)[Place(distance, kind)][WHOLE].said
        assert shares is not None
        return shares.mean

    return found


def orders_agree(share: float) -> Callable[[Rows], float]:
    """Spearman's rank correlation of evictions by retention with them by binding."""

    def found(rows: Rows) -> float:
        plain, bound = (
            [kept(f"{name}@{share}", kind)(rows) for name in EVICTIONS] for kind in ("none", WORD)
        )
        return float(spearmanr(plain, bound).statistic)

    return found


def spread(names: Sequence[str], kind: str) -> Callable[[Rows], Span]:
    """The least and the most of several compressions."""
    return lambda rows: Span.of(kept(name, kind)(rows) for name in names)


def costs_more(rows: Rows) -> bool:
    """Whether a short text with mentions is followed less than a longer one without."""
    found, tokens = cells(rows), tokens_read(rows)
    short, longer = Place(SHORT, WORD), Place(1024)
    estimates = found[short][WHOLE].retention, found[longer][WHOLE].retention
    return tokens[short] < tokens[longer] and estimates[0].high < estimates[1].mean


def at_floor(rows: Rows) -> bool:
    """Whether StreamingLLM binds as a model without the rules does."""
    found = [cells(rows)[Place(MIDDLE, WORD)][f"streaming_llm@{share}"] for share in SHARES]
    return all(bound.retention.low < bound.chance < bound.retention.high for bound in found)


CLAIMS: dict[str, Claim] = {
    "near": Claim(kept(distance=0), 2, 0.8),
    # A text with mentions, and a longer one without.
    "short_bound": Claim(kept(kind=WORD, distance=SHORT), 2, holds=costs_more),
    "longer": Claim(kept(distance=1024), 2),
    "short_said": Claim(said(WORD, SHORT), 2, minimum=0.9),
    "mention_tokens": Claim(
        lambda rows: tokens_read(rows)[Place(0, WORD)] - tokens_read(rows)[Place(0)], 0
    ),
    "every_word": Claim(kept(kind="word"), 2, minimum=0.4),
    "every_rule": Claim(
        kept(kind="instruction"),
        2,
        holds=lambda rows: cells(rows)[Place(MIDDLE, "instruction")][WHOLE].retention.low > 0.25,
    ),
    "every_rule_said": Claim(said("instruction"), 2),
    "plain": Claim(kept(), 2),
    "orders": Claim(orders_agree(0.25), 2, minimum=0.7),
    "knorm": Claim(kept("knorm@0.1"), 2),
    "knorm_bound": Claim(kept("knorm@0.1", WORD), 2),
    "knorm_option": Claim(lambda _: tokens_kept()["knorm"]["options"], 2),
    "knorm_own": Claim(lambda _: tokens_kept()["knorm"]["own"], 2),
    "knorm_rivals": Claim(lambda _: tokens_kept()["knorm"]["rivals"], 2),
    "streaming_bound": Claim(kept("streaming_llm@0.25", WORD), 2, holds=at_floor),
    "h2o": Claim(kept("h2o@0.25"), 2),
    "h2o_bound": Claim(kept("h2o@0.25", WORD), 2),
    "random_bound": Claim(kept("random@0.25", WORD), 2),
    "four_bits": Claim(kept("kivi@4bit"), 2),
    "four_bits_token_more": change("per_token@4bit", loses=False),
    "two_bits": Claim(kept("kivi@2bit"), 2),
    "two_bits_token": Claim(kept("per_token@2bit"), 2),
    "snapkv": Claim(kept("snapkv@0.25"), 2),
    "snapkv_ends": Claim(kept("snapkv+ends@0.25"), 2),
    "snapkv_fair": Claim(kept("snapkv+fair@0.25"), 2),
    "ends_text": Claim(kept("keep_ends@0.25"), 2),
    "ends_text_bound": Claim(kept("keep_ends@0.25", WORD), 2),
    "unstored_most": Claim(
        lambda rows: max(
            kept(f"{name}@{share}")(rows)
            for name in ("keep_last", "extract")
            for share in (0.5, 0.25, 0.1)
        ),
        2,
        maximum=0.4,
    ),
    "extract_bound": Claim(kept("extract@0.25", WORD), 2, minimum=0.45),
    "two_whole": Claim(whole_prompts(2), 2),
    "eight_whole": Claim(whole_prompts(8), 2),
    "summary": Claim(kept("summary@0.25"), 2),
    "summary_stored": Claim(stored("summary@0.25"), 2),
    "ends_middle": Claim(middle("snapkv+ends@0.25"), 2),
    "plain_middle": Claim(middle("snapkv@0.25"), 2),
    "token_prompts": Claim(lambda _: str(PROMPTS)),
    # Beside what others found.
    "knorm_half_more": change("knorm@0.5", loses=False),
    "two_bits_more": change("kivi@2bit", loses=True),
    "four_bits_more": change("kivi@4bit", loses=False),
    "h2o_families": Claim(families("h2o@0.25"), 2),
    "families": Claim(families(WHOLE), 2),
    "snapkv_rules": Claim(kept("snapkv+rules@0.25"), 2, minimum=0.7),
    "drift": Claim(kept(distance=2048), 2, maximum=0.6),
    "far": Claim(kept(distance=4096), 2),
    "far_bound": Claim(kept(kind=WORD, distance=4096), 2),
    "far_rule": Claim(kept(kind=RULE, distance=2048), 2, maximum=0.3),
}


# --- measuring -----------------------------------------------------------------------------------


def mentioned(model: "ChatModel", read: str, options: Iterable[str]) -> list[int]:
    """Where the tokens of options stand that are mentioned as words."""
    each = (model.places(read, [option], lead='I read "') for option in options)
    return [at for places in each for at in places[0]]


def measure(place: str) -> None:
    """Which tokens each eviction keeps, a mean over layers, heads and prompts, into a file."""
    import torch

    from rulekeep.language.chat import converse
    from rulekeep.language.families import read_families
    from rulekeep.language.models import load_model
    from rulekeep.running.building import environment, prepare_process
    from rulekeep.specs import LanguageSpec

    prepare_process(1)
    model, families = load_model(place), read_families("")
    spec = LanguageSpec.parse(
        model=Path(place).name, distance=MIDDLE, mentions="word", prompts=PROMPTS
    )
    shares: dict[str, dict[str, list[float]]] = {name: {} for name in EVICTIONS}
    for number in range(PROMPTS):
        said = converse(families, spec, "test", number, model.tokens_of)
        read = model.opened(said.messages, [*EVICTIONS])
        stated = [one for one in said.asked if one.option is not None]
        options = [families[one.family].options[one.option] for one in stated]
        rivals = [
            option
            for one in stated
            for at, option in enumerate(families[one.family].options)
            if at != one.option
        ]
        parts = {
            "options": [at for places in model.places(read.head, options) for at in places],
            "own": mentioned(model, read.head, options),
            "rivals": mentioned(model, read.head, rivals),
            "chat": [*range(len(model.tokens(model.text(said.messages[:1]))), read.tokens)],
        }
        for name, each in shares.items():
            scores = torch.stack(read.seen[name])
            best = scores.topk(int(read.tokens * LEAST), dim=-1).indices
            left = torch.zeros_like(scores).scatter(-1, best, 1.0)
            for part, places in parts.items():
                each.setdefault(part, []).append(float(left[..., places].mean()))
    rows = [
        {"eviction": name, **{part: round(sum(of) / len(of), 4) for part, of in each.items()}}
        for name, each in shares.items()
    ]
    values = {
        "model": spec.model, "share": LEAST, "distance": MIDDLE, "prompts": PROMPTS,
        "environment": environment(), "rows": rows,
    }  # fmt: skip
    write_text(KEPT, json.dumps(values, indent=1) + "\n")


STUDY = Study(
    question="Which rules in words does a small language model follow, its context compressed?",
    variants={},
    settings=[],
    context=MIDDLE,
    reads=["language", "language-mentions"],
    tables={
        "distance": by_distance,
        "units": by_unit,
        "former-distance": by_former_distance,
        "former-units": by_former_unit,
        "evictions": by_eviction,
        "guards": by_guard,
        "tokens": by_token,
        "texts": by_text,
        "counts": by_count,
        "controls": by_control,
        "families": by_family,
        "small": side_by_side,
    },
    figures={"distance.svg": over_distance, "bytes.svg": over_bytes},
    claims=CLAIMS,
)

if __name__ == "__main__":
    measure(sys.argv[1])
