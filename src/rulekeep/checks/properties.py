"""The properties of a mixer: each says whether it holds, and what was compared.

`PROPERTIES` is the list, in the order of the rows that `check_mixer` returns.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rulekeep.checks import runs
from rulekeep.checks.gaps import Gaps
from rulekeep.checks.measures import HORIZON, state_sizes, trace_half_life
from rulekeep.checks.screening import (
    randomize_zero_parameters,
    said_of_call,
    said_of_numbers,
    said_of_output,
    said_of_parts,
    said_of_result,
    said_of_state,
    said_of_training,
)
from rulekeep.mixers import Mixer
from rulekeep.mixers.base import Outside, part_of
from rulekeep.plugins import failure_line
from rulekeep.running.causality import changes
from rulekeep.running.evaluation import in_eval_mode
from rulekeep.running.mixers import adapter
from rulekeep.running.model import LanguageModel
from rulekeep.running.model_training import global_streams
from rulekeep.seeds import named_seed

# Around the edges of chunks of 16 and 64.
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 130, 257)
BATCHES = (1, 3)
# As long as answers are: a run reads them in one call from a state, and scores what it is told.
ANSWERS = range(3, 15)
# Beyond the lengths that a kernel is often written for, once: each token costs a loop its time.
LONG = 1100
# What the usual chunks divide: a kernel may have a path of its own for such a text.
ROUND = 1024
# Between these and the shorter ones.
BETWEEN = (300, 511)
# Further than a run looks itself, in one call without a gradient.
FURTHEST = 4096
# As many sequences as are scored at once, and one more.
MANY = 257
# The largest difference, as a share of the largest value of the same tensor.
ALLOWED = 1e-8
ALLOWED_IN_FLOAT32 = 1e-3
ALLOWED_OF_SLOPES = 1e-5
# A change that float64 has and float32 has not.
_NEAR = 1e-13

# Tokens of a hard input; eight times as many of the same.
HARD = 512

Verdict: TypeAlias = tuple[bool | None, str]


class Subject(NamedTuple):
    """A mixer to check against the contract, and the sizes to check it at."""

    make: Callable[[], Mixer]
    # The same as a loop over tokens, if it has one.
    make_loop: Callable[[], Mixer] | None
    width: int
    lengths: Sequence[int]
    # Batch, tokens and width of every call so far: what an exception does not say itself.
    calls: list[list[int]]
    device: str = "cpu"
    # In eval mode, in which answers are scored.
    scored: bool = False

    def made(self, dtype: torch.dtype = torch.float64, *, loop: bool = False) -> Mixer:
        """The mixer, always with the same weights; complex ones with parts of this precision.

        Trained weights that start at 0 are drawn at random: otherwise what they shut could not be
        compared.
        """
        return randomize_zero_parameters(self.as_it_starts(dtype, loop=loop))

    def as_it_starts(self, dtype: torch.dtype = torch.float64, *, loop: bool = False) -> Mixer:
        """The same with the zeros that it starts with."""
        make = self.make_loop if loop else self.make
        assert make is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            mixer = runs.in_precision(make().to(self.device), dtype)
        if self.scored:
            in_eval_mode(mixer)
        part_of(mixer).register_forward_pre_hook(
            lambda _, given: self.calls.append(list(getattr(given[0], "shape", [])))
        )
        return mixer

    def drawn(self, batch: int, time: int, seed: int = 0) -> Tensor:
        """As `runs.drawn`, on the device."""
        return runs.drawn(batch, time, self.width, seed).to(self.device)

    def other(self, shape: torch.Size) -> Tensor:
        """Another text of this form."""
        return self.drawn(shape[0], shape[1], seed=9)

    def sizes(self, shortest: int = 1) -> Iterator[tuple[int, int]]:
        """Batches and lengths."""
        for batch in BATCHES:
            yield from ((batch, length) for length in self.lengths if length >= shortest)

    def texts(self, shortest: int = 1) -> Iterator[tuple[int, int]]:
        """The same, then long texts and the lengths of answers."""
        yield from self.sizes(shortest)
        yield from ((1, length) for length in (*BETWEEN, ROUND, LONG, FURTHEST))
        yield from ((3, length) for length in ANSWERS)


def answers_otherwise(subject: Subject) -> bool:
    """Whether a call in eval mode gives, or writes to, anything else than one in train mode."""
    mixers = subject.made(), subject._replace(scored=True).made()
    for batch, length in subject.texts():
        x = subject.drawn(batch, length)
        try:
            with torch.no_grad():
                state = runs.left_over(mixers[0], batch, subject.width)
                pairs = zip(*(_all_of_call(mixer, x, state) for mixer in mixers), strict=True)
                if any(one.dtype != new.dtype or not torch.equal(one, new) for one, new in pairs):
                    return True
        # The property that it breaks says what is wrong.
        except (Exception, SystemExit):
            return True
    return False


def _all_of_call(mixer: Mixer, x: Tensor, state: Any) -> list[Tensor]:
    x, state = x.clone(), runs.like(state, [part.clone() for part in state])
    y, after = mixer(x, state)
    return [y, *after, x, *state]


def form(subject: Subject) -> Verdict:
    """A tensor as the input is, and a tuple of tensors with the batch first."""
    mixer, parts = subject.as_it_starts(), list[list[int]]()
    if not callable(getattr(part_of(mixer), "init_state", None)):
        return False, (
            "it has no init_state: a layer without a state goes behind rulekeep.Stateless, "
            f"{adapter(type(part_of(mixer)).__name__)}"
        )
    if said := said_of_call(mixer):
        return False, said
    if not subject.scored:
        # In float32: a part that the mixer does not hold follows no other precision.
        x, learns = subject.drawn(1, 17).float(), subject.as_it_starts(torch.float32)
        if said := said_of_training(learns, x):
            return False, said
    for batch, length in subject.sizes():
        x = subject.drawn(batch, length)
        result = part_of(mixer)(x, None)
        said = said_of_result(result) or said_of_state(mixer.init_state(batch), batch)
        said = said or said_of_state(result[1], batch) or said_of_output(result[0], x)
        if said := said or said_of_numbers(result[0]):
            return False, said
        parts = [list(part.shape[1:]) for part in result[1]]
    return True, f"output as the input; state of a sequence {parts} after {length} tokens"


def initial_state(subject: Subject) -> Verdict:
    """Without a state it starts from its initial one."""
    gaps, mixer = Gaps(0.0), subject.made()
    for batch, length in subject.sizes():
        x = subject.drawn(batch, length)
        with torch.no_grad():
            found, expected = mixer(x), mixer(x, mixer.init_state(batch))
        gaps.add(runs.named(*found), runs.named(*expected), f"{length} tokens, batch {batch}")
    return gaps.verdict


def causal(subject: Subject) -> Verdict:
    """What comes later changes nothing before."""
    gaps = Gaps(ALLOWED)
    for batch, length in subject.texts(shortest=2):
        x = subject.drawn(batch, length)
        # Of a long text no half: there may be an edge of every chunk, with nothing across it.
        cuts = sorted({1, length // (3 if length >= ROUND else 2), length - 1})
        with torch.no_grad():
            for make in (subject.made, subject.as_it_starts):
                mixer = make()
                state = runs.left_over(mixer, batch, subject.width)
                found = [*changes(partial(_read, mixer, state), x, cuts, subject.other)]
                # Weights that are drawn may grow out of all numbers on a long text.
                if found[0][1].isfinite().all():
                    break
        if said := said_of_numbers(found[0][1]):
            return False, f"{said} ({length} tokens, batch {batch})"
        for cut, before, after in found:
            where = f"{length} tokens, batch {batch}, tokens from {cut} on replaced"
            gaps.add({"output": after[:, :cut]}, {"output": before[:, :cut]}, where)
    holds, said = gaps.verdict
    return holds, said if holds else f"it sees later tokens: {said}"


def _read(mixer: Mixer, state: Any, x: Tensor) -> Tensor:
    y: Tensor = mixer(x, state)[0]
    return y


def splits(subject: Subject) -> Verdict:
    """Pieces of any lengths."""

    def cuts(length: int) -> dict[str, list[int]]:
        if length == LONG:
            # What chunks of 512 and of 1,024 divide goes on from a state.
            return {f"pieces {[length - n, n]}": [length - n, n] for n in (ROUND // 2, ROUND)}
        stream = torch.Generator().manual_seed(length)
        drawn, rest = list[int](), length
        while rest:
            drawn.append(1 + int(torch.randint(rest, (), generator=stream)))
            rest -= drawn[-1]
        of_17 = [17] * (length // 17) + ([length % 17] if length % 17 else [])
        last = [length - 1, 1]
        return {"pieces of 17": of_17, "the last alone": last, f"pieces {drawn}": drawn}

    return _pieces(subject, cuts, [*subject.sizes(shortest=2), (1, LONG)])


def tokens(subject: Subject) -> Verdict:
    """Pieces of one token."""
    sizes = list(subject.sizes(shortest=2))
    return _pieces(subject, lambda length: {"token by token": [1] * length}, sizes)


def _pieces(
    subject: Subject,
    cuts: Callable[[int], Mapping[str, Sequence[int]]],
    sizes: Sequence[tuple[int, int]],
) -> Verdict:
    gaps, mixer = Gaps(ALLOWED), subject.made()
    for batch, length in sizes:
        x = subject.drawn(batch, length)
        state = runs.left_over(mixer, batch, subject.width)
        whole = runs.run(mixer, x, state, [length])
        for name, split in cuts(length).items():
            where = f"{length} tokens, {name}, batch {batch}"
            gaps.add(runs.run(mixer, x, state, split), whole, where)
    return gaps.verdict


def loop(subject: Subject) -> Verdict:
    """The form that runs, and the formula a token at a time."""
    if subject.make_loop is None:
        return None, "skipped: there is no option serial, so no loop of its own to compare with"
    gaps, fast, slow = Gaps(ALLOWED), subject.made(), subject.made(loop=True)
    slow.load_state_dict(fast.state_dict())
    for batch, length in subject.sizes():
        x = subject.drawn(batch, length)
        past = 0 if batch == 1 else runs.PAST
        state = runs.left_over(fast, batch, subject.width, past)
        found, expected = (runs.run(mixer, x, state, [length]) for mixer in (fast, slow))
        gaps.add(found, expected, f"{length} tokens after {past}, batch {batch}")
    return gaps.verdict


def tail(subject: Subject) -> Verdict:
    """`tail` spares work, and gives the same."""
    if type(subject.made()).tail in (Mixer.tail, Outside.tail):
        return None, "skipped: it has no tail of its own"
    gaps, mixer = Gaps(ALLOWED), subject.made()
    for batch, length in subject.sizes():
        x = subject.drawn(batch, length)
        for last in sorted({1, (length + 1) // 2, length}):
            whole = runs.gradients(mixer, x, partial(_end, mixer, last))
            found = runs.gradients(mixer, x, partial(mixer.tail, last=last))
            gaps.add(found, whole, f"the last {last} of {length} tokens, batch {batch}")
    return gaps.verdict


def _end(mixer: Mixer, last: int, x: Tensor) -> Tensor:
    y: Tensor = mixer(x)[0]
    return y[:, -last:]


def slopes(subject: Subject) -> Verdict:
    """Gradients against central differences along a random direction."""
    gaps, mixer = Gaps(ALLOWED_OF_SLOPES), subject.made()
    if _surrogate(mixer):
        return None, "skipped: it says that its gradient is a surrogate, and no slope"
    for length in (1, 17, 65):
        x = subject.drawn(2, length)
        # Without a state too: what it starts from may be learned.
        for past in (runs.PAST, 0):
            state = runs.left_over(mixer, 2, subject.width, past) if past else None
            gradients, measured = runs.slopes(mixer, x, state)
            gaps.add(gradients, measured, f"{length} tokens after {past}, batch 2")
    return gaps.verdict


def _surrogate(mixer: Any) -> bool:
    return bool(getattr(part_of(mixer), "surrogate_gradient", False))


def rows(subject: Subject) -> Verdict:
    """Other sequences in the batch change nothing."""
    gaps, mixer = Gaps(ALLOWED), subject.made()
    for batch, length in (*((3, length) for length in subject.lengths), (8, 65), (MANY, 5)):
        x = subject.drawn(batch, length)
        with torch.no_grad():
            state = runs.left_over(mixer, batch, subject.width)
            y, after = mixer(x, state)
            whole = runs.named(y[1:], runs.like(after, [part[1:] for part in after]))
            others = x.clone()
            others[0] = 10 * subject.drawn(1, length, seed=9)[0]
            y, after = mixer(others, state)
            found = runs.named(y[1:], runs.like(after, [part[1:] for part in after]))
            gaps.add(found, whole, f"{length} tokens, the first of {batch} sequences another")
            alone = runs.named(*mixer(x[1:], runs.like(state, [part[1:] for part in state])))
            gaps.add(alone, whole, f"{length} tokens, without the first of {batch} sequences")
    return gaps.verdict


def deterministic(subject: Subject) -> Verdict:
    """The same call twice, and of two made with one seed, to the bit, in float32."""
    gaps = Gaps(0.0)
    one, other = subject.made(torch.float32), subject.made(torch.float32)
    calls = []
    for batch, length in subject.sizes(shortest=max(subject.lengths)):
        x = subject.drawn(batch, length).float()
        given = x, runs.left_over(one, batch, subject.width), [length]
        calls.append((f"{length} tokens, batch {batch}", given, runs.run(one, *given)))
    for mixer, how in ((one, "called again"), (other, "made again with the same seed")):
        for where, given, first in calls:
            gaps.add(runs.run(mixer, *given), first, f"{where}, {how}")
        # One that differs from itself differs from another like it.
        if not gaps.verdict[0]:
            break
    return gaps.verdict


def no_draw(subject: Subject) -> Verdict:
    """The global streams stand where they stood."""
    mixer = subject.made(torch.float32)
    before = global_streams()
    for batch, length in subject.sizes():
        x = subject.drawn(batch, length).float()
        runs.run(mixer, x, mixer.init_state(batch), [length])
    after = global_streams()
    moved = [name for name in before if before[name] != after[name]]
    compared = f"states of {', '.join(before)} before and after forward and backward"
    return not moved, f"{compared}: " + (f"{', '.join(moved)} moved" if moved else "the same")


def untouched(subject: Subject) -> Verdict:
    """Neither input nor state is written to."""
    gaps, mixer = Gaps(0.0), subject.made()
    for batch, length in subject.sizes():
        x = subject.drawn(batch, length)
        for learns in (False, True):
            with torch.set_grad_enabled(learns):
                state = runs.left_over(mixer, batch, subject.width)
                kept = {"x": x, **runs.of_state(state)}
                kept = {name: part.clone() for name, part in kept.items()}
                mixer(x, state)
            how = "in training" if learns else "without a gradient"
            where = f"{length} tokens, batch {batch}, {how}"
            gaps.add({"x": x, **runs.of_state(state)}, kept, where)
    return gaps.verdict


def initialisation(subject: Subject) -> Verdict:
    """What it starts with is in the model, to the bit, and still there after a forward pass."""
    with torch.random.fork_rng(devices=[]):
        # The stream that a model draws its first mixer from.
        torch.manual_seed(named_seed("initialisation", "mixer", 0, 1))
        made = subject.make().state_dict()
    # Extra state may be anything.
    alone = {name: part.clone() for name, part in made.items() if isinstance(part, Tensor)}
    model = LanguageModel(
        8, [subject.make], width=subject.width, hidden=8, added_positions="none", context=32, seed=1
    )
    model.to(subject.device)
    block: Any = model.blocks[0]
    gaps = Gaps(0.0)
    before = block.mixer.state_dict()
    gaps.add(before, alone, "in a model")
    with torch.no_grad():
        # Long: a table lengthens only beyond what it starts with.
        model(torch.arange(LONG, device=subject.device).view(1, LONG) % 8)
    if said := said_of_parts(before, block.mixer.state_dict()):
        return False, said
    gaps.add(
        dict(block.mixer.named_parameters()),
        {n: alone[n] for n, _ in block.mixer.named_parameters()},
        "after its use",
    )
    return gaps.verdict


def reach(subject: Subject) -> Verdict:
    """The last output's gradient at the first token is the slope there, and not cut."""
    gaps, mixer, lengths = Gaps(ALLOWED_OF_SLOPES), subject.made(), list[int]()
    for length in (n for n in subject.lengths if n > 1):
        x = subject.drawn(2, length)
        said, measured = runs.slopes_at_first(mixer, x)
        if not _surrogate(mixer):
            gaps.add(
                {"slope along token 0": said}, {"slope along token 0": measured}, f"{length} tokens"
            )
        if said.abs().max() > 0:
            lengths.append(length)
    reached = f"reaches it from {max(lengths)} tokens on" if lengths else "never reaches it"
    if _surrogate(mixer):
        return bool(lengths), f"{reached}; its size not compared, being a surrogate"
    passed, said_of_gaps = gaps.verdict
    return passed and bool(lengths), f"{reached}; {said_of_gaps}"


