"""Evaluates a predictor on examples of a task: its loss, its answers and their scores.

A predictor is a trained small model (`ModelPredictor`), or an outside one that turns token ids into
logits (`LogitsPredictor`) or into answers (`GeneratingPredictor`, or `Predictor` itself).

A predictor never gets the answers that it is asked for. A `Reader` on our side feeds it, so it
cannot write to what it is scored by. Every evaluation compares the scored answers with the same
answers read token by token (`rulekeep.running.causality`).

    >>> evaluate_samples(predictor, task, "test", 1028, 1000, seed=1)      # doctest: +SKIP
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeGuard, TypeVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.analysis.metrics import score_samples
from rulekeep.mixers.base import MixerError
from rulekeep.running.causality import AnswerCheck, first_place
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.tasks.base import AnswerTable, Split
from rulekeep.tasks.sampled import Sample, SampledTask

_Module = TypeVar("_Module", bound=nn.Module)
# As many tokens as a predictor is given at once: what an outsider can hold is its own affair.
TOKENS_AT_ONCE = 2**16
# A generated word that the task does not have.
_NO_WORD = -1


class Reading(NamedTuple):
    """What is scored of examples; None where a predictor cannot give it.

    `loss` is summed over supervised tokens, in nats. `predictions` are teacher-forced: each follows
    the true tokens. `generated` is greedy: each follows the predictor's own tokens.
    """

    loss: float | None
    predictions: AnswerTable | None
    generated: AnswerTable | None


class PredictorError(ValueError):
    """An outside model breaks the contract of its kind of predictor."""


class NotFiniteError(PredictorError):
    """What would be scored is not finite from `token` on, counted from 0: it has no score."""

    def __init__(self, said: str, token: int) -> None:
        super().__init__(said)
        self.token = token


@dataclass(frozen=True)
class Question:
    """What a predictor is asked: prompts to answer, and the given tokens of each answer.

    It holds no answers: where a token is asked for, `given` is 0. Arrays are read-only copies.
    """

    prompts: Int[np.ndarray, "batch time"]
    given: Int[np.ndarray, "batch answer"]
    is_given: Bool[np.ndarray, "batch answer"]

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """The question that an example asks."""
        given = np.where(sample.supervised, 0, sample.answers)
        return cls._read_only(sample.tokens[:, : sample.answer_start], given, ~sample.supervised)

    @classmethod
    def of_next(cls, prompts: Int[np.ndarray, "batch time"]) -> Self:
        """The question for one more token."""
        given = np.zeros((len(prompts), 1), dtype=np.int64)
        return cls._read_only(prompts, given, given > 0)

    @classmethod
    def _read_only(cls, *tables: np.ndarray) -> Self:
        copies = [table.copy() for table in tables]
        for table in copies:
            table.flags.writeable = False
        return cls(*copies)


class Predictor(ABC):
    """An outside model to score on a task. It never gets the answers that it is asked for."""

    @abstractmethod
    def read(self, question: Question) -> Int[np.ndarray, "batch answer"]:
        """Answers to prompts, as token ids; -1 stands for no word of the task."""


class LogitsPredictor(Predictor):
    """An outside model that gives next-token logits; generation reads the whole text again."""

    @abstractmethod
    def logits(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits of the token after each position; only earlier tokens may count."""

    def read(self, question: Question) -> Int[np.ndarray, "batch answer"]:
        """Greedily."""
        own = torch.from_numpy(np.concatenate([question.prompts, question.given], axis=1))
        start = question.prompts.shape[1]
        for place in range(start, own.shape[1]):
            said = _next_logits(self, own, place).argmax(dim=-1)
            given = torch.from_numpy(question.is_given[:, place - start])
            own[:, place] = torch.where(given, own[:, place], said)
        return own[:, start:].numpy()


class GeneratingPredictor(Predictor):
    """An outside model that only generates: it has no loss, and its own text is scored."""

    @abstractmethod
    def generate(
        self,
        prompts: Int[np.ndarray, "batch time"],
        given: Int[np.ndarray, "batch answer"],
        is_given: Bool[np.ndarray, "batch answer"],
    ) -> Int[np.ndarray, "batch answer"]:
        """Answers to prompts; where `is_given`, the token is the one in `given`."""

    def read(self, question: Question) -> Int[np.ndarray, "batch answer"]:
        """Generated answers."""
        return self.generate(question.prompts, question.given, question.is_given)


