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
from typing import Any, ClassVar, NamedTuple, TypeVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.analysis.metrics import score_samples
from rulekeep.mixers.base import MixerError
from rulekeep.running.causality import AnswerCheck, causality_error, first_place
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.running.predictors import (
    GeneratingPredictor,
    LogitsPredictor,
    NotFiniteError,
    Predictor,
    PredictorError,
    Question,
    Reading,
)
from rulekeep.tasks.base import AnswerTable, Split
from rulekeep.tasks.sampled import Sample, SampledTask

# Who evaluates a model of their own imports these from here.
__all__ = [
    "GeneratingPredictor", "LogitsPredictor", "ModelPredictor", "NotFiniteError", "OutsideReader",
    "Predictor", "PredictorError", "Question", "Reading", "evaluate_samples",
]  # fmt: skip
_Module = TypeVar("_Module", bound=nn.Module)
# As many tokens as a predictor is given at once: what an outsider can hold is its own affair.
TOKENS_AT_ONCE = 2**16
# A generated word that the task does not have.
_NO_WORD = -1


class Reader(ABC):
    """Our side of an evaluation: it has the true answers, and feeds a model what it may see."""

    # Whether rounding is so small that another word is another answer.
    exact: ClassVar[bool]

    @abstractmethod
    def error(self, said: str) -> Exception:
        """The exception to raise if causality does not hold."""

    @abstractmethod
    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """Read whole examples; `check` compares teacher forcing with reading token by token."""


class LogitsReader(Reader):
    """A reader of what gives logits: one evaluation, told once for all of these."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model reads."""

    @abstractmethod
    def begin(self, prefix: Int[Tensor, "batch time"]) -> Any:
        """What is kept of the text before the answer, but for its last token."""

    @abstractmethod
    def after(
        self, text: Int[Tensor, "batch time"], read: int, state: Any
    ) -> tuple[Float[Tensor, "batch vocabulary"], Any]:
        """Logits of the token after a text, of which `state` holds the first `read` tokens."""

    @abstractmethod
    def at_once(self, sample: Sample, tokens: Int[Tensor, "batch time"], state: Any) -> Tensor:
        """Logits at all places of the answer, `[batch, answer, vocabulary]`, of a text told whole.

        `state` is that of `begin`; None where a task is labelled.
        """

    @abstractmethod
    def check_finite(self, tokens: Tensor, scored: Sequence[Tensor]) -> None:
        """Raise NotFiniteError if a logit that is scored or compared is not finite."""

    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """Teacher-forced, generated, and token by token along the true answers.

        The context is read once. The answer follows from it token by token, generated; then all at
        once, teacher-forced. Of a labelled task nothing is fed back: what is said at once is the
        answer, and some texts are read token by token to compare.
        """
        tokens, supervised, answers = (
            torch.from_numpy(table).to(self.device)
            for table in (sample.tokens, sample.supervised, sample.answers)
        )
        start = sample.answer_start
        # What is given is not asked for.
        asked = supervised.any(dim=0).nonzero()[:, 0]
        state, own, reads = None, answers, list[_Read]()
        with torch.no_grad():
            if sample.labels is None:
                state = self.begin(tokens[:, : start - 1])
                own, steps = self._by_token(tokens, start, asked, state, supervised)
                missed = ((own != answers) & supervised)[:, asked].int()
                same_before = missed.cumsum(1) - missed == 0
                # Up to the first mistake, what is generated has read the true tokens.
                where = same_before & supervised[:, asked]
                reads = [_Read(slice(None), steps, where, whole=False)]
                if check is not None:
                    unread = (supervised[:, asked] & ~same_before).any(1).cpu().numpy()
                    rows = torch.from_numpy(check.rows(unread)).to(self.device)
                    if len(rows):
                        kept = _rows_of(state, rows)
                        _, along = self._by_token(tokens[rows], start, asked, kept)
                        reads.append(_Read(rows, along, supervised[rows][:, asked], whole=True))
            elif check is not None and (n := check.rows_of_labelled(len(tokens))):
                first = self.begin(tokens[:n, : start - 1])
                _, along = self._by_token(tokens[:n], start, asked, first)
                reads = [_Read(slice(n), along, supervised[:n, asked], whole=True)]
            # Last: nothing that has seen an answer can be kept for what is read token by token.
            told = self.at_once(sample, tokens, state)
            self.check_finite(tokens, [told, *(one.logits for one in reads)])
        if check is not None:
            for some, logits, where, whole in reads:
                check.add(told[some][:, asked], logits, answers[some][:, asked], where, whole=whole)
        loss = F.cross_entropy(told[supervised].float(), answers[supervised], reduction="sum")
        said = told.argmax(dim=-1)
        if sample.labels is not None:
            own = torch.where(supervised, said, answers)
        return Reading(loss.item(), said.cpu().numpy(), own.cpu().numpy())

    def _by_token(
        self, tokens: Tensor, start: int, asked: Tensor, state: Any,
        generated: Bool[Tensor, "batch answer"] | None = None,
    ) -> tuple[Int[Tensor, "batch answer"], Float[Tensor, "batch asked vocabulary"]]:  # fmt: skip
        """Answers, and logits where a token is asked for, each from the tokens before it alone.

        Where `generated`, a token is the most likely one, and the rest follows it.
        """
        text, read, steps = tokens.clone(), start - 1, list[Tensor]()
        for column in asked.tolist():
            place = start + column
            logits, state = self.after(text[:, :place], read, state)
            steps.append(logits)
            read = place
            if generated is not None:
                own = logits.argmax(dim=-1)
                text[:, place] = torch.where(generated[:, column], own, text[:, place])
        return text[:, start:], torch.stack(steps, dim=1)


