"""What one process measures of speed: steps, tokens one by one, or peak memory.

    measure(Job(spec, Point(part="model", threads=1, context=1028)), progress)

A step is a forward and a backward pass without an optimiser. It is of the whole model (embeddings,
mixers, feed-forward layers, head, and a cross-entropy at every position), or of one mixer alone
with a gradient on all outputs. For a hybrid the latter is the mean over its mixers.

The repeats of all mixers are interleaved, every second round in reverse order. One step of each
warms up.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rulekeep.executors.base import Progress
from rulekeep.mixers import Mixer
from rulekeep.mixers.base import auxiliary_loss
from rulekeep.registry import failure_line
from rulekeep.running import costs
from rulekeep.running.building import Resolved, resolve
from rulekeep.running.training import build
from rulekeep.specs import RunSpec
from rulekeep.speed.record import Decoded, Measured, Point, Row, SpeedMixer, SpeedSpec

# Tokens that are timed at once, and how often: a median of as many.
DECODED_TOKENS, DECODED_ROUNDS = 8, 24
_WARM_UP_TOKENS = 16


class Job(NamedTuple):
    """What a process has to measure."""

    spec: SpeedSpec
    point: Point


class CallCounter(TorchDispatchMode):
    """Counts the operators that torch dispatches inside the `with` block, and their products.

    Below autograd: a fused kernel is one, and so is an LSTM; views launch nothing on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.views = 0
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Counts one and passes it on."""
        self.calls += 1
        self.views += func.is_view
        result = func(*args, **(kwargs or {}))
        self.flops += costs.products_of(func, args, kwargs or {}, result)
        return result


def measure(job: Job, progress: Progress) -> Measured:
    """Measure a point, in a process that has measured nothing else.

    A mixer that fails gets a row that says why.
    """
    spec, point = job
    costs.prepare_process(point.threads)
    start, elsewhere = time.perf_counter(), _seconds_elsewhere()
    rates = list[float]()
    if point.part in ("model", "mixer"):
        rows = _steps(spec, point, progress, rates)
    elif point.part == "decode":
        rows = _decoding(spec, progress)
    else:
        rows = _peak(spec, point)
    seconds, after = time.perf_counter() - start, _seconds_elsewhere()
    others = None if elsewhere is None or after is None else max(0.0, after - elsewhere) / seconds
    return Measured(
        point=point, rows=rows, seconds=seconds, other_cores=others, product_rates=tuple(rates)
    )


def resolved(spec: SpeedSpec, mixer: SpeedMixer) -> Resolved:
    """A mixer in the model that its speed is measured in.

    Raises:
        UsageError: there is no such mixer or option.
    """
    model = {"width": spec.width, "layers": spec.layers, "device": spec.device}
    return resolve(RunSpec.parse(**{"mixer": mixer.name, "mixer_options": mixer.options, **model}))


def _steps(spec: SpeedSpec, point: Point, progress: Progress, rates: list[float]) -> dict[str, Row]:
    """Steps of every mixer, interleaved; `rates` gets that of one large product in every round."""
    assert point.context is not None
    make = _model_step if point.part == "model" else _mixer_step
    is_counted = point.part == "model" and point.threads == 1
    steps, rows = dict[str, Callable[[], None]](), dict[str, Row]()
    layers, done = dict[str, int](), 0
    for mixer in spec.mixers:
        try:
            made = resolved(spec, mixer)
            step = make(made, spec.batch(point.context), point.context)
            rows[mixer.label] = _warmed(step, is_counted=is_counted)
        # A plug-in's own: the others are measured all the same.
        except Exception as error:
            rows[mixer.label] = Row(failed=failure_line(error))
        else:
            steps[mixer.label] = step
            layers[mixer.label] = 1 if point.part == "model" else len(_kinds(made))
        done += 1
        progress(done)
    seconds: dict[str, list[float]] = {label: [] for label in steps}
    for turn in range(spec.repeats):
        if is_counted:
            rates.append(costs.product_rate(spec.device))
        # So that a machine that grows slower or faster does so for all alike.
        for label in list(steps) if turn % 2 == 0 else reversed(list(steps)):
            start = time.perf_counter()
            steps[label]()
            wait_for(spec.device)
            seconds[label].append((time.perf_counter() - start) / layers[label])
            done += 1
            progress(done)
    for label, taken in seconds.items():
        rows[label] = rows[label].model_copy(update={"seconds": tuple(taken)})
    return rows


def _warmed(step: Callable[[], None], *, is_counted: bool) -> Row:
    """The operators that a first step dispatches, and their products; it warms up."""
    if not is_counted:
        step()
        return Row()
    with CallCounter() as counter:
        step()
    launches = counter.calls - counter.views
    return Row(calls=counter.calls, launches=launches, flops=counter.flops)


def _model_step(made: Resolved, batch: int, context: int) -> Callable[[], None]:
    model = build(made).to(made.spec.device)
    tokens = torch.randint(len(made.task.vocabulary), (batch, context)).to(made.spec.device)

    def step() -> None:
        model.zero_grad()
        logits, _ = model(tokens)
        # Which tokens are the targets makes no difference to the time.
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        penalty = auxiliary_loss(model, 1)
        (loss if penalty is None else loss + penalty).backward()

    return step


def _mixer_step(made: Resolved, batch: int, context: int) -> Callable[[], None]:
    device = made.spec.device
    mixers = [make().to(device) for make in _kinds(made).values()]
    x = torch.randn(batch, context, made.spec.width).to(device).requires_grad_()
    gradient = torch.randn_like(x)

    def step() -> None:
        for mixer in mixers:
            x.grad = None
            mixer.zero_grad()
            y, _ = mixer(x)
            ends, gradients = [y], [gradient]
            if (penalty := auxiliary_loss(mixer, 1)) is not None:
                ends.append(penalty)
                gradients.append(torch.ones_like(penalty))
            torch.autograd.backward(ends, gradients)

    return step


def _kinds(made: Resolved) -> Mapping[str, Callable[[], Mixer]]:
    """One mixer, or of a hybrid one of each."""
    return dict(zip(made.spec.mixers, made.mixers, strict=True))


@torch.no_grad()
def _decoding(spec: SpeedSpec, progress: Progress) -> dict[str, Row]:
    """One token after another from the states that random tokens have left, all mixers in turn."""
    rows, of = dict[str, Row](), dict[str, _Decoder]()
    for mixer in spec.mixers:
        try:
            of[mixer.label] = _Decoder(spec, mixer)
        # A plug-in's own: the others are measured all the same.
        except Exception as error:
            rows[mixer.label] = Row(failed=failure_line(error))
        progress(len(of) + len(rows))
    for turn in range(DECODED_ROUNDS):
        labels = list(of)
        for label in labels if turn % 2 == 0 else reversed(labels):
            of[label].decode()
    return {label: one.found() for label, one in of.items()} | rows


class _Decoder:
    """A model, its states after several contexts, and what a token took from each."""

    def __init__(self, spec: SpeedSpec, mixer: SpeedMixer) -> None:
        made = resolved(spec, mixer)
        self._device, self._model = spec.device, build(made).to(spec.device)
        tokens = torch.randint(len(made.task.vocabulary), (1, spec.decoded_at[-1])).to(spec.device)
        self._states = {at: self._model.advance(tokens[:, :at])[1] for at in spec.decoded_at}
        self._sizes = {at: costs.state_bytes(one.layers) for at, one in self._states.items()}
        self._following = tokens[:, :DECODED_TOKENS].split(1, dim=1)
        self._ms: dict[int, list[float]] = {at: [] for at in self._states}
        # The first round warms up.
        self.decode()
        for times in self._ms.values():
            times.clear()

    def decode(self) -> None:
        """A few tokens after each context."""
        for at, state in self._states.items():
            start = time.perf_counter()
            for token in self._following:
                _, state = self._model(token, state)
            wait_for(self._device)
            self._states[at] = state
            self._ms[at].append(1000 * (time.perf_counter() - start) / len(self._following))

    def found(self) -> Row:
        """The sizes of the states, and the times."""
        return Row(
            contexts=tuple(
                Decoded(context=at, state_bytes=size, ms_per_token=tuple(self._ms[at]))
                for at, size in self._sizes.items()
            )
        )


def _peak(spec: SpeedSpec, point: Point) -> dict[str, Row]:
    """The memory of a step of one sequence, beyond what the process had before."""
    assert point.context is not None
    (mixer,) = (one for one in spec.mixers if one.label == point.mixer)
    try:
        made = resolved(spec, mixer)
        step = _model_step(made, 1, point.context)
        # The libraries' own pages are touched by a step of whatever length.
        _model_step(made, 1, min(_WARM_UP_TOKENS, point.context))()
        start = costs.peak_memory_bytes(made.spec.device)
        step()
        peak = Row(start_bytes=start, peak_bytes=costs.peak_memory_bytes(made.spec.device))
    except Exception as error:
        return {mixer.label: Row(failed=failure_line(error))}
    return {mixer.label: peak}


def wait_for(device: str) -> None:
    """Wait until a GPU has finished: only then is a step complete."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def _seconds_elsewhere() -> float | None:
    """Processor seconds of all other processes, if the system counts them."""
    try:
        line, *_ = Path("/proc/stat").read_text().splitlines()
        # user, nice, system, idle, waiting for disks, two kinds of interrupts, other machines
        fields = [int(field) for field in line.split()[1:9]]
    except (OSError, ValueError):
        return None
    busy = sum(fields) - sum(fields[3:5])
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()