def precision(subject: Subject) -> Verdict:
    """float32 on what is hard: finite, and near float64 where nothing is large."""
    gaps = Gaps(ALLOWED_IN_FLOAT32)
    rough, exact = subject.as_it_starts(torch.float32), subject.as_it_starts()
    text = subject.drawn(1, HARD)
    same = text[:, :1].expand(1, 8 * HARD, -1)
    cases = {"random tokens": text, "the same token": same, "values of 1e3": 1e3 * text}
    for name, x in cases.items():
        where = f"{name}, {x.shape[1]:,} tokens, float32"
        found = runs.run(rough, x.float(), rough.init_state(1), [x.shape[1]])
        for what, part in found.items():
            if not part.isfinite().all():
                return False, f"{int((~part.isfinite()).sum())} not finite ({what}, {where})"
        if name != "values of 1e3":
            with torch.no_grad():
                gaps.add({"output": found["output"].double()}, {"output": exact(x)[0]}, where)
    passed, said = gaps.verdict
    return passed, f"{said}; finite with values of 1e3"


def follows(subject: Subject) -> Verdict:
    """Precision and device are those of the input and the weights, not torch's defaults."""
    for dtype, other in ((torch.float64, torch.float32), (torch.float32, torch.float64)):
        mixer, x = subject.made(dtype), subject.drawn(2, 33).to(dtype)
        for device in ("cpu", "meta"):
            with runs.other_defaults(device, other):
                try:
                    state = mixer.init_state(2)
                    first = {f"initial {name}": one for name, one in runs.of_state(state).items()}
                    found = {**runs.named(*mixer(x, state)), **first}
                except Exception as error:
                    # Nothing is computed on the device meta: what is made there is seen at once.
                    if device == "cpu":
                        return False, failure_line(error)
                    made = "made on torch's default device, not with device=x.device"
                    return False, f"{made}: {failure_line(error)}"
            for name, part in found.items():
                if runs.is_number(part) and part.dtype != runs.dtype_of(part, dtype):
                    return False, f"{name} is {part.dtype} for a mixer and input of {dtype}"
                if part.device != x.device:
                    return False, f"{name} is on torch's default device, not on that of the input"
    if _rounds_inside(subject):
        return False, (
            f"float64 is rounded inside: inputs {_NEAR} of themselves apart give the same output; "
            f"rows that compare to {ALLOWED:.0e} may fail for that alone"
        )
    return True, "float32 and float64, each while the other is torch's default; another device too"


