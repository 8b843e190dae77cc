"""The tables of a report of runs, out of the table of runs, its groups and their ranking."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rulekeep.analysis.groups import Group, Rates, against_attention
from rulekeep.analysis.ranking import Ranked, Ranking
from rulekeep.analysis.summary import (
    RATE_RULE,
    Summary,
    TriedRate,
    learned_share,
    summarise,
    summarise_scores,
)
from rulekeep.analysis.table import Run
from rulekeep.printable import name, one_line
from rulekeep.records.figures import SCORES
from rulekeep.records.record import PARTS
from rulekeep.reporting.tables import (
    MISSING_CELL,
    Cell,
    Table,
    Value,
    cell,
    csv_lines,
    mean_cell,
    number_cell,
    seeds_cell,
    signed,
    words,
)

# More task settings have no column of their own.
_MOST_TASKS = 8
UNDEFINED = "not defined"
# More are in the CSV: K may be 64.
_MOST_PARTS = 8
# Scores without an interval.
_BRIEF = {"rule": "rule_accuracy", "item": "item_accuracy", "loss (nats)": "val_loss"}
_CSV_HEADER = (
    "table", "task", "mixer", "trained_at", "tested_at", "learning_rate", "figure", "mean",
    "deviation", "low_95", "high_95", "seeds", "diverged", "few_seeds", "note",
)  # fmt: skip
# Of the scores and costs in records, those in the CSV.
_IN_CSV = {
    *SCORES, "val_loss", "intrusion_rate", "state_bytes", "decode_ms_per_token", "train_seconds",
    "steps_to_solve", "tokens_per_second", "peak_memory_bytes", "parameters",
}  # fmt: skip


def ranked(ranking: Ranking) -> Table:
    """The answer: every variant, the user's own first, then by what it keeps."""
    tasks = [one.task for one in ranking.settings]
    rows = [_ranked(row, ranking, tasks) for row in ranking.rows]
    known = {row.label for row in ranking.rows}
    every = dict.fromkeys(label for one in ranking.settings for label in one.untested)
    untested = [label for label in every if label not in known]
    own = (n for n, row in enumerate(ranking.rows) if row.group.is_own)
    said = words("ranking", ranking=ranking, untested=untested)
    return Table.of("ranking", rows, said, own=own)


def _ranked(row: Ranked, ranking: Ranking, tasks: Sequence[str]) -> dict[str, Value]:
    whole, is_placed = row.retention, row.place is not None
    partly = f"{whole.mean or 0:.3f} ({len(row.by_task)} of {len(tasks)} settings)"
    diverged = Cell("diverged", -math.inf)
    return {
        "#": row.place,
        "variant": f"{row.label} (yours)" if row.group.is_own else row.label,
        "state (bytes)": number_cell(row.costs["state_bytes"], 0),
        "retention": whole if is_placed else Cell(partly, whole.mean),
        **({"corrected": row.kept if is_placed else None} if ranking.is_corrected else {}),
        "lowest seed": diverged if math.isnan(row.lowest) else row.lowest,
        f"against {ranking.baseline or 'attention'}": signed(row.difference),
        "training (s)": number_cell(row.costs["train_seconds"], 1),
        "decode (ms/token)": row.costs["decode_ms_per_token"],
        "parameters": number_cell(row.costs["parameters"], 0),
        "seeds": seeds_cell(row.kept.seeds),
        **{task: row.by_task.get(task) for task in tasks if 1 < len(tasks) <= _MOST_TASKS},
    }


def of_groups(groups: Sequence[Group]) -> list[Table]:
    """What each variant scored, what that is worth, what it cost, and at which learning rate."""
    return [make(groups) for make in (scores, corrected, parts, costs, learning_rates)]


def scores(groups: Sequence[Group]) -> Table:
    """Every cell: its scores with intervals, and the difference to the baseline."""
    rows: list[dict[str, Value]] = []
    for group in groups:
        for test in group.test_contexts:
            rival = against_attention(group, groups, "retention", test)
            undefined = group.is_undefined(test)
            briefs = ((title, group.summary(figure, test)) for title, figure in _BRIEF.items())
            rows.append(
                {
                    **_place(group),
                    "tested at": test,
                    "retention": UNDEFINED if undefined else group.summary("retention", test),
                    "chance": group.chance("retention", test),
                    "learned": _learned([*group.by_seed("retention", test).values()]),
                    "against attention": signed(rival[1]) if rival else None,
                    "which": rival[0].label if rival else None,
                    "exact": group.summary("exact", test),
                    # One that diverged in all seeds says so.
                    **{
                        title: one if one is None or one.mean is None else one.mean
                        for title, one in briefs
                    },
                    "intrusions": _intrusions(group, test),
                    "seeds": None
                    if undefined
                    else seeds_cell(len(group.finite("retention", test))),
                }
            )
    return Table.of("scores", rows)