class Reader(ABC):
    """Our side of an evaluation: it has the true answers, and feeds a model what it may see."""

    # Whether rounding is so small that another word is another answer.
    exact: ClassVar[bool]

    @abstractmethod
    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """Read whole examples; `check` compares teacher forcing with reading token by token."""

    @abstractmethod
    def error(self, said: str) -> Exception:
        """The exception to raise if causality does not hold."""


@final
class ModelPredictor(Reader):
    """A trained model; it generates from its own state, token by token."""

    exact = True

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def error(self, said: str) -> MixerError:
        """The exception blames the mixer."""
        return causality_error(said)

    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """The context is read once; the answer follows from its state, generated and teacher-
        forced.
        """
        if sample.labels is not None:
            return self._read_labelled(sample, check)
        device = self._model.head.weight.device
        tokens = torch.from_numpy(sample.tokens).to(device)
        supervised = torch.from_numpy(sample.supervised).to(device)
        # The token before the answer predicts its first one.
        prefix, answer = tokens.split([sample.answer_start, sample.answers.shape[1]], dim=1)
        reads: list[_Read] = []
        with torch.no_grad(), answering(self._model):
            _, start = self._model.advance(prefix[:, :-1])
            generated, steps = list[Tensor](), list[Tensor]()
            token, state = prefix[:, -1:], start
            for place in range(answer.shape[1]):
                step, state = self._model(token, state)
                steps.append(step)
                told = supervised[:, place : place + 1]
                token = torch.where(told, step.argmax(dim=-1), answer[:, place : place + 1])
                generated.append(token)
            own = torch.cat(generated, dim=1)
            true = tokens[:, sample.answer_start - 1 : -1]
            if check is not None:
                reads = _by_token(
                    check, torch.cat(steps, dim=1), own, answer, supervised,
                    lambda rows: self._along(true[rows], start, rows),
                )  # fmt: skip
            # Last: nothing that has seen an answer can be kept for what is read token by token.
            logits, _ = self._model(true, start)
            self._check_finite(tokens, [logits, *steps, *(read.logits for read in reads)])
            loss = F.cross_entropy(
                logits[supervised].float(), answer[supervised], reduction="sum"
            ).item()
            _compare(check, logits, answer, reads)
        return Reading(loss, logits.argmax(dim=-1).cpu().numpy(), own.cpu().numpy())

    def _read_labelled(self, sample: Sample, check: AnswerCheck | None) -> Reading:
        """Nothing is fed back: the text is read once, and what is said there is the answer."""
        device = self._model.head.weight.device
        tokens = torch.from_numpy(sample.tokens).to(device)
        state: ModelState | None = None

        def next_logits(rows: slice, start: int, end: int) -> Tensor:
            nonlocal state
            step, state = self._model(tokens[rows, start:end], state)
            last: Tensor = step[:, -1]
            return last

        with torch.no_grad(), answering(self._model):
            reads = _by_label(sample, check, next_logits)
            logits = self._model.last_logits(tokens[:, :-1], sample.answers.shape[1])
            self._check_finite(tokens, [logits, *(read.logits for read in reads)])
        return _of_labelled(sample, logits.float(), check, reads)

    def _check_finite(self, tokens: Tensor, scored: Sequence[Tensor]) -> None:
        """Raise if a logit that is scored or compared is not finite."""
        if all(bool(logits.isfinite().all()) for logits in scored):
            return
        # Only now: all places of the text, to say where it begins.
        whole, _ = self._model(tokens, None)
        token = first_place(~whole.isfinite().all(-1), tokens.shape[1] - 1)
        raise NotFiniteError("logits are not finite", token)

    def _along(self, told: Tensor, start: ModelState, rows: Tensor) -> Tensor:
        """Logits of examples from their state before the answer, one true token at a time."""
        state = ModelState(start.tokens, tuple(_rows_of(layer, rows) for layer in start.layers))
        steps = list[Tensor]()
        for token in told.split(1, dim=1):
            step, state = self._model(token, state)
            steps.append(step)
        return torch.cat(steps, dim=1)


def causality_error(said: str) -> MixerError:
    """The error for a mixer whose teacher-forced answers differ from those token by token."""
    return MixerError(
        f"Causality check failed {said}. The mixer is non-causal, inconsistent with its state, or "
        "random; run `rulekeep check`"
    )