class _Read(NamedTuple):
    """Logits of examples read token by token, and where they have read the true tokens."""

    rows: Tensor | slice
    logits: Tensor
    where: Tensor
    whole: bool


@final
class ModelPredictor(LogitsReader):
    """A trained model; it goes on from its own state."""

    exact = True

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._model.head.weight.device

    def error(self, said: str) -> MixerError:
        """The exception blames the mixer."""
        return causality_error(said)

    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """In eval mode."""
        with answering(self._model):
            return super().read(sample, check)

    def begin(self, prefix: Tensor) -> ModelState:
        """The state after the prefix."""
        return self._model.advance(prefix)[1]

    def after(self, text: Tensor, read: int, state: ModelState) -> tuple[Tensor, ModelState]:
        """It reads what is new."""
        logits, state = self._model(text[:, read:], state)
        return logits[:, -1], state

    def at_once(self, sample: Sample, tokens: Tensor, state: ModelState | None) -> Tensor:
        """The answer from the state before it, or the whole text."""
        if state is None:
            return self._model.last_logits(tokens[:, :-1], sample.answers.shape[1])
        logits: Tensor = self._model(tokens[:, sample.answer_start - 1 : -1], state)[0]
        return logits

    def check_finite(self, tokens: Tensor, scored: Sequence[Tensor]) -> None:
        """No logit may be infinite or NaN."""
        if all(bool(logits.isfinite().all()) for logits in scored):
            return
        # Only now: all places of the text, to say where it begins.
        whole, _ = self._model(tokens, None)
        token = first_place(~whole.isfinite().all(-1), tokens.shape[1] - 1)
        raise NotFiniteError("logits are not finite", token)


def _rows_of(state: Any, rows: Tensor) -> Any:
    """The rows of the state of a model, layer by layer; there may be none."""
    if state is None:
        return None
    layers = (
        getattr(layer, "_make", tuple)([part[rows] for part in layer]) for layer in state.layers
    )
    return ModelState(state.tokens, tuple(layers))


