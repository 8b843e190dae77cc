"""Records as a table: a row a run, of which no two are one, each with its task and its label.

    runs, notes = tabulated(merged(records))
    runs[0].label       # "attention, rotary", "delta, heads 2, short convolution", "mine.py:Mine"

A model that was trained twice, for other tests, as in several folders, is one run. A label names
the mixer, and the options that differ from its defaults. It stands for one variant: two models
never share one, and one model has the same everywhere. `analysis.groups` groups this table.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TypeAlias

from rulekeep.printable import counted, name
from rulekeep.records import Record
from rulekeep.records.record import how_ended
from rulekeep.specs import ArticleCell

# What places a run, or says how long and carefully it was looked at: no part of a mixer's name.
_PLACED = {
    "task", "task_options", "mixer", "context", "test_contexts", "seed", "learning_rate",
    "evaluate_every", "validation_examples", "test_examples", "long_test_examples", "threads",
}  # fmt: skip
BASELINE = "attention"
LEARNED = "learned"
# Of a run's settings, those that are no part of the model.
_HOW_TRAINED = {
    "mixed_lengths", "length_growth", "steps", "batch_size", "warmup_steps", "final_share",
    "weight_decay", "max_gradient_norm", "stop_when_solved", "initial_states", "state_steps",
    "device", "precision",
}  # fmt: skip
_IN_FILE = re.compile(r"(?:.*[/\\])?([\w.-]+\.py:\w+)")
# Options with their values, by name.
Parts: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of the table: one run.

    `task` includes its difficulty if the task was run at several. `context` is the training length
    in tokens; an outside model stands at the longest of the others. `settings` are the options of
    its mixer and of its training.
    """

    record: Record
    task: str
    label: str
    context: int
    settings: Mapping[str, str]

    @classmethod
    def of(cls, record: Record, task: str = "", label: str = "") -> "Run":
        """The row of a record, of this task and label."""
        # A mixer's own options beside what the spec says of the model; its names come first.
        spec = record.spec
        own, rest = named(spec.mixer_options), named(spec.rest)
        rest = {key: value for key, value in rest.items() if key not in _PLACED}
        settings = rest | {f"mixer {k}" if k in rest else k: value for k, value in own.items()}
        task = task or name(spec.task, "(no task)")
        return cls(record=record, task=task, label=label, context=spec.context, settings=settings)

    @property
    def seed(self) -> int:
        """The seed."""
        return self.record.spec.seed

    @property
    def rate(self) -> float | None:
        """The learning rate."""
        return self.record.spec.learning_rate

    @cached_property
    def mixer(self) -> str:
        """The mixer's name."""
        return name(self.record.spec.mixer, "(no mixer)")

    @property
    def is_own(self) -> bool:
        """Whether the mixer is a plug-in: the user of a report looks for it first."""
        # As it was asked for: the name that is shown may be shortened.
        return ":" in self.record.spec.mixer

    @property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that was to be tested, from the shortest."""
        return tuple(sorted({*self.record.spec.test_contexts, *self.record.tested_later}))

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return self.context if self.record.spec.is_trained else None


def tabulated(records: Sequence[Record]) -> tuple[list[Run], list[str]]:
    """Runs by task, label (baseline first), context, rate, seed; of one id, the last result.

    And a note for everything left out.
    """
    notes, last = list[str](), dict[str, Record]()
    for record in records:
        # A copy that failed elsewhere takes no result away.
        before = last.setdefault(record.id, record)
        stands = before.is_result and not record.is_result
        last[record.id] = before if stands else record
        if before is not record:
            shown = "the finished one" if stands else "the last"
            notes.append(f"run {record.id}: more than one record, {shown} is shown")
    if added := [set(record.tested_later) for record in records if record.tested_later]:
        lengths = ", ".join(f"{at:,}" for at in sorted(set().union(*added)))
        count = counted(len(added), "run")
        notes.append(f"{count}: tested at {lengths} tokens after training, by rulekeep test")
    runs = _beside_trained(_named([*map(Run.of, last.values())]))
    runs = [replace(run, label=one) for run, one in zip(runs, labels(runs), strict=True)]
    runs, apart = _by_code(runs)
    runs.sort(
        key=lambda run: (
            run.task, run.mixer != BASELINE, run.label, run.context, run.rate or 0.0, run.seed,
            run.record.id,
        )
    )  # fmt: skip
    return runs, [*notes, *_notes(last.values(), runs), *apart]


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
    more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
    return [
        f"runs {pair}{more}: one training that came out otherwise, as on another machine; shown as "
        "one run, with the history, costs and tests of the first, and what only the other tested"
        for pair in pairs[:1]
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
    return [{k: v for k, v in look.items() if k != "train_seconds"} for look in record.history]


def named(values: Mapping[str, object]) -> dict[str, str]:
    """Options and their values as short printable names."""
    return {name(key, "?"): name(value, "none") for key, value in values.items()}


def _named(runs: Sequence[Run]) -> list[Run]:
    """Runs with their tasks named, and with the options of their mixers that came after them.

    An option of a task is part of its name where the task was run at several values.
    """
    options = [named(run.record.spec.task_options) for run in runs]
    of_task: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    defaults: dict[str, dict[str, str]] = defaultdict(dict)
    for run, own in zip(runs, options, strict=True):
        of_task[run.task].append(own)
        # A run that failed may not say what was asked for: its plan may be lost.
        if run.record.is_result:
            given = run.record.given
            defaults[run.mixer] |= {k: v for k, v in run.settings.items() if k not in given}
    several = {task: sorted(_varying(every)) for task, every in of_task.items()}
    shown = []
    for run, own in zip(runs, options, strict=True):
        # Where rules stand is said by itself: early or marked.
        parts = [
            f"{'' if key == 'placement' else f'{key} '}{own.get(key, 'none')}"
            for key in several[run.task]
        ]
        # A run of before an option was made with its default.
        settings = {**defaults[run.mixer], **run.settings}
        shown.append(replace(run, task=", ".join([run.task, *parts]), settings=settings))
    return shown


def _varying(tables: Iterable[Mapping[str, str]]) -> set[str]:
    """The keys whose values differ between tables."""
    every = [*tables]
    keys = set[str]().union(*every)
    return {key for key in keys if len({table.get(key, "none") for table in every}) > 1}


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run, in order.

    If two models would share a label, it names more than options that are not defaults: settings of
    the model that vary among all runs of that name, and of training that vary on one task.
    """
    of_mixer: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        of_mixer[run.mixer].append(run)
    differing = {
        mixer: _varying(run.settings for run in same) - _HOW_TRAINED
        for mixer, same in of_mixer.items()
        if same[0].is_own
    }
    owned = [(run, _own(run, differing.get(run.mixer, set()))) for run in runs]
    models: dict[tuple[str, Parts], list[Run]] = defaultdict(list)
    kinds: dict[tuple[str, str, int, Parts], list[Run]] = defaultdict(list)
    for run, own in owned:
        models[run.mixer, own].append(run)
        kinds[run.task, run.mixer, run.context, own].append(run)
    of_model = {
        key: _varying(run.settings for run in same) - _HOW_TRAINED for key, same in models.items()
    }
    trained: dict[tuple[str, str, Parts], set[str]] = defaultdict(set)
    for (task, mixer, _, own), same in kinds.items():
        trained[task, mixer, own] |= _varying(run.settings for run in same)
    variants, alike = list[tuple[Run, str, Parts]](), defaultdict[str, set[object]](set)
    for run, own in owned:
        keys = of_model[run.mixer, own] | trained[run.task, run.mixer, own]
        more = sorted(keys - {key for key, _ in own})
        parts = (*own, *((key, run.settings.get(key, "none")) for key in more))
        # The name of a mixer; for one in a file, without folders.
        in_file = _IN_FILE.fullmatch(run.record.spec.mixer)
        label = spoken(name(in_file[1], "") if in_file else run.mixer, parts)
        alike[label].add((run.mixer, parts))
        variants.append((run, label, parts))
    return [
        label
        if len(alike[label]) == 1
        else ", ".join([run.mixer, *(f"{key} {value}" for key, value in parts)])
        for run, label, parts in variants
    ]