def _rows_of(state: Any, rows: Tensor) -> Any:
    return getattr(state, "_make", tuple)([part[rows] for part in state])


@final
class OutsideReader(Reader):
    """An outside model: it gets copies, and the form of its output is checked."""

    # Its logits may be in bfloat16, or be those of a kernel that depends on the batch.
    exact = False

    def __init__(self, predictor: Predictor, words: int | None = None) -> None:
        """`words` is the number of words of the task."""
        self._predictor, self._words = predictor, words

    def error(self, said: str) -> PredictorError:
        """The exception blames the predictor."""
        return PredictorError(
            f"{type(self._predictor).__name__}: causality check failed {said}. Its logits see "
            "later tokens or are random; what looks at a whole prompt is a GeneratingPredictor"
        )

    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """Teacher-forced and greedily where it gives logits, else its answers.

        Raises:
            PredictorError: what it gives is no answer, right or wrong.
        """
        try:
            if _gives_logits(self._predictor):
                read = self._read_logits if sample.labels is None else self._read_labelled
                return read(self._predictor, sample, check)
            if sample.labels is None:
                own = self._answers(Question.of(sample))
            else:
                own = self._labels(sample)
        except PredictorError as error:
            name, length = type(self._predictor).__name__, sample.tokens.shape[1]
            said = f"{name} at {length} tokens: {error}"
            if isinstance(error, NotFiniteError):
                raise NotFiniteError(said, error.token) from None
            raise PredictorError(said) from None
        return Reading(None, None, own)

    def _answers(self, question: Question) -> np.ndarray:
        own = self._predictor.read(question)
        if said := _said_of_answers(own, ~question.is_given, self._words):
            raise PredictorError(said)
        return own

    def _labels(self, sample: Sample) -> np.ndarray:
        """Answers of a labelled task: each is asked for alone, after the text so far."""
        own = sample.answers.copy()
        for place in np.flatnonzero(sample.supervised.any(axis=0)):
            rows = np.flatnonzero(sample.supervised[:, place])
            start = sample.answer_start + place
            own[rows, place] = self._answers(Question.of_next(sample.tokens[rows, :start]))[:, 0]
        return own

    def _read_labelled(
        self, predictor: LogitsPredictor, sample: Sample, check: AnswerCheck | None
    ) -> Reading:
        tokens, start = torch.from_numpy(sample.tokens), sample.answer_start
        reads = _by_label(
            sample, check, lambda rows, _, end: _next_logits(predictor, tokens[rows], end)
        )
        logits = _logits(predictor, tokens[:, :-1], start - 1, self._words).float()
        return _of_labelled(sample, logits, check, reads)

    def _read_logits(
        self, predictor: LogitsPredictor, sample: Sample, check: AnswerCheck | None
    ) -> Reading:
        tokens, start = torch.from_numpy(sample.tokens), sample.answer_start
        supervised, answers = torch.from_numpy(sample.supervised), tokens[:, start:]
        own, steps = tokens.clone(), list[Tensor]()
        # What is given is not asked for: a reading of the whole text each would be in vain.
        asked = supervised.any(dim=0).nonzero()[:, 0]
        places, reads = (start + asked).tolist(), list[_Read]()

        def along(rows: Tensor) -> Tensor:
            of = tokens[rows]
            return torch.stack([_next_logits(predictor, of, place) for place in places], dim=1)

        with torch.no_grad():
            for place in places:
                steps.append(_next_logits(predictor, own, place, self._words))
                said = steps[-1].argmax(dim=-1)
                told = supervised[:, place - start]
                own[:, place] = torch.where(told, said, own[:, place])
            if check is not None:
                reads = _by_token(
                    check, torch.stack(steps, dim=1), own[:, places], tokens[:, places],
                    supervised[:, asked], along,
                )  # fmt: skip
            logits = _logits(predictor, tokens[:, :-1], start - 1, self._words).float()
            _compare(check, logits[:, asked], answers[:, asked], reads)
        loss = F.cross_entropy(logits[supervised], answers[supervised], reduction="sum").item()
        return Reading(loss, logits.argmax(dim=-1).numpy(), own[:, start:].numpy())


