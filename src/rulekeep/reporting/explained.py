"""Where rules are lost: tables, figures and a sentence a run, out of records of `rulekeep explain`.

A record is shown under the name that its run has in the report; one without a run is left out.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rulekeep.analysis.charts import Chart, Panel, Point, Series, capped, styles
from rulekeep.analysis.runs import Run
from rulekeep.analysis.summary import Interval
from rulekeep.explain.record import GATE, Explanation, Probed, Trace
from rulekeep.printable import one_line
from rulekeep.records.record import name
from rulekeep.reporting.tables import MISSING, Cell, Table
from rulekeep.reporting.words import words

_STEPS = {
    "capture": "never written",
    "body": "lost in the body",
    "readout": "in the state before the answer, and not said",
}
_NAMES = {"capture": "capture", "body": "body", "readout": "read-out"}
_RULE = "rule"
# From this ratio on a log axis has several ticks.
_WIDE = 8


class Explained(NamedTuple):
    """A run and where it loses its rules."""

    run: Run
    explanation: Explanation


def explained(
    runs: Sequence[Run], explanations: Sequence[Explanation]
) -> tuple[list[Explained], list[str]]:
    """Explanations beside their runs, in the runs' order; and a line for each without one."""
    by_run = {one.run: one for one in explanations}
    found, shown = [], set[str]()
    for run in runs:
        # Of a model that was trained twice, for other tests, the one that there is.
        own = [by_run[one] for one in (run.record.id, *run.record.twins) if one in by_run]
        found += [Explained(run, one) for one in own[:1]]
        shown |= {one.run for one in own}
    lost = [f"explanation of {name(run, '(no run)')}: its run is not shown, left out"
            for run in by_run if run not in shown]  # fmt: skip
    return found, lost


def sentences(found: Sequence[Explained]) -> list[str]:
    """What each run loses, and at which step, at each context."""
    several = len(found) > 1
    return [
        one_line(f"{_title(one.run)}: {_verdict(probed)}" if several else _verdict(probed), 600)
        for one in found
        for probed in one.explanation.probes
    ]


def charts(found: Sequence[Explained]) -> list[Chart]:
    """What a probe finds from the rules to the answer, and what each kind of token changes."""
    return [capped(_probes(found)), capped(_traces(found))]


def tables(found: Sequence[Explained], *, placed: bool = True) -> list[Table]:
    """What is lost at each step, and what each kind of token changes.

    `placed` says of each row which run it is of.
    """
    places = [_place(one.run) if placed else {} for one in found]
    return [_lost(found, places), _writes(found, places)]


def _verdict(probed: Probed) -> str:
    said = probed.said
    lost = _by_size(probed)
    named = ", ".join(f"{part.mean:.3f} {_STEPS[step]}" for step, part in lost.items())
    verdict = f"of all above chance {named}" if lost else "nothing is lost that a probe can tell"
    return (
        f"at {probed.context:,} tokens a probe finds {probed.places[0].found.mean:.3f} of the "
        f"rules right after them and {probed.places[-1].found.mean:.3f} before the answer "
        f"(chance {probed.chance:.3f}), and the model says {said.mean:.3f} "
        f"(chance {probed.said_chance:.3f}): {verdict}."
    )


def _by_size(probed: Probed) -> dict[str, Interval]:
    """The steps that lose something, beyond their intervals, the worst first."""
    parts: dict[str, Interval] = {step: getattr(probed.lost, step) for step in _STEPS}
    lost = [step for step, part in parts.items() if part.low > 0]
    return {step: parts[step] for step in sorted(lost, key=lambda step: -parts[step].mean)}


def _lost(found: Sequence[Explained], places: Sequence[dict[str, Cell]]) -> Table:
    rows = [
        {
            **place,
            "read at": Cell(f"{probed.context:,}", probed.context),
            "most lost at": Cell(next((_NAMES[step] for step in _by_size(probed)), MISSING)),
            "after the rules": _share(probed.places[0].found),
            "before the answer": _share(probed.places[-1].found),
            "said": _share(probed.said),
            "chance": Cell(f"{probed.chance:.3f}, {probed.said_chance:.3f}"),
            **{
                f"lost: {named}": _difference(getattr(probed.lost, step))
                for step, named in _NAMES.items()
            },
        }
        for one, place in zip(found, places, strict=True)
        for probed in one.explanation.probes
    ]
    return Table.of("lost", *words("lost"), rows)