def _rounds_inside(subject: Subject) -> bool:
    mixer, x = subject.made(), subject.drawn(2, 33)
    with torch.no_grad():
        y, near, further = (mixer(x * (1 + by))[0] for by in (0.0, _NEAR, 1e-3))
    moved = y != further
    # A few values stand so near an edge that they are rounded the other way.
    return bool(((y == near) & moved).sum() > moved.sum() / 2)


def state_size(subject: Subject) -> Verdict:
    """How the state grows, counted from its tensors; growing is no fault."""
    sizes = list(state_sizes(subject.as_it_starts(torch.float32), subject.width))
    first, *_, before, last = sizes
    if len({size.bytes for size in sizes}) == 1:
        constant = f"constant: {last.bytes:,} bytes at {first.tokens} to {last.tokens:,} tokens"
        # What a piece of the text leaves behind is bounded by the piece.
        if last.held > 2 * before.held:
            return False, (
                f"{constant}, but they are views that keep {before.held:,} bytes at "
                f"{before.tokens:,} tokens and {last.held:,} at {last.tokens:,}: clone what is kept"
            )
        return True, constant
    listed = ", ".join(f"{size.bytes:,} at {size.tokens:,}" for size in sizes)
    a_token = (last.bytes - first.bytes) / (last.tokens - first.tokens)
    return True, f"growing, {a_token:,.0f} bytes a token: {listed} tokens"


