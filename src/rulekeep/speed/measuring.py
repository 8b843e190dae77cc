"""What one process measures of speed: steps, tokens one by one, or peak memory.

    measure(spec, Point(part="model", threads=1, context=1028), progress)

A step is a forward and a backward pass without an optimiser. It is of the whole model (embeddings,
mixers, feed-forward layers, head, and a cross-entropy at every position), or of one mixer alone
with a gradient on all outputs. For a hybrid the latter is the mean over its mixers.

The repeats of all mixers are interleaved, every second round in reverse order. One of each warms
up.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rulekeep.executors.base import Progress
from rulekeep.mixers import Mixer
from rulekeep.mixers.base import auxiliary_loss
from rulekeep.registry import failure_line
from rulekeep.running import costs
from rulekeep.running.building import Resolved, prepare_process, resolve
from rulekeep.running.training import build
from rulekeep.specs import RunSpec, mixer_specs
from rulekeep.speed.record import Figure, Measured, Point, SpeedSpec

# Tokens that are timed at once, and how often: a median of as many.
DECODED_TOKENS, DECODED_ROUNDS = 8, 24
_WARM_UP_TOKENS = 16


# Figures of one mixer: `failed` has text.
_Row: TypeAlias = "dict[Figure, Sequence[float] | str]"
_Rows = dict[tuple[int | None, str], _Row]


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


def measure(spec: SpeedSpec, point: Point, progress: Progress) -> tuple[Measured, ...]:
    """Measure a point, in a process that has measured nothing else.

    A mixer that fails gets a row that says why.
    """
    prepare_process(point.threads)
    start, elsewhere = time.perf_counter(), _seconds_elsewhere()
    if point.part in ("model", "mixer"):
        rows = _steps(spec, point, progress)
    elif point.part == "decode":
        rows = _decoding(spec, progress)
    else:
        rows = {(point.context, point.mixer): _peak(spec, point)}
    after = _seconds_elsewhere()
    if elsewhere is not None and after is not None:
        cores = max(0.0, after - elsewhere) / (time.perf_counter() - start)
        rows.setdefault((point.context, ""), {})["other_cores"] = [cores]
    return tuple(
        row(point, at, mixer, figure, values)
        for (at, mixer), own in rows.items()
        for figure, values in own.items()
    )


def row(
    point: Point, context: int | None, mixer: str, figure: Figure, values: Sequence[float] | str
) -> Measured:
    """A row of the table."""
    of = {"part": point.part, "threads": point.threads, "context": context, "mixer": mixer}
    found = {"why": values} if isinstance(values, str) else {"values": tuple(values)}
    return Measured.parse(**{**of, "figure": figure, **found})


def resolved(spec: SpeedSpec, mixer: str) -> Resolved:
    """A mixer in the model that its speed is measured in.

    Raises:
        UsageError: there is no such mixer or option.
    """
    (one,) = mixer_specs(mixer)
    model = {"width": spec.width, "layers": spec.layers, "device": spec.device}
    # In the order that it was read: an option may have the name of a setting.
    options = {**one.options, **one.settings}
    return resolve(RunSpec.parse(**{"mixer": one.mixer, "mixer_options": options, **model}))


class _Work(NamedTuple):
    """What is timed of a mixer at a context: `unit` times its seconds is the figure."""

    context: int
    run: Callable[[], None]
    unit: float
    row: _Row


def _steps(spec: SpeedSpec, point: Point, progress: Progress) -> _Rows:
    """Steps of every mixer, with the rate of one large product in every round."""
    assert point.context is not None
    context, is_whole, rates = point.context, point.part == "model", list[float]()
    is_counted = is_whole and point.threads == 1
    make = _model_step if is_whole else _mixer_step

    def works(made: Resolved) -> list[_Work]:
        step = make(made, spec.batch(context), context)
        return [_Work(context, step, 1.0 if is_whole else 1 / len(_kinds(made)), {})]

    def each_round() -> None:
        if is_counted:
            rates.append(costs.product_rate(spec.device))

    rows = _in_turn(
        spec, works, "seconds", spec.repeats, progress, is_counted=is_counted, each_round=each_round
    )
    return rows | ({(context, ""): {"product_rate": rates}} if rates else {})


def _in_turn(
    spec: SpeedSpec,
    works: Callable[[Resolved], list[_Work]],
    figure: Figure,
    rounds: int,
    progress: Progress,
    *,
    is_counted: bool = False,
    each_round: Callable[[], None] = lambda: None,
) -> _Rows:
    """The work of every mixer, interleaved, so many times after one to warm up."""
    rows, ready = _Rows(), dict[str, list[_Work]]()
    for place, mixer in enumerate(spec.mixers, start=1):
        try:
            found = works(resolved(spec, mixer))
            made = [{**one.row, **_warmed(one.run, is_counted=is_counted)} for one in found]
        # A plug-in's own: the others are measured all the same.
        except Exception as error:
            rows[None, mixer] = {"failed": failure_line(error)}
        else:
            ready[mixer] = found
            rows |= {(w.context, mixer): row for w, row in zip(found, made, strict=True)}
        progress(place)
    taken: dict[tuple[int | None, str], list[float]] = defaultdict(list)
    steps = len(spec.mixers) * spec.repeats / max(1, len(ready) * rounds)
    for turn in range(rounds):
        each_round()
        # So that a machine that grows slower or faster does so for all alike.
        for place, mixer in enumerate(list(ready) if turn % 2 == 0 else reversed(list(ready)), 1):
            for one in ready[mixer]:
                start = time.perf_counter()
                one.run()
                wait_for(spec.device)
                taken[one.context, mixer].append((time.perf_counter() - start) * one.unit)
            progress(round(len(spec.mixers) + steps * (turn * len(ready) + place)))
    for key, values in taken.items():
        rows[key][figure] = values
    return rows


def _warmed(step: Callable[[], None], *, is_counted: bool) -> _Row:
    """The operators that a first step dispatches, and their products; it warms up."""
    if not is_counted:
        step()
        return {}
    with CallCounter() as counter:
        step()
    launches = counter.calls - counter.views
    return {"calls": [counter.calls], "launches": [launches], "flops": [counter.flops]}


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
def _decoding(spec: SpeedSpec, progress: Progress) -> _Rows:
    """One token after another from the states that random tokens have left."""

    def works(made: Resolved) -> list[_Work]:
        model = build(made).to(spec.device)
        tokens = torch.randint(len(made.task.vocabulary), (1, spec.decoded_at[-1])).to(spec.device)
        following = tokens[:, :DECODED_TOKENS].split(1, dim=1)
        states = {at: model.advance(tokens[:, :at])[1] for at in spec.decoded_at}

        def decode(at: int) -> None:
            for token in following:
                _, states[at] = model(token, states[at])

        return [
            _Work(at, partial(decode, at), 1000 / len(following), {"state_bytes": [size]})
            for at, state in states.items()
            for size in [costs.state_bytes(state.layers)]
        ]

    return _in_turn(spec, works, "decode_ms", DECODED_ROUNDS, progress)


def _peak(spec: SpeedSpec, point: Point) -> _Row:
    """The memory of a step of one sequence, beyond what the process had before."""
    assert point.context is not None
    try:
        made = resolved(spec, point.mixer)
        step = _model_step(made, 1, point.context)
        # The libraries' own pages are touched by a step of whatever length.
        _model_step(made, 1, min(_WARM_UP_TOKENS, point.context))()
        start = costs.peak_memory_bytes(made.spec.device)
        step()
        return {"peak_bytes": [costs.peak_memory_bytes(made.spec.device) - start]}
    except Exception as error:
        return {"failed": failure_line(error)}


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