def _own(run: Run, differing: set[str]) -> Parts:
    """The options of its mixer that are not the default, and the signal added to its input.

    Of a mixer from elsewhere those that are `differing` between its runs.
    """
    record, own = run.record, named(run.record.spec.mixer_options)
    if run.is_own:
        kept = {key: value for key, value in run.settings.items() if key in differing}
    else:
        told = {*record.given}
        # Attention is named by its positions everywhere: a baseline says what it is. A record that
        # says nothing of them had none.
        if run.mixer == BASELINE and own:
            told, own = told | {"positions"}, {"positions": "none"} | own
        # A cell of the article has what was asked for alone.
        is_cell = record.spec.kind == ArticleCell.kind
        kept = {key: value for key, value in own.items() if is_cell or key in told}
    added = run.settings.get("added_positions", "none")
    if added != "none":
        kept["added_positions"] = added
    return tuple(sorted(kept.items()))


def spoken(mixer: str, parts: Parts) -> str:
    """A label in words: "attention, rotary, earliness", "delta, heads 2, short convolution"."""
    options = dict(parts)
    added, said = options.pop("added_positions", "none"), []
    if (own := options.pop("positions", None)) is not None and (own, added) != ("none", LEARNED):
        said.append("no positions" if own == "none" else own)
    if added not in ("none", "earliness"):
        said.append(f"{added} positions")
    if (size := options.pop("conv_size", "none")) != "none":
        said.append("convolution" if size == "4" else f"convolution {size}")
    for key, value in options.items():
        words = key.replace("_", " ").replace(".", " ")
        said.append({"True": words, "False": f"no {words}"}.get(value, f"{words} {value}"))
    # Earliness says how early a token is, which is not where: it stands beside positions.
    return ", ".join([mixer, *said, *["earliness"] * (added == "earliness")])