def half_life(subject: Subject) -> Verdict:
    """How long it remembers at the start; a short memory is no fault."""
    mixer = subject.as_it_starts(torch.float32)
    stated, left = mixer.memory_half_life_tokens, trace_half_life(mixer, subject.width)
    if left is None:
        return None, "skipped: a token leaves no trace in the state"
    traced = f"more than {HORIZON:,}" if left > HORIZON else f"{left:,.0f}"
    own = ""
    if stated is not None:
        kept = "nothing fades" if stated == math.inf else f"half is left after {stated:,.1f}"
        own = f"; by itself, without new input, {kept}"
    return True, f"half of a token's trace in the state is left after {traced} random tokens{own}"


PROPERTIES: dict[str, Callable[[Subject], Verdict]] = {
    "output and state have their form": form,
    "input and state not changed": untouched,
    "no global random draw": no_draw,
    "deterministic": deterministic,
    "no state is the initial state": initial_state,
    "causal": causal,
    "any split gives what the whole gives": splits,
    "token by token gives what the whole gives": tokens,
    "the form that runs is its own loop": loop,
    "the tail is the end of the whole": tail,
    "gradients are slopes": slopes,
    "gradient reaches token 0": reach,
    "rows of a batch are independent": rows,
    "initialisation not overwritten": initialisation,
    "finite in float32, near float64": precision,
    "dtype and device followed": follows,
    "state bytes, constant or growing": state_size,
    "memory half-life at the start": half_life,
}
# What breaks one of these breaks others below, which are not its cause: they are not looked at.
CAUSES = (form, untouched, deterministic)
# What must hold in eval mode too, in which answers are scored.
OF_SCORING = (
    form, untouched, no_draw, deterministic, initial_state, causal, splits, tokens, rows,
)  # fmt: skip
# Of a layer without a state they would tell nothing.
OF_STATES = (splits, tokens, state_size, half_life)