def _by_label(
    sample: Sample, check: AnswerCheck | None, next_logits: Callable[[slice, int, int], Tensor]
) -> "list[_Read]":
    """Some labelled texts read in pieces that end where a label is asked for, to compare.

    So no reading there was given a later token. `next_logits` goes on with these rows from a place
    to another.
    """
    rows = 0 if check is None else check.rows_of_labelled(len(sample.tokens))
    if not rows:
        return []
    asked = sample.supervised[:rows]
    alone: Tensor | None = None
    done = 0
    for place in np.flatnonzero(asked.any(axis=0)).tolist():
        end = sample.answer_start + place
        logits = next_logits(slice(rows), done, end).float()
        if alone is None:
            alone = logits.new_zeros(rows, asked.shape[1], logits.shape[-1])
        alone[:, place], done = logits, end
    if alone is None:
        return []
    where = torch.from_numpy(asked).to(alone.device)
    return [_Read(slice(rows), alone, where, whole=True)]


def _of_labelled(
    sample: Sample, logits: Tensor, check: AnswerCheck | None, reads: "list[_Read]"
) -> Reading:
    """What a labelled task scores: one reading is teacher-forced and generated alike."""
    labels = torch.from_numpy(sample.answers).to(logits.device)
    asked = torch.from_numpy(sample.supervised).to(logits.device)
    loss = F.cross_entropy(logits[asked], labels[asked], reduction="sum").item()
    _compare(check, logits, labels, reads)
    said = logits.argmax(dim=-1).cpu().numpy()
    return Reading(loss, said, np.where(sample.supervised, said, sample.answers))


def _gives_logits(predictor: Predictor) -> TypeGuard[LogitsPredictor]:
    """Whether it is read by its logits, and has no `read` of its own."""
    return isinstance(predictor, LogitsPredictor) and (type(predictor).read is LogitsPredictor.read)


class _Read(NamedTuple):
    """Logits of examples read token by token, and where they have read the true tokens."""

    rows: Tensor | slice
    logits: Tensor
    where: Tensor
    whole: bool


def _by_token(
    check: AnswerCheck, steps: Tensor, own: Tensor, answer: Tensor, supervised: Tensor,
    along: Callable[[Tensor], Tensor],
) -> list[_Read]:  # fmt: skip
    """Answers read token by token along the true tokens, to compare with teacher forcing.

    Up to the first mistake this is the generation itself. Of the rows with a mistake before their
    end, some are read again.
    """
    missed = ((own != answer) & supervised).int()
    same_before = missed.cumsum(1) - missed == 0
    reads = [_Read(slice(None), steps, same_before & supervised, whole=False)]
    rows = check.rows((supervised & ~same_before).any(1).cpu().numpy())
    if len(rows):
        at = torch.from_numpy(rows).to(steps.device)
        reads.append(_Read(at, along(at), supervised[at], whole=True))
    return reads


def _compare(check: AnswerCheck | None, told: Tensor, answer: Tensor, reads: list[_Read]) -> None:
    for read in reads:
        assert check is not None, "nothing was read for no check"
        rows = read.rows
        check.add(told[rows], read.logits, answer[rows], read.where, whole=read.whole)


def in_eval_mode(model: _Module) -> _Module:
    """The same model, from now on as where answers are scored."""
    for module in model.modules():
        module.training = False
    return model


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """A model in eval mode: parts for training alone, such as dropout, are off inside the block."""
    modes = [(module, module.training) for module in model.modules()]
    in_eval_mode(model)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _next_logits(
    predictor: LogitsPredictor, tokens: Tensor, place: int, words: int | None = None
) -> Tensor:
    """Logits of the token at a place, from the tokens before it alone."""
    return _logits(predictor, tokens[:, :place], place - 1, words)[:, 0]


