"""Where does a run lose its rules? Read this first.

    record ─ its model ─┬─ at each context: probes of the state, its own answers
                        └─ at the longest: what each token changes
                           explain.json

A rule is lost at one of three steps:

    capture   it is not in the state right after it was stated: never written
    body      it was in the state, and is gone just before the answer: erased or drowned
    readout   it is still in the state, and the model answers something else

"In the state" means that a linear probe, trained on other examples, finds the rule there.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from rulekeep.analysis.summary import Interval, chance_corrected, summarise, wilson
from rulekeep.explain.probe import probe
from rulekeep.explain.record import RECORD, Explanation, Job, Lost, Place, Probed
from rulekeep.explain.states import Drawn, Read, drawn, reads, samples, state_floats, states_at
from rulekeep.explain.traces import traced
from rulekeep.records.store import BusyError, RunFolder, write_record
from rulekeep.running.building import Resolved, environment
from rulekeep.running.evaluation import ModelPredictor, NotFiniteError, in_eval_mode
from rulekeep.running.model import LanguageModel
from rulekeep.running.trained import check_length, resolve_done, trained_model
from rulekeep.running.training import build
from rulekeep.seeds import named_seed
from rulekeep.specs import UsageError
from rulekeep.tasks.sampled import Sample, SampledTask

# Enough to see whether rules are asked for in order.
_LOOKED_AT = 32


def write_explanation(job: Job, progress: Callable[[int], None]) -> list[str]:
    """Explain a run into `explain.json` in its folder; lines to print.

    `progress` hears of every training step, then of every further stage.

    Raises:
        UsageError: the run cannot be explained, or not with these settings.
    """
    folder = RunFolder(Path(job.folder))
    record = folder.load()
    assert record is not None, "checked before the job was made"
    resolved = resolve_done(folder, record)
    spec, untrained, probes = resolved.spec, build(resolved).to(resolved.spec.device), []
    for context in job.contexts:
        # Refused before anything is trained.
        _check(untrained, resolved, context)
    try:
        with folder.locked():
            made = trained_model(folder, record, resolved, progress)
    except BusyError:
        raise UsageError(f"{folder.path}: another process is at it; wait until it ends") from None
    # What the probes read is what the answers come of.
    in_eval_mode(made.model)
    for stage, context in enumerate(job.contexts, start=1):
        progress(made.step + stage)
        train = (named_seed("probe", spec.seed, job.seed), job.examples)
        scored = (spec.seed, job.examples // 4)
        try:
            probes.append(probed(made.model, resolved.task, context, train, scored))
        except NotFiniteError as error:
            raise UsageError(
                f"--contexts {context}: the outputs of run {record.id} are not finite from token "
                f"{error.token} on; give shorter ones"
            ) from None
    progress(made.step + len(job.contexts) + 1)
    explanation = Explanation(
        run=record.id,
        source=resolved.source,
        environment={**environment(), "device": spec.device},
        command=job.command,
        seed=job.seed,
        differences=made.differences,
        probes=tuple(probes),
        traced=traced(made.model, resolved.task, max(job.contexts), spec.seed),
    )
    write_record(folder.path / RECORD, explanation.as_recorded)
    return made.notes


def probed(
    model: LanguageModel,
    task: SampledTask,
    context: int,
    train: tuple[int, int],
    scored: tuple[int, int],
) -> Probed:
    """Probes at one context; `train` and `scored` are a seed and a number of examples each.

    Probes learn from the train split, and are scored, like the model, on the validation split.
    """
    learnt = drawn(task.name, samples(task, "train", context, *train))
    judged = drawn(task.name, samples(task, "validation", context, *scored))
    # First: outputs that are not finite have no probe either.
    said, said_chance = _said(model, samples(task, "validation", context, *scored), judged)
    end = learnt.prefixes.shape[1]
    head, planned = reads(np.concatenate([learnt.at, judged.at]), end)
    states = [
        states_at(model, part.prefixes, np.stack([read.after[rows] for read in planned], axis=1))
        for part, rows in ((learnt, slice(train[1])), (judged, slice(train[1], None)))
    ]
    tables: dict[float, np.ndarray] = {}
    penalties: dict[float, list[float]] = {}
    for read, learns, judges in zip(planned, *states, strict=True):
        right = tables.setdefault(read.share, np.full(judged.words.shape, np.nan))
        penalty = _probe_at(read, learnt, judged, learns, judges, right)
        penalties.setdefault(read.share, []).append(penalty)
    chance = float(np.nanmean(_commonest(learnt, judged)))
    places = []
    for share, right in tables.items():
        after = np.concatenate([read.after for read in planned if read.share == share])
        places.append(
            Place(
                share=share,
                tokens=float(after[after > 0].mean()),
                found=_share(right),
                by_rule=_by_rule(right),
                penalties=tuple(penalties[share]),
            )
        )
    return Probed(
        context=context,
        after="each rule" if head is None else "all rules",
        state_floats=states[0][-1].shape[1],
        train_examples=train[1],
        scored_examples=scored[1],
        chance=chance,
        places=tuple(places),
        said=_share(said),
        said_chance=said_chance,
        said_by_rule=_by_rule(said),
        lost=_lost(tables[0.0], tables[1.0], chance, said, said_chance),
    )


def _probe_at(
    read: Read, learnt: Drawn, judged: Drawn, states: np.ndarray, scored: np.ndarray,
    right: np.ndarray,
) -> float:  # fmt: skip
    """Fill in which rules of a place its probe finds; the chosen penalty."""
    rules, n = list(read.rules), len(learnt.prefixes)
    learns, judges = read.after[:n] > 0, read.after[n:] > 0
    words = judged.words[judges][:, rules]
    found, penalty = probe(states[learns], learnt.words[learns][:, rules], scored[judges])
    right[np.flatnonzero(judges)[:, None], rules] = np.where(words >= 0, found == words, np.nan)
    return penalty


def _commonest(learnt: Drawn, judged: Drawn) -> np.ndarray:
    """Where the commonest training word of each rule is right."""
    right = np.full(judged.words.shape, np.nan)
    for rule, (seen, words) in enumerate(zip(learnt.words.T, judged.words.T, strict=True)):
        if (seen >= 0).any():
            best = np.bincount(seen[seen >= 0]).argmax()
            right[:, rule] = np.where(words >= 0, words == best, np.nan)
    return right


def _said(model: LanguageModel, every: Iterable[Sample], judged: Drawn) -> tuple[np.ndarray, float]:
    """Which rules the model answers at their first use, and the mean chance there."""
    predictor, right, chance = ModelPredictor(model), list[np.ndarray](), list[np.ndarray]()
    for sample in every:
        predictions = predictor.read(sample).predictions
        assert predictions is not None, "a model predicts"
        right.append(predictions == sample.answers)
        chance.append(sample.chance)
    columns = judged.columns
    there = columns >= 0

    def first_uses(parts: Sequence[np.ndarray]) -> np.ndarray:
        table = np.take_along_axis(np.concatenate(parts), np.maximum(columns, 0), axis=1)
        return np.where(there, table, np.nan)

    return first_uses(right), float(np.nanmean(first_uses(chance)))


def _lost(
    after: np.ndarray, before: np.ndarray, chance: float, said: np.ndarray, said_chance: float
) -> Lost:
    # The same examples everywhere: differences are paired.
    captured, kept = ((_means(right) - chance) / (1 - chance) for right in (after, before))
    spoken = (_means(said) - said_chance) / (1 - said_chance)
    share = _share(after)
    high, mean, low = (
        1 - chance_corrected(value, chance) for value in (share.low, share.mean, share.high)
    )
    return Lost(
        capture=Interval(mean, low, high),
        body=_difference(captured - kept),
        readout=_difference(kept - spoken),
    )


def _difference(values: np.ndarray) -> Interval:
    found = summarise(values.tolist())
    assert None not in found[:4], "there are two examples or more"
    return Interval(found.mean, found.low, found.high)  # type: ignore[arg-type]


def _share(right: np.ndarray) -> Interval:
    # An example's rules may be lost together: as many trials as examples, not as rules.
    means = _means(right)
    means = means[~np.isnan(means)]
    mean = float(means.mean())
    low, high = wilson(mean, len(means))
    return Interval(mean, low, high)


def _means(right: np.ndarray) -> np.ndarray:
    """The fraction of right rules in each example; NaN if it asks for none."""
    means: np.ndarray = np.ma.masked_invalid(right).mean(axis=1).filled(np.nan)
    return means


def _by_rule(right: np.ndarray) -> tuple[float | None, ...]:
    """The fraction of examples that have each rule right; None if none asks for it."""
    return tuple(np.ma.masked_invalid(right).mean(axis=0).tolist())


def _check(model: LanguageModel, resolved: Resolved, context: int) -> None:
    """Raise a `UsageError` if a model like this cannot be explained at a context."""
    check_length(resolved, context)
    spec = resolved.spec
    few = drawn(spec.task, samples(resolved.task, "validation", context, spec.seed, _LOOKED_AT))
    tokens = torch.from_numpy(few.prefixes[:1]).long().to(spec.device)
    length = tokens.shape[1]
    half, whole = (state_floats(model, tokens[:, :end]) for end in (length // 2, length))
    if whole > half:
        raise UsageError(
            f"mixer {spec.mixer!r}: its state still grows at {context} tokens: nothing is "
            "compressed there, so there is no loss to explain; name a run of a mixer with a fixed "
            "state, or longer --contexts"
        )
    if not whole:
        raise UsageError(f"mixer {spec.mixer!r}: has an empty state: there is nothing to probe")