def corrected(groups: Iterable[Group]) -> Table:
    """Every score of every cell, 0 at chance and 1 where all is right."""
    rows = (
        {
            **place,
            **{one.title: _beside_chance(group, figure, test) for figure, one in SCORES.items()},
            "seeds": seeds_cell(len(group.by_seed("retention", test, "corrected"))),
        }
        for group, test, place in _tested(groups)
    )
    return Table.of("corrected", rows)


def parts(groups: Iterable[Group]) -> Table:
    """Retention of every cell by output step, by rule position and by kind of rule."""
    heads = dict(zip(("by output step", "by rule position", "by kind"), PARTS, strict=True))
    rows: list[dict[str, Value]] = []
    for group, test, place in _tested(groups):
        shown = {head: _by_part(group, part, test) for head, part in heads.items()}
        if any(shown.values()):
            seeds = seeds_cell(len(group.finite("retention", test)))
            rows.append({**place, **shown, "seeds": seeds})
    return Table.of("parts", rows)


def costs(groups: Iterable[Group]) -> Table:
    """What a mixer costs: time, memory, state."""
    rows: list[dict[str, Value]] = []
    for group in groups:
        defined = (test for test in group.test_contexts if not group.is_undefined(test))
        longest = max(defined, default=group.context)
        seconds = group.cost("train_seconds")
        taken = summarise([*seconds.values()]) if seconds else None
        rows.append(
            {
                **_place(group),
                "training (s)": cell(taken, 1),
                "steps to solve": _solved(group, len(seconds)),
                "tokens/s": mean_cell(group.cost("tokens_per_second"), 0),
                "peak (MiB)": mean_cell(group.cost("peak_memory_bytes"), 1, 2**20),
                "parameters": mean_cell(group.cost("parameters"), 0),
                "context": longest,
                "state (bytes)": mean_cell(group.cost("state_bytes", longest), 0),
                "decode (ms/token)": mean_cell(group.cost("decode_ms_per_token", longest), 3),
                "seeds": seeds_cell(len(seconds)),
            }
        )
    return Table.of("costs", rows)


def learning_rates(groups: Iterable[Group]) -> Table:
    """The whole grid of learning rates of every mixer, a line a rate."""
    rows: list[dict[str, Value]] = []
    for group in groups:
        rates = group.rates
        grid = {} if rates.choice is None else {one.rate: one for one in rates.choice.grid}
        for rate, runs in rates.runs.items():
            tried = grid.get(rate, TriedRate(rate, (), None))
            diverged = sum(not math.isfinite(loss) for loss in tried.losses)
            lost = f"{diverged} of {len(tried.losses)} diverged"
            rows.append(
                {
                    "task": group.task,
                    "variant": group.label,
                    "trained at": group.context,
                    "rate": Cell(f"{rate:g}", rate),
                    "retention": tried.scores and tried.scores.retention,
                    "exact": tried.scores and tried.scores.exact,
                    "loss (nats a token)": Cell(lost, math.inf)
                    if tried.losses and tried.mean is None
                    else tried.mean,
                    "seeds compared": seeds_cell(rates.seeds),
                    "runs": runs,
                    "choice": verdict(rates, rate),
                }
            )
    return Table.of("learning-rates", rows, words("learning_rates", rule=RATE_RULE))


def verdict(rates: Rates, rate: float) -> str:
    """What came of a rate in the choice; nothing for one that was tried and not chosen."""
    choice = rates.choice
    if choice is None:
        return f"not chosen: {rates.problem}"
    if choice.rate is None:
        return "every rate diverged"
    if rates.rate != choice.rate and rate in (rates.rate, choice.rate):
        return "shown: most runs" if rate == rates.rate else "what the rule says of these runs"
    if rate != choice.rate:
        return ""
    if choice.edge == "only":
        return "the only rate run"
    if choice.edge is None:
        return "chosen"
    return f"chosen, the {choice.edge} of its grid: {choice.extension:g} may be better"


def failures(runs: Iterable[Run]) -> Table:
    """Runs that gave no whole result, and why."""
    rows = (
        {
            "status": run.record.status,
            **_place_of(run),
            "reason": one_line(run.record.reason) or "no reason recorded",
            "run": run.record.id,
        }
        for run in sorted(runs, key=lambda run: run.record.status)
        if run.record.status != "done"
    )
    return Table.of("failures", rows)


def every_run(runs: Iterable[Run]) -> Table:
    """A line a run."""
    rows: list[dict[str, Value]] = []
    for run in runs:
        record = run.record
        tests = {one.context: one.figures for one in record.tests()}
        versions = (f"{name(key, '?')} {str(one)[:8]}" for key, one in record.versions.items())
        rows.append(
            {
                **_place_of(run),
                "status": record.status,
                "retention": tests.get(run.context, {}).get("retention"),
                "training (s)": number_cell(record.costs.get("train_seconds"), 1),
                "versions": ", ".join(versions),
                "source": record.source[:12],
                "run": record.id,
            }
        )
    return Table.of("runs", rows)