@final
class OutsideReader(LogitsReader):
    """An outside model: it gets copies, and the form of its output is checked."""

    # Its logits may be in bfloat16, or be those of a kernel that depends on the batch.
    exact = False
    device = torch.device("cpu")

    def __init__(self, predictor: Predictor, words: int) -> None:
        """`words` is the number of words of the task."""
        self._predictor, self._words = predictor, words

    def error(self, said: str) -> PredictorError:
        """The exception blames the predictor."""
        return PredictorError(
            f"{type(self._predictor).__name__}: causality check failed {said}. Its logits see "
            "later tokens or are random; what looks at a whole prompt is a GeneratingPredictor"
        )

    def read(self, sample: Sample, check: AnswerCheck | None = None) -> Reading:
        """Teacher-forced and greedily where it gives logits, else its answers."""
        try:
            # One with a `read` of its own is read by that.
            if getattr(type(self._predictor), "read", None) is LogitsPredictor.read:
                return super().read(sample, check)
            if sample.labels is None:
                return Reading(None, None, self._answers(Question.of(sample)))
            return Reading(None, None, self._labels(sample))
        except PredictorError as error:
            name, length = type(self._predictor).__name__, sample.tokens.shape[1]
            said = f"{name} at {length} tokens: {error}"
            if isinstance(error, NotFiniteError):
                raise NotFiniteError(said, error.token) from None
            raise PredictorError(said) from None

    def begin(self, prefix: Tensor) -> None:
        """It keeps nothing: each call reads the whole text."""

    def after(self, text: Tensor, read: int, state: None) -> tuple[Tensor, None]:  # noqa: ARG002
        """It reads all of it."""
        return self._logits(text, text.shape[1] - 1)[:, 0], state

    def at_once(self, sample: Sample, tokens: Tensor, state: None) -> Tensor:  # noqa: ARG002
        """The whole text."""
        return self._logits(tokens[:, :-1], sample.answer_start - 1)

    def check_finite(self, tokens: Tensor, scored: Sequence[Tensor]) -> None:
        """Every call is checked as it is made."""

    def _logits(self, tokens: Tensor, start: int) -> Tensor:
        """Logits from a place on; raises PredictorError if their form is wrong."""
        assert isinstance(self._predictor, LogitsPredictor)
        # A copy: what is written into it is written nowhere else.
        made = self._predictor.logits(tokens.clone())
        if not isinstance(made, Tensor):
            raise PredictorError(f"logits gave a {type(made).__name__}: give a torch tensor")
        if made.ndim != 3 or made.shape[:2] != tokens.shape or made.shape[2] < self._words:
            raise PredictorError(
                f"logits gave {tuple(made.shape)} for tokens {tuple(tokens.shape)}: "
                f"give [batch, time, vocabulary], here {(*tokens.shape, self._words)}"
            )
        made = made.detach().cpu().float()
        for odd, places in _ODD_LOGITS:
            if places(made[:, start:]).any():
                said = f"logits gave {odd} for {tokens.shape[1]} tokens: give real numbers"
                raise NotFiniteError(said, first_place(places(made), start))
        return made[:, start:]

    def _answers(self, question: Question) -> np.ndarray:
        own = self._predictor.read(question)
        if not isinstance(own, np.ndarray) or not np.issubdtype(own.dtype, np.integer):
            kind = own.dtype if isinstance(own, np.ndarray) else f"a {type(own).__name__}"
            raise PredictorError(f"its answers are {kind}: give token ids, an array of int64")
        if own.shape != question.given.shape:
            raise PredictorError(f"its answers are {own.shape}: give {question.given.shape}")
        odd = own[~question.is_given & ((own < _NO_WORD) | (own >= self._words))]
        if len(odd):
            raise PredictorError(
                f"its answers have {odd[0]}: give token ids from 0 to {self._words - 1}, or "
                f"{_NO_WORD} for what is no word of the task"
            )
        return own

    def _labels(self, sample: Sample) -> np.ndarray:
        """Answers of a labelled task: each is asked for alone, after the text so far."""
        own = sample.answers.copy()
        for place in np.flatnonzero(sample.supervised.any(axis=0)):
            rows = np.flatnonzero(sample.supervised[:, place])
            start = sample.answer_start + place
            own[rows, place] = self._answers(Question.of_next(sample.tokens[rows, :start]))[:, 0]
        return own


# What has no score. Minus infinity, as a mask has it, is allowed.
_ODD_LOGITS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("NaN", lambda logits: logits.isnan().any(2)),
    ("a logit beyond float32", lambda logits: logits.isposinf().any(2)),
    ("no finite logit", lambda logits: logits.isinf().all(2)),
)


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
    return {"split": split, "context": context, "val_loss": loss, **scores}
