"""Where rules are lost: tables, figures and a sentence a run, out of records of `rulekeep explain`.

A record is shown under the name that its run has in the report; one without a run is left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rulekeep.analysis.charts import Chart, Panel, Point, Series, capped, styles
from rulekeep.analysis.summary import Interval
from rulekeep.analysis.table import Run
from rulekeep.explain.record import GATE, Explanation, Probed, Trace
from rulekeep.printable import name, one_line
from rulekeep.reporting.tables import Cell, Table, Value, interval_cell, number_cell, words

_STEPS = {
    "capture": "never written",
    "body": "lost in the body",
    "readout": "in the state before the answer, and not said",
}
_NAMES = {"capture": "capture", "body": "body", "readout": "read-out"}
_RULE = "rule"
# From this ratio on a log axis has several ticks.
_WIDE = 8
# Behind the answer, where what the model says stands.
_SAID_AT = 1.08


class Explained(NamedTuple):
    """A run and where it loses its rules."""

    run: Run
    explanation: Explanation

    @property
    def title(self) -> str:
        """The run in words."""
        run = self.run
        return f"{run.label}, seed {run.seed}: {run.task}, trained at {run.context:,}"

    @property
    def place(self) -> dict[str, Value]:
        """The run in columns."""
        run = self.run
        return {
            "task": run.task, "variant": run.label, "trained at": run.context, "seed": run.seed,
        }  # fmt: skip

    @property
    def traces(self) -> Sequence[Trace]:
        """Changes of the state, then write gates."""
        return (*self.explanation.traced.changes, *self.explanation.traced.gates)


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
        one_line(f"{one.title}: {_verdict(probed)}" if several else _verdict(probed), 600)
        for one in found
        for probed in one.explanation.probes
    ]


def _verdict(probed: Probed) -> str:
    said, lost = probed.said, _by_size(probed)
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


def tables(found: Sequence[Explained]) -> list[Table]:
    """What is lost at each step, and what each kind of token changes."""
    losses = (
        {
            **one.place,
            "read at": number_cell(probed.context, 0),
            "most lost at": next((_NAMES[step] for step in _by_size(probed)), None),
            "after the rules": _cell(probed.places[0].found),
            "before the answer": _cell(probed.places[-1].found),
            "said": _cell(probed.said),
            "chance": f"{probed.chance:.3f}, {probed.said_chance:.3f}",
            **{f"lost: {_NAMES[step]}": _cell(getattr(probed.lost, step), "+") for step in _STEPS},
        }
        for one in found
        for probed in one.explanation.probes
    )
    writes = (
        {
            **one.place,
            "layer": trace.layer,
            "what": GATE if trace.part == GATE else f"change of {name(trace.part)}",
            "token": name(trace.kind),
            "tokens": number_cell(trace.n, 0),
            "mean": number_cell(trace.mean, 4),
            "zeros": trace.zeros,
            "of one gate": min(trace.zeros_by_gate, default=None),
        }
        for one in found
        for trace in one.traces
    )
    return [Table.of("lost", losses), Table.of("writes", writes)]


def charts(found: Sequence[Explained]) -> list[Chart]:
    """What a probe finds from the rules to the answer, and what each kind of token changes."""
    probes = Chart("lost-rules", *words("lost_rules"), _probes(found))
    return [capped(probes), capped(Chart("token-writes", *words("token_writes"), _traces(found)))]


def _probes(found: Sequence[Explained]) -> list[Panel]:
    contexts = sorted({probed.context for one in found for probed in one.explanation.probes})
    look = styles([str(context) for context in contexts], [])
    panels = []
    for one in found:
        series, probes = [], one.explanation.probes
        for probed in probes:
            style, at = look[str(probed.context)], f"{probed.context:,} tokens"
            points = [Point.of(place.share, place.found) for place in probed.places]
            series.append(Series(label=f"probe, {at}", style=style, points=points))
            series.append(
                Series(
                    label=f"said by the model, {at}", style=style._replace(marker="P"),
                    points=[Point.of(_SAID_AT, probed.said)], joined=False,
                )
            )  # fmt: skip
        start = "each rule" if all(one.after == "each rule" for one in probes) else "the rules"
        panels.append(
            Panel(
                title=one.title,
                x_label=f"way from {start} (0) to the answer (1)",
                y_label="share of rules",
                series=series,
                score=True,
                chance=[(0, probes[0].chance), (_SAID_AT, probes[0].chance)],
            )
        )
    return panels


def _traces(found: Sequence[Explained]) -> list[Panel]:
    kinds = dict.fromkeys(name(trace.kind) for one in found for trace in one.traces)
    look = styles([*kinds], [_RULE])
    panels = []
    for one in found:
        parts: dict[tuple[int, str], list[Trace]] = {}
        for trace in one.traces:
            parts.setdefault((trace.layer, trace.part), []).append(trace)
        for (layer, part), traces in parts.items():
            # In the middle of a bin on a log axis.
            series = [
                Series(
                    label=name(trace.kind),
                    style=look[name(trace.kind)],
                    points=[
                        Point(((at.first + 1) * (at.last + 1)) ** 0.5, at.mean) for at in trace.bins
                    ],
                )
                for trace in traces
            ]
            # Small leaks show on a log axis; a kind that is never written has no place there.
            values = [point.y for line in series for point in line.points]
            is_log = 0 < min(values) < max(values) / _WIDE
            where = f"{name(part)}, layer {layer}"
            unit = "mean, 0 to 1" if part == GATE else "mean change, 0 to 1"
            panels.append(
                Panel(
                    title=where if len(found) == 1 else f"{where}: {one.title}",
                    x_label="position (tokens, log scale)",
                    y_label=unit + (" (log)" if is_log else ""),
                    series=series,
                    x_log=True,
                    y_log=is_log,
                )
            )
    return panels


def _cell(part: Interval, sign: str = "") -> Cell:
    return interval_cell(part, f"{sign}.3f", f"{sign}.2f")