def _writes(found: Sequence[Explained], places: Sequence[dict[str, Cell]]) -> Table:
    rows = [
        {
            **place,
            "layer": Cell(str(trace.layer), trace.layer),
            "what": Cell(_part(trace)),
            "token": Cell(name(trace.kind, "(no name)")),
            "tokens": Cell(f"{trace.n:,}", trace.n),
            "mean": Cell(f"{trace.mean:.4f}", trace.mean),
            "zeros": Cell(f"{trace.zeros:.3f}", trace.zeros),
            "of one gate": _widest(trace),
        }
        for one, place in zip(found, places, strict=True)
        for trace in _every(one)
    ]
    return Table.of("writes", *words("writes"), rows)


def _probes(found: Sequence[Explained]) -> Chart:
    contexts = sorted({probed.context for one in found for probed in one.explanation.probes})
    look = styles([str(context) for context in contexts], [])
    panels = []
    for one in found:
        series = []
        for probed in one.explanation.probes:
            style = look[str(probed.context)]
            points = [
                Point(place.share, place.found.mean, place.found.low, place.found.high)
                for place in probed.places
            ]
            series.append(
                Series(label=f"probe, {probed.context:,} tokens", style=style, points=points)
            )
            own = Point(1.08, probed.said.mean, probed.said.low, probed.said.high)
            series.append(
                Series(
                    label=f"said by the model, {probed.context:,} tokens",
                    style=style._replace(marker="P"), points=[own], joined=False,
                )
            )  # fmt: skip
        level = one.explanation.probes[0].chance
        panels.append(
            Panel(
                title=_title(one.run),
                x_label=_way(one.explanation.probes),
                y_label="share of rules",
                series=series,
                score=True,
                chance=[(0, level), (1.08, level)],
            )
        )
    return Chart("lost-rules", *words("lost_rules"), panels)


def _traces(found: Sequence[Explained]) -> Chart:
    kinds = list(
        dict.fromkeys(name(trace.kind, "(no name)") for one in found for trace in _every(one))
    )
    look = styles(kinds, [_RULE])
    panels = []
    for one in found:
        parts: dict[tuple[int, str], list[Trace]] = {}
        for trace in _every(one):
            parts.setdefault((trace.layer, trace.part), []).append(trace)
        for (layer, _), traces in parts.items():
            series = [
                Series(
                    label=name(trace.kind, "(no name)"),
                    style=look[name(trace.kind, "(no name)")],
                    points=list(_bins(trace)),
                )
                for trace in traces
            ]
            # Small leaks show on a log axis; a kind that is never written has no place there.
            values = [point.y for one in series for point in one.points]
            is_log = 0 < min(values) < max(values) / _WIDE
            is_gate = traces[0].part == GATE
            where = f"{name(traces[0].part, '(no name)')}, layer {layer}"
            unit = "mean, 0 to 1" if is_gate else "mean change, 0 to 1"
            panels.append(
                Panel(
                    title=where if len(found) == 1 else f"{where}: {_title(one.run)}",
                    x_label="position (tokens, log scale)",
                    y_label=unit + (" (log)" if is_log else ""),
                    series=series,
                    x_log=True,
                    y_log=is_log,
                )
            )
    return Chart("token-writes", *words("token_writes"), panels)


def _bins(trace: Trace) -> Iterator[Point]:
    for one in trace.bins:
        # In the middle of the bin on a log axis.
        x = ((one.first + 1) * (one.last + 1)) ** 0.5
        yield Point(x, one.mean)


def _way(probes: Sequence[Probed]) -> str:
    each = all(probed.after == "each rule" for probed in probes)
    return f"way from {'each rule' if each else 'the rules'} (0) to the answer (1)"


def _every(one: Explained) -> Sequence[Trace]:
    return (*one.explanation.traced.changes, *one.explanation.traced.gates)


def _widest(trace: Trace) -> Cell:
    zeros = min(trace.zeros_by_gate, default=None)
    return Cell(MISSING) if zeros is None else Cell(f"{zeros:.3f}", zeros)


def _part(trace: Trace) -> str:
    return GATE if trace.part == GATE else f"change of {name(trace.part, '(no name)')}"


def _title(run: Run) -> str:
    return f"{run.label}, seed {run.seed}: {run.task}, trained at {run.context:,}"


def _place(run: Run) -> dict[str, Cell]:
    return {
        "task": Cell(run.task),
        "variant": Cell(run.label),
        "trained at": Cell(str(run.context), run.context),
        "seed": Cell(str(run.seed), run.seed),
    }


def _share(share: Interval) -> Cell:
    return Cell(f"{share.mean:.3f} ({share.low:.2f} to {share.high:.2f})", share.mean)


def _difference(part: Interval) -> Cell:
    return Cell(f"{part.mean:+.3f} ({part.low:+.2f} to {part.high:+.2f})", part.mean)