def _logits(
    predictor: LogitsPredictor, tokens: Tensor, start: int, words: int | None = None
) -> Tensor:
    """Logits from a place on; raises PredictorError if their form is wrong."""
    with torch.no_grad():
        # A copy: what is written into it is written nowhere else.
        made = predictor.logits(tokens.clone())
    if not isinstance(made, Tensor):
        raise PredictorError(f"logits gave a {type(made).__name__}: give a torch tensor")
    least = words or 1
    if made.ndim != 3 or made.shape[:2] != tokens.shape or made.shape[2] < least:
        raise PredictorError(
            f"logits gave {tuple(made.shape)} for tokens {tuple(tokens.shape)}: "
            f"give [batch, time, vocabulary], here {(*tokens.shape, words or 'vocabulary')}"
        )
    scored = made[:, start:].detach().cpu()
    if made.is_complex() or made.dtype == torch.bool:
        odd = "complex numbers" if made.is_complex() else "truth values"
        raise PredictorError(f"logits gave {odd} for {tokens.shape[1]} tokens: give real numbers")
    for odd, fix, places in _ODD_LOGITS:
        if places(scored).any():
            said = f"logits gave {odd} for {tokens.shape[1]} tokens: give {fix}"
            raise NotFiniteError(said, first_place(places(made.detach().cpu()), start))
    return scored


# Minus infinity, as a mask has it, is allowed.
_ODD_LOGITS: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ("NaN", "real numbers", lambda logits: logits.isnan().any(2)),
    ("a logit beyond float32", "real numbers", lambda logits: logits.float().isposinf().any(2)),
    ("no finite logit", "one", lambda logits: logits.isinf().all(2)),
)


def _said_of_answers(
    own: object, asked: Bool[np.ndarray, "batch answer"], words: int | None
) -> str | None:
    """What is wrong with the form of answers; None if nothing is."""
    if isinstance(own, Reading):
        return (
            "read gave a Reading: give the answers alone, token ids; a loss and teacher-forced "
            "predictions come from the logits of a LogitsPredictor"
        )
    if not isinstance(own, np.ndarray) or not np.issubdtype(own.dtype, np.integer):
        kind = own.dtype if isinstance(own, np.ndarray) else f"a {type(own).__name__}"
        return f"its answers are {kind}: give token ids, an array of whole numbers"
    if own.shape != asked.shape:
        return f"its answers are {own.shape}: give {asked.shape}"
    if words is None:
        return None
    odd = own[asked & ((own < _NO_WORD) | (own >= words))]
    if len(odd):
        return (
            f"its answers have {odd[0]}: give token ids from 0 to {words - 1}, or {_NO_WORD} for "
            "what is no word of the task"
        )
    return None


def evaluate_samples(
    predictor: Reader | Predictor, task: SampledTask, split: Split, context: int, examples: int,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """One row of a record: split, context, loss in nats per supervised token, scores and chance.

    Where what would be scored is not finite, the row has no score, and says the first such token.

    Raises:
        MixerError, PredictorError: teacher-forced answers differ from those token by token.
    """
    words = len(task.vocabulary)
    reader = predictor if isinstance(predictor, Reader) else OutsideReader(predictor, words)
    check = AnswerCheck(task.name, split, context, seed, exact=reader.exact)
    losses, supervised = [], 0

    def parts() -> Iterator[tuple[Sample, AnswerTable, AnswerTable | None]]:
        nonlocal supervised
        rows = max(1, TOKENS_AT_ONCE // context)
        for start in range(0, examples, rows):
            n = min(rows, examples - start)
            sample = task.sample(split, context, n, seed=seed, start=start)
            reading = reader.read(sample, check)
            losses.append(reading.loss)
            supervised += int(sample.supervised.sum())
            forced = reading.predictions
            if forced is None:
                assert reading.generated is not None, "a predictor that predicts nothing"
                forced = reading.generated
            yield sample, forced, reading.generated

    try:
        scores = score_samples(parts())
    except NotFiniteError as error:
        row = {"split": split, "context": context, "n": examples}
        return {**row, "not_finite_from": error.token}
    if said := check.fault():
        raise reader.error(f"at {context} tokens: {said}")
    known = [loss for loss in losses if loss is not None]
    loss = sum(known) / supervised if len(known) == len(losses) else None
    # A right word that has no probability at all makes it infinite, which is no number of JSON.
    if loss is not None and not math.isfinite(loss):
        loss = None
    return {"split": split, "context": context, "val_loss": loss, **scores.as_dict()}


def answer_loss(
    logits: Float[Tensor, "batch answer v"],
    tokens: Int[Tensor, "batch context"],
    supervised: Bool[Tensor, "batch answer"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answer tokens, the last ones of each sequence."""
    answers = tokens[:, -logits.shape[1] :]
    if supervised is None:
        return F.cross_entropy(logits.flatten(0, 1), answers.flatten())
    return F.cross_entropy(logits[supervised], answers[supervised])