def environments(runs: Iterable[Run]) -> Table:
    """The machines and versions the runs were made with, one line each."""
    counts = Counter(tuple(sorted(run.record.environment.items())) for run in runs)
    keys = dict.fromkeys(key for items in counts for key, _ in items)
    rows = (
        {**dict.fromkeys(keys), **dict(items), "runs": count}
        for items, count in counts.most_common()
    )
    return Table.of("environment", rows)


def csv_text(groups: Sequence[Group]) -> str:
    """Every figure of every cell on a line of its own, unrounded."""
    return csv_lines(_CSV_HEADER, _lines(groups))


def _lines(groups: Sequence[Group]) -> Iterable[list[object]]:
    for group in groups:
        place = [group.task, group.label, group.first.trained_at]
        for (table, figure, test), by_seed in group.values.items():
            if table not in ("scores", "costs") or figure in _IN_CSV:
                is_share = table == "parts" or (table == "scores" and figure in SCORES)
                summary = (summarise_scores if is_share else summarise)([*by_seed.values()])
                yield [table, *place, test, group.rate, figure, *_statistics(summary), ""]
        for test in group.test_contexts:
            if (rival := against_attention(group, groups, "retention", test)) is not None:
                note = f"retention minus that of {rival[0].label}, paired by seed"
                here = [*place, test, group.rate, "retention", *_statistics(rival[1]), note]
                yield ["differences", *here]
        for tried in group.rates.choice.grid if group.rates.choice else ():
            here = [group.task, group.label, group.context, None, tried.rate, "dev_loss"]
            values = _statistics(summarise(tried.losses))
            yield ["learning_rates", *here, *values, verdict(group.rates, tried.rate)]


def _statistics(summary: Summary) -> list[object]:
    few = "yes" if summary.few else "no"
    return [*summary[:4], summary.seeds, summary.diverged, few]


def _place(group: Group) -> dict[str, Value]:
    return {"task": group.task, "variant": group.label, "trained at": group.first.trained_at}


def _place_of(run: Run) -> dict[str, Value]:
    """What a run is of."""
    rate = Cell(f"{run.rate:g}", run.rate) if run.rate else None
    place = {"task": run.task, "variant": run.label, "trained at": run.trained_at}
    return {**place, "seed": run.seed, "rate": rate}


def _tested(groups: Iterable[Group]) -> Iterator[tuple[Group, int, dict[str, Value]]]:
    """Each group at each length that a seed was tested at, to its end or not; and its place."""
    for group in groups:
        tests = (one.context for run in group.runs.values() for one in run.record.tests())
        for test in sorted({*tests}):
            yield group, test, {**_place(group), "tested at": test}


def _learned(retentions: Sequence[float]) -> Cell | None:
    if not retentions:
        return None
    share, seeds = learned_share(retentions), len(retentions)
    learned = round(share.mean * seeds)
    return Cell(f"{learned} of {seeds} ({share.low:.2f} to {share.high:.2f})", share.mean)


def _solved(group: Group, seeds: int) -> Cell | None:
    if not seeds:
        return None
    steps = group.cost("steps_to_solve")
    mean = mean_cell(steps, 0)
    # Never solved sorts last.
    value = math.inf if mean.value is None else mean.value
    return Cell(f"{mean.text} ({len(steps)} of {seeds})", value)


def _intrusions(group: Group, test: int) -> Cell:
    rate = mean_cell(group.finite("intrusion_rate", test), 3)
    if rate == MISSING_CELL:
        return rate
    chance = mean_cell(group.by_seed("intrusion_rate", test, "chance"), 3)
    return Cell(f"{rate.text} (chance {chance.text})", rate.value)


def _beside_chance(group: Group, figure: str, test: int) -> Cell:
    shown = mean_cell(group.by_seed(figure, test, "corrected"), 3)
    level = group.chance(figure, test)
    if shown == MISSING_CELL or level is None:
        return shown
    return shown._replace(text=f"{shown.text} ({level:.3f})")


def _by_part(group: Group, part: str, test: int) -> str | None:
    """Mean retention and chance of each step, position or kind, over the seeds that have it."""
    start = f"retention, {part} "
    shown = [
        f"{figure.removeprefix(start)}: {mean_cell(by_seed, 3).text} "
        f"({mean_cell(group.by_seed(figure, test, 'chance'), 3).text})"
        for (table, figure, tested), by_seed in group.values.items()
        if table == "parts" and tested == test and figure.startswith(start)
    ]
    if len(shown) > _MOST_PARTS:
        shown = [*shown[:_MOST_PARTS], f"… {len(shown)} in all"]
    return "; ".join(shown) or None
