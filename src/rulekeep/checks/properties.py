"""The properties of a mixer: each says whether it holds, and what was compared.

`PROPERTIES` is the list, in the order of the rows that `check_mixer` returns. The screen before a
run looks at some of them.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rulekeep.checks.form import (
    said_of_numbers,
    said_of_parts,
    said_of_result,
    said_of_state,
    said_of_training,
)
from rulekeep.checks.numerics import (
    follows,
    half_life,
    precision,
    reach,
    slopes,
    state_size,
)
from rulekeep.checks.subject import (
    Differences,
    Size,
    Subject,
    Verdict,
    gradients,
    like,
    named,
    of_state,
    run,
)
from rulekeep.mixers import Mixer
from rulekeep.mixers.base import Outside, part_of, start_step
from rulekeep.registry import failure_line
from rulekeep.running.causality import changes, finite_tokens, in_pieces, largest_of
from rulekeep.running.model import LanguageModel
from rulekeep.running.training import global_streams
from rulekeep.seeds import named_seed

# Beyond the lengths that a kernel is often written for, once: each token costs a loop its time.
LONG = 1100
# What the usual chunks divide: a kernel may have a path of its own for such a text.
ROUND = 1024
# Of a large batch a few tokens each: as many sequences as are scored at once, and one more.
BATCHES = (Size(8, 65), Size(257, 5))


def answers_otherwise(subject: Subject) -> bool:
    """Whether a call in eval mode gives, or writes to, anything else than one in train mode."""
    mixers = subject.made(), subject._replace(scored=True).made()
    for size in (*subject.sizes, *subject.texts):
        x = subject.drawn(size.batch, size.length)
        try:
            with torch.no_grad():
                state = subject.state(mixers[0], size)
                pairs = zip(*(_all_of_call(mixer, x, state) for mixer in mixers), strict=True)
                if any(one.dtype != new.dtype or not torch.equal(one, new) for one, new in pairs):
                    return True
        # The property that it breaks says what is wrong.
        except Exception:
            return True
    return False


def _all_of_call(mixer: Mixer, x: Tensor, state: Any) -> list[Tensor]:
    x, state = x.clone(), like(state, [part.clone() for part in state])
    y, after = mixer(x, state)
    return [y, *after, x, *state]


def form(subject: Subject) -> Verdict:
    """A tensor as the input is, and a tuple of tensors with the batch first."""
    mixer, parts = subject.as_it_starts(), list[list[int]]()
    if not callable(getattr(part_of(mixer), "init_state", None)):
        return False, "it has no init_state: a layer without a state goes behind rulekeep.Stateless"
    if not subject.scored:
        # In float32: a part that the mixer does not hold follows no other precision.
        rough = subject._replace(dtype=torch.float32)
        with torch.enable_grad():
            said = said_of_training(rough.as_it_starts(), rough.drawn(1, 17))
        if said:
            return False, said
    for size in subject.sizes:
        x = subject.drawn(size.batch, size.length)
        result = part_of(mixer)(x, None)
        said = said_of_state(mixer.init_state(size.batch), size.batch) or said_of_result(result, x)
        if said:
            return False, said
        parts = [list(part.shape[1:]) for part in result[1]]
    return True, f"output as the input; state of a sequence {parts} after {size.length} tokens"


def initial_state(subject: Subject) -> Verdict:
    """Without a state it starts from its initial one."""
    differences, mixer = subject.differences(again=True), subject.made()
    for size in subject.sizes:
        x = subject.drawn(size.batch, size.length)
        with torch.no_grad():
            found, expected = mixer(x), mixer(x, mixer.init_state(size.batch))
        differences.add(named(*found), named(*expected), str(size))
    return differences.verdict


def causal(subject: Subject) -> Verdict:
    """What comes later changes nothing before."""
    differences = subject.differences()
    for size in (*subject.longer(than=1), *subject.texts):
        batch, length, past = size
        x = subject.drawn(batch, past + length)
        other = subject.drawn(batch, past + length, seed=9)
        # Of a long text no half: there may be an edge of every chunk, with nothing across it.
        cuts = [past + c for c in sorted({1, length // (3 if length >= ROUND else 2), length - 1})]
        with torch.no_grad():
            for make in (subject.made, subject.as_it_starts):
                texts = list(changes(partial(_read, make, past), x, cuts, other))
                known = finite_tokens(texts[0][1])
                # Weights that are drawn may grow out of all numbers on a long text.
                if known == length:
                    break
        if known < length and not subject.may_end:
            said = said_of_numbers(texts[0][1])
            return False, f"{said} ({size})"
        for cut, before, after in texts:
            seen = min(cut - past, known)
            found, expected = ({"output": read[:, :seen]} for read in (after, before))
            # What rounds by the largest of a whole text, as an FFT, is let be.
            largest = max(largest_of(before), largest_of(after))
            where = f"{size}, tokens from {cut - past} on replaced"
            differences.add(found, expected, where, largest)
    holds, said = differences.verdict
    return holds, said if holds else f"it sees later tokens: {said}"


def _read(make: Callable[[], Mixer], past: int, x: Tensor) -> Tensor:
    """Outputs after `past` tokens, of one made anew: what counts its calls does the same."""
    pieces = [past, x.shape[1] - past] if past else [x.shape[1]]
    return in_pieces(make(), x, pieces)[0][:, past:]


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

    long = (size for size in subject.texts if size.length == LONG)
    return _pieces(subject, cuts, [*subject.longer(than=1), *long])


def tokens(subject: Subject) -> Verdict:
    """Pieces of one token."""
    sizes = list(subject.longer(than=1))
    return _pieces(subject, lambda length: {"token by token": [1] * length}, sizes)


def _pieces(
    subject: Subject,
    cuts: Callable[[int], Mapping[str, Sequence[int]]],
    sizes: Sequence[Size],
) -> Verdict:
    differences, mixer = subject.differences(), subject.made()
    for size in sizes:
        x, state = subject.drawn(size.batch, size.length), subject.state(mixer, size)
        whole = run(mixer, x, state, [size.length])
        for name, split in cuts(size.length).items():
            where = f"{size.length} tokens, {name}, batch {size.batch}"
            differences.add(run(mixer, x, state, split), whole, where)
    return differences.verdict


def loop(subject: Subject) -> Verdict:
    """The form that runs, and the formula a token at a time."""
    if subject.make_loop is None:
        return None, "skipped: there is no option serial, so no loop of its own to compare with"
    differences, fast = subject.differences(), subject.made()
    slow = subject._replace(make=subject.make_loop).made()
    slow.load_state_dict(fast.state_dict())
    for size in subject.sizes:
        if size.batch == 1:
            size = size._replace(past=0)
        x, state = subject.drawn(size.batch, size.length), subject.state(fast, size)
        found, expected = (run(mixer, x, state, [size.length]) for mixer in (fast, slow))
        where = f"{size.length} tokens after {size.past}, batch {size.batch}"
        differences.add(found, expected, where)
    return differences.verdict


def tail(subject: Subject) -> Verdict:
    """`tail` spares work, and gives the same."""
    if type(subject.made()).tail in (Mixer.tail, Outside.tail):
        return None, "skipped: it has no tail of its own"
    differences, mixer = subject.differences(), subject.made()
    for size in subject.sizes:
        x = subject.drawn(size.batch, size.length)
        for last in sorted({1, (size.length + 1) // 2, size.length}):
            whole = gradients(mixer, x, lambda x: mixer(x)[0][:, -last:])  # noqa: B023
            found = gradients(mixer, x, partial(mixer.tail, last=last))
            where = f"the last {last} of {size.length} tokens, batch {size.batch}"
            differences.add(found, whole, where)
    return differences.verdict


def rows(subject: Subject) -> Verdict:
    """Other sequences in the batch change nothing."""
    differences, mixer = subject.differences(), subject.made()
    for size in (*(size for size in subject.sizes if size.batch > 1), *BATCHES):
        batch, length, _ = size
        x, state = subject.drawn(batch, length), subject.state(mixer, size)
        others = x.clone()
        others[0] = 10 * subject.drawn(1, length, seed=9)[0]
        with torch.no_grad():
            whole, found = (_but_the_first(*mixer(text, state)) for text in (x, others))
            alone = mixer(x[1:], like(state, [part[1:] for part in state]))
        differences.add(found, whole, f"{length} tokens, the first of {batch} sequences another")
        where = f"{length} tokens, without the first of {batch} sequences"
        differences.add(named(*alone), whole, where)
    return differences.verdict


def _but_the_first(y: Tensor, state: Any) -> dict[str, Tensor]:
    return named(y[1:], like(state, [part[1:] for part in state]))


def deterministic(subject: Subject) -> Verdict:
    """The same call twice, and of two made with one seed, to the bit, in float32."""
    subject = subject._replace(dtype=torch.float32)
    differences, one, other = subject.differences(again=True), subject.made(), subject.made()
    longest, calls = max(size.length for size in subject.sizes), []
    for size in subject.longer(than=longest - 1):
        given = subject.drawn(size.batch, longest), subject.state(one, size), [longest]
        calls.append((size, given, run(one, *given)))
    for mixer, how in ((one, "called again"), (other, "made again with the same seed")):
        for size, given, first in calls:
            differences.add(run(mixer, *given), first, f"{size}, {how}")
        # One that differs from itself differs from another like it.
        if not differences.verdict[0]:
            break
    return differences.verdict


def resumes(subject: Subject) -> Verdict:
    """A step of training, and the same from what a checkpoint holds."""
    subject = subject._replace(dtype=torch.float32)
    mixer, x = subject.made(), subject.drawn(3, 24)

    def step() -> Tensor:
        start_step(mixer, 1)
        y: Tensor = part_of(mixer)(x, None)[0]
        return y

    # What its first call makes is there from now on.
    step()
    kept = deepcopy(mixer.state_dict())
    first = step()
    try:
        mixer.load_state_dict(kept)
    except Exception as error:
        return False, (
            f"its own state_dict cannot be loaded, so no checkpoint could: {failure_line(error)}; "
            "get_extra_state needs set_extra_state"
        )
    differences = Differences(1e-4)
    differences.add({"output": step()}, {"output": first}, "from the same weights and buffers")
    holds, said = differences.verdict
    fix = "; seed a generator of its own in start_step(step)"
    return holds, said if holds else f"a resumed run would be another: {said}{fix}"


def no_draw(subject: Subject) -> Verdict:
    """The global streams stand where they stood."""
    subject = subject._replace(dtype=torch.float32)
    mixer, before = subject.made(), global_streams()
    for size in subject.sizes:
        x = subject.drawn(size.batch, size.length)
        run(mixer, x, mixer.init_state(size.batch), [size.length])
    after = global_streams()
    moved = [name for name in before if before[name] != after[name]]
    compared = f"states of {', '.join(before)} before and after forward and backward"
    return not moved, f"{compared}: " + (f"{', '.join(moved)} moved" if moved else "the same")


def untouched(subject: Subject) -> Verdict:
    """Neither input nor state is written to."""
    differences, mixer = Differences(0.0), subject.made()
    for size in subject.sizes:
        x = subject.drawn(size.batch, size.length)
        for learns in (False, True):
            with torch.set_grad_enabled(learns):
                state = subject.state(mixer, size)
                kept = {"x": x, **of_state(state)}
                kept = {name: part.clone() for name, part in kept.items()}
                mixer(x, state)
            how = "in training" if learns else "without a gradient"
            differences.add({"x": x, **of_state(state)}, kept, f"{size}, {how}")
    return differences.verdict


def initialisation(subject: Subject) -> Verdict:
    """What it starts with is in the model, to the bit, and still there after a forward pass."""
    with torch.random.fork_rng(devices=[]):
        # The stream that a model draws its first mixer from.
        torch.manual_seed(named_seed("initialisation", "mixer", 0, 1))
        made = subject.make().state_dict()
    # Extra state may be anything.
    alone = {name: part.clone() for name, part in made.items() if isinstance(part, Tensor)}
    model = LanguageModel(8, [subject.make], width=subject.width, hidden=8)
    block: Any = model.to(subject.device).blocks[0]
    differences, before = Differences(0.0), block.mixer.state_dict()
    differences.add(before, alone, "in a model")
    # Long: a table lengthens only beyond what it starts with.
    longest = min(LONG, max(size.length for size in subject.texts))
    with torch.no_grad():
        model(torch.arange(longest, device=subject.device)[None] % 8)
    if said := said_of_parts(before, block.mixer.state_dict()):
        return False, said
    weights = dict(block.mixer.named_parameters())
    differences.add(weights, {name: alone[name] for name in weights}, "after its use")
    return differences.verdict


PROPERTIES: dict[str, Callable[[Subject], Verdict]] = {
    "output and state have their form": form,
    "input and state not changed": untouched,
    "no global random draw": no_draw,
    "deterministic": deterministic,
    "a step again from a checkpoint is the same": resumes,
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
