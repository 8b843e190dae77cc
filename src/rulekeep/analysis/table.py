"""Records as a table: a row a run, of which no two are one, each with its task and its label.

    runs, notes = tabulated(merged(records))

A model that was trained twice, for other tests, as in several folders, is one run.

A report groups this table by task, variant and training length (`analysis.groups`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

from rulekeep.analysis.runs import BASELINE, Run, labels, named
from rulekeep.printable import counted
from rulekeep.records import Record
from rulekeep.records.record import how_ended, name


def tabulated(records: Sequence[Record]) -> tuple[list[Run], list[str]]:
    """Runs by task, label (baseline first), context, rate, seed; of one id, the last result.

    And a note for everything left out.
    """
    notes: list[str] = []
    last: dict[str, Record] = {}
    for record in records:
        before = last.get(record.id)
        if before is not None:
            # A copy that failed elsewhere takes no result away.
            stands = before.is_result and not record.is_result
            shown = "the finished one" if stands else "the last"
            notes.append(f"run {record.id}: more than one record, {shown} is shown")
            record = before if stands else record
        last[record.id] = record
    notes += [*_tested_later(records), *_own_notes(last.values())]
    runs = _beside_trained(_named([*map(Run.of, last.values())]))
    labelled = [replace(run, label=one) for run, one in zip(runs, labels(runs), strict=True)]
    runs, apart = _by_code(labelled)
    runs.sort(
        key=lambda run: (
            run.task, run.mixer != BASELINE, run.label, run.context, run.rate or 0.0, run.seed,
            run.record.id,
        )
    )  # fmt: skip
    return runs, [*notes, *_repeated(runs), *_unequal(runs), *apart]


def merged(records: Iterable[Record]) -> list[Record]:
    """Each trained model once: among records that differ only in their tests, the first.

    It gets the tests of the others. A run without a result is not merged.
    """
    return [reduce(joined, same) for same in _by_training(records)]


def trained_apart(records: Iterable[Record]) -> list[str]:
    """A note on merged records whose training gave different figures, if any."""
    pairs = [
        f"{first.id} and {other.id}"
        for first, *others in _by_training(records)
        for other in others
        if _trained(first) != _trained(other)
    ]
    if not pairs:
        return []
    more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
    return [
        f"runs {pairs[0]}{more}: one training that came out otherwise, as on another machine; "
        "shown as one run, with the history, costs and tests of the first, and what only the other "
        "tested"
    ]


def joined(first: Record, other: Record) -> Record:
    """The first record, with the evaluations and costs by length that only the other has.

    If both were tested and trained to the same figures, the evaluation with more examples counts.
    The other id becomes one of its `twins`.
    """
    tested = {(one.split, one.context): one for one in first.evaluations}
    same = _trained(first) == _trained(other)
    for one in other.evaluations:
        has = tested.setdefault((one.split, one.context), one)
        if same and has.examples < one.examples:
            tested[one.split, one.context] = one
    ended = how_ended(map(vars, tested.values())) if first.has_model else {}
    asked = {*first.spec.test_contexts, *other.spec.test_contexts}
    spec = first.spec.model_copy(update={"test_contexts": tuple(sorted(asked))})
    return first.model_copy(
        update={
            **ended,
            "spec": spec,
            "state_bytes": {**other.state_bytes, **first.state_bytes},
            "decode_ms": {**other.decode_ms, **first.decode_ms},
            "evaluations": (*tested.values(),),
            "tested_later": tuple(sorted({*first.tested_later, *other.tested_later})),
            "twins": (*first.twins, *[other.id] * same),
        }
    )


def _by_training(records: Iterable[Record]) -> list[list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for place, record in enumerate(records):
        key = record.training if record.is_result else str(place)
        ended = "tested" if record.has_model else record.status
        found.setdefault((ended, key), []).append(record)
    return list(found.values())


def _trained(record: Record) -> list[dict[str, float]]:
    """The result of training, evaluation by evaluation, without its seconds."""
    return [
        {key: value for key, value in look.items() if key != "train_seconds"}
        for look in record.history
    ]


def _named(runs: Sequence[Run]) -> list[Run]:
    """Runs with their tasks named, and with the options of their mixers that came after them.

    An option of a task is part of its name where the task was run at several values.
    """
    options = [named(run.record.spec.task_options) for run in runs]
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    defaults: dict[str, dict[str, str]] = defaultdict(dict)
    for run, own in zip(runs, options, strict=True):
        for key, value in own.items():
            values[run.task][key].add(value)
        # A run that failed may not say what was asked for: its plan may be lost.
        if run.record.is_result:
            given = run.record.given
            defaults[run.mixer] |= {k: v for k, v in run.settings.items() if k not in given}
    for run, own in zip(runs, options, strict=True):
        for key in values[run.task].keys() - own.keys():
            values[run.task][key].add("none")
    shown = []
    for run, own in zip(runs, options, strict=True):
        several = [key for key, each in sorted(values[run.task].items()) if len(each) > 1]
        # Where rules stand is said by itself: early or marked.
        parts = [
            f"{'' if key == 'placement' else f'{key} '}{own.get(key, 'none')}" for key in several
        ]
        # A run of before an option was made with its default.
        settings = {**defaults[run.mixer], **run.settings}
        shown.append(replace(run, task=", ".join([run.task, *parts]), settings=settings))
    return shown


def _beside_trained(runs: Sequence[Run]) -> list[Run]:
    """Outside models stand at the longest training length of their task.

    If nothing was trained, they stand at the longest length that any was tested at.
    """
    longest: dict[tuple[str, bool], int] = {}
    for run in runs:
        if run.record.is_result:
            key = (run.task, run.record.spec.is_trained)
            longest[key] = max(run.context, longest.get(key, 0))
    # In order what was trained comes last, and stands.
    beside = {task: at for (task, _), at in sorted(longest.items())}
    return [
        run
        if run.record.spec.is_trained
        else replace(run, context=beside.get(run.task, run.context))
        for run in runs
    ]


def _tested_later(records: Sequence[Record]) -> list[str]:
    """A note on lengths that were tested after training."""
    added = [set(record.tested_later) for record in records if record.tested_later]
    if not added:
        return []
    lengths = ", ".join(f"{at:,}" for at in sorted(set().union(*added)))
    count = counted(len(added), "run")
    return [f"{count}: tested at {lengths} tokens after training, by rulekeep test"]


def _own_notes(records: Iterable[Record]) -> list[str]:
    """What runs noted of themselves, each line once."""
    counts = Counter(note for record in records for note in record.notes)
    return [f"{counted(count, 'run')}: {note}" for note, count in counts.items()]


def _repeated(runs: Sequence[Run]) -> list[str]:
    # The same seed twice, tested otherwise: a seed counts once.
    same: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for run in runs:
        if run.record.is_result:
            same[run.task, run.label, run.context, run.rate, run.seed].append(run.record.id)
    return [
        f"{task}, {label}, trained at {context}, seed {seed}: {len(ids)} runs ({', '.join(ids)}), "
        "made with other settings; the last named is shown, so keep one of them"
        for (task, label, context, _, seed), ids in same.items()
        if len(ids) > 1
    ]


def _unequal(runs: Sequence[Run]) -> list[str]:
    """A note where tests of different sizes stand side by side."""
    sizes: dict[tuple[str, int], set[int]] = defaultdict(set)
    for run in runs:
        if run.record.is_result:
            for test in run.record.tests():
                if test.examples >= 1:
                    sizes[run.task, test.context].add(int(test.examples))
    lengths: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for (task, at), examples in sorted(sizes.items()):
        if len(examples) > 1:
            lengths[task, tuple(sorted(examples))].append(at)
    return [
        f"{task} at {', '.join(f'{at:,}' for at in several)} tokens: tests of "
        f"{' and '.join(f'{count:,}' for count in examples)} examples stand side by side"
        for (task, examples), several in lengths.items()
    ]


def _by_code(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Runs of a variant with different code, kept apart, and a note for each such variant.

    Figures from before and after a change of the code are no seeds of one variant.
    """
    made: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        if run.record.is_result:
            by_code = made[run.task, run.label]
            by_code[run.record.code].add(run.seed)
    several = {key: by_code for key, by_code in made.items() if len(by_code) > 1}
    apart = []
    for run in runs:
        codes = several.get((run.task, run.label), {})
        code = _apart(run.record.code, codes) if codes else ""
        apart.append(replace(run, label=f"{run.label}, code {code}") if code else run)
    return apart, [
        f"{task}, {label}: runs of {len(by_code)} versions of its code stand apart ("
        + "; ".join(
            f"seed {', '.join(map(str, sorted(seeds)))} by {_apart(code, by_code)}"
            for code, seeds in by_code.items()
        )
        + "), each named by its code; delete the folders of those that are out of date"
        for (task, label), by_code in several.items()
    ]


def _apart(code: str, among: Mapping[str, object]) -> str:
    """What of a version is not the same for all, in few letters."""
    shared = set.intersection(*(set(other.split(", ")) for other in among))
    own = [part for part in code.split(", ") if part not in shared]
    # Eight digits of a digest are enough to tell two apart.
    cut = (part.rpartition(" ") for part in own)
    return name(" ".join(f"{part}{space}{version[:8]}" for part, space, version in cut), code)