def _beside_trained(runs: Sequence[Run]) -> list[Run]:
    """Outside models stand at the longest training length of their task.

    If nothing was trained, they stand at the longest length that any was tested at.
    """
    done = [run for run in runs if run.record.is_result]
    # In order what was trained comes last, and of that the longest, which stands.
    every = sorted((run.record.spec.is_trained, run.context, run.task) for run in done)
    beside = {task: at for _, at, task in every}
    return [
        run
        if run.record.spec.is_trained
        else replace(run, context=beside.get(run.task, run.context))
        for run in runs
    ]


def _notes(records: Iterable[Record], runs: Sequence[Run]) -> Iterator[str]:
    """What runs noted of themselves, each line once, and what does not stand alike side by side."""
    counts = Counter(note for record in records for note in record.notes)
    yield from (f"{counted(count, 'run')}: {note}" for note, count in counts.items())
    # The same seed twice, tested otherwise: a seed counts once.
    same: dict[tuple[object, ...], list[str]] = defaultdict(list)
    sizes: dict[tuple[str, int], set[int]] = defaultdict(set)
    for run in runs:
        if run.record.is_result:
            same[run.task, run.label, run.context, run.rate, run.seed].append(run.record.id)
            for test in run.record.tests():
                if test.examples >= 1:
                    sizes[run.task, test.context].add(int(test.examples))
    for (task, label, context, _, seed), ids in same.items():
        if len(ids) > 1:
            yield (
                f"{task}, {label}, trained at {context}, seed {seed}: {len(ids)} runs "
                f"({', '.join(ids)}), made with other settings; the last named is shown, so keep "
                "one of them"
            )
    lengths: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for (task, at), examples in sorted(sizes.items()):
        if len(examples) > 1:
            lengths[task, tuple(sorted(examples))].append(f"{at:,}")
    for (task, several), of in lengths.items():
        shown = " and ".join(f"{count:,}" for count in several)
        yield f"{task} at {', '.join(of)} tokens: tests of {shown} examples stand side by side"


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
