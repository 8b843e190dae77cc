"""The tiny language model that every mixer stands in, and the predictors that are scored."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Knowing, Writing
from small_pieces import pieces_of
from torch import Tensor, nn

from rulekeep.kernels import pieces
from rulekeep.mixers import MIXERS
from rulekeep.mixers.matrix import MatrixMixer
from rulekeep.running import evaluation
from rulekeep.running.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    ModelPredictor,
    OutsideReader,
    evaluate_samples,
)
from rulekeep.running.model import LanguageModel, earliness
from rulekeep.tasks import TASKS, Recall, RecallOptions, Recite, Sample, SampledTask

MATRICES = [name for name, kind in MIXERS.items() if issubclass(kind, MatrixMixer)]
SAMPLED = {
    name: kind
    for name, kind in TASKS.items()
    if issubclass(kind, SampledTask) and not kind.labelled
}


def model(name: str = "delta", *, seed: int = 1, positions: str = "none", **sizes: int):
    width = sizes.get("width", 16)
    return LanguageModel(
        sizes.get("vocabulary", 90), [partial(MIXERS[name], width)] * 2, width=width, hidden=24,
        added_positions=positions, context=sizes.get("context", 128), seed=seed,
    )  # fmt: skip


# Options whose arithmetic is their own.
VARIANTS = [
    ("attention", {"positions": "rotary"}),
    ("attention", {"positions": "alibi"}),
    ("sliding_window", {"positions": "rotary"}),
    ("delta", {"short_convolution": True}),
    ("ssd", {"output_gate": True, "short_convolution": True}),
]


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in MIXERS), *VARIANTS])
def test_the_model_trains_and_decodes_in_bfloat16(name: str, options: dict) -> None:
    rough = LanguageModel(
        90, [partial(MIXERS[name], 16, **options)] * 2, width=16, hidden=24, added_positions="none",
        context=128, seed=1,
    )  # fmt: skip
    tokens = torch.randint(90, (2, 70))
    exact = rough.last_logits(tokens, 20)
    with torch.autocast("cpu", torch.bfloat16):
        found = rough.last_logits(tokens, 20)
    assert (found.float() - exact).norm() < 0.03 * exact.norm()
    found.float().square().mean().backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in rough.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, state = rough(tokens[:, :-1])
        after, whole = rough(tokens[:, -1:], state)[0], rough(tokens)[0][:, -1:]
    assert (after - whole).float().norm() < 0.03 * whole.float().norm()


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("positions", ["none", "learned", "earliness"])
def test_the_model_in_pieces_is_the_model_at_once(name: str, positions: str) -> None:
    whole = model(name, positions=positions).double()
    tokens = torch.randint(90, (2, 40))
    with torch.no_grad():
        logits, after = whole(tokens)
        assert torch.allclose(whole.last_logits(tokens, 7), logits[:, -7:], atol=1e-9)
        state, parts = None, []
        for piece in tokens.split([17, 1, 22], dim=1):
            part, state = whole(piece, state)
            parts.append(part)
    assert torch.allclose(torch.cat(parts, dim=1), logits, atol=1e-9)
    assert state.tokens == after.tokens == 40


def test_at_equal_seed_mixers_share_all_that_is_not_theirs() -> None:
    one, other = model("delta").state_dict(), model("attention").state_dict()
    shared = [name for name in one if ".mixer." not in name]
    assert len(shared) > 10
    assert all(torch.equal(one[name], other[name]) for name in shared)
    another = model("delta", seed=2).state_dict()
    assert not torch.equal(one["embedding.weight"], another["embedding.weight"])


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixers_own_initialisation_survives(name: str) -> None:
    """What a mixer sets, not draws, is in the model as the mixer alone has it."""
    alone = MIXERS[name](16).state_dict()
    again = MIXERS[name](16).state_dict()
    built = model(name).blocks[1].mixer.state_dict()
    for key, value in alone.items():
        if torch.equal(value, again[key]):
            assert torch.equal(value, built[key]), key


def test_after_64_tokens_all_positions_look_alike() -> None:
    signal = earliness(0, 4096, torch.zeros((), dtype=torch.float64))
    assert torch.equal(signal[64:], signal[64].expand(4096 - 64, -1))
    distances = (signal[:64, None] - signal[None, :65]).norm(dim=-1)
    distances[torch.arange(64), torch.arange(64)] = torch.inf
    assert distances.min() > 0.03


@pytest.mark.parametrize("name", SAMPLED)
def test_an_oracle_scores_one_by_logits_and_by_generating(name: str) -> None:
    task = SAMPLED[name]()
    oracle = Knowing(task.sample("test", 128, 40, seed=3), len(task.vocabulary))
    by_logits = evaluate_samples(oracle, task, "test", 128, 40, seed=3)
    by_text = evaluate_samples(Writing(oracle), task, "test", 128, 40, seed=3)
    for row in (by_logits, by_text):
        assert row["retention"] == row["exact"] == row["joint"] == row["token_accuracy"] == 1
        assert row["corrected"]["retention"] == 1
        assert row["intrusion_rate"] is None
    assert by_logits["val_loss"] < 0.02
    assert by_text["val_loss"] is None


@pytest.mark.parametrize("name", SAMPLED)
def test_examples_read_in_parts_are_each_read_once_and_give_the_same_row(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = SAMPLED[name]()
    known, read = task.sample("test", 128, 40, seed=3), []
    wrong = {(int(row), int(at)) for row, at in np.argwhere(known.supervised) if row % 3 == at % 2}
    errs = Knowing(known, len(task.vocabulary), wrong)
    whole = evaluate_samples(errs, task, "test", 128, 40, seed=3)
    assert whole["token_accuracy"] < 1
    sample = task.sample

    def spied(split: str, context: int, n: int, *, seed: int, start: int) -> Sample:
        assert (split, context, seed) == ("test", 128, 3)
        read.append((start, n))
        return sample(split, context, n, seed=seed, start=start)

    monkeypatch.setattr(task, "sample", spied)
    # Room for three examples.
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", 400)
    parts = evaluate_samples(errs, task, "test", 128, 40, seed=3)
    assert read == [*((start, 3) for start in range(0, 39, 3)), (39, 1)]
    # Sums of float32 in another order.
    assert parts.pop("val_loss") == pytest.approx(whole.pop("val_loss"), rel=1e-5)
    assert parts == whole


# Where queries stand between answers, they are given: no model has to say them.
GIVEN = [Recall(), Recall(RecallOptions(layout="zoology"))]


@pytest.mark.parametrize("task", GIVEN, ids=["exam", "zoology"])
def test_what_generates_is_told_the_queries_and_no_answer(task: Recall) -> None:
    seen = []

    class Repeats(GeneratingPredictor):
        def generate(
            self, prompts: np.ndarray, given: np.ndarray, is_given: np.ndarray
        ) -> np.ndarray:
            seen.append((given, is_given))
            return given

    row = evaluate_samples(Repeats(), task, "test", 96, 30, seed=1)
    sample = task.sample("test", 96, 30, seed=1)
    ((given, is_given),) = seen
    assert np.array_equal(is_given, ~sample.supervised)
    assert np.array_equal(given[is_given], sample.answers[is_given])
    # In the place of an answer stands word 0: never one in exam, a value like others in zoology.
    assert set(given[~is_given]) == {0}
    lucky = (sample.answers[sample.supervised] == 0).mean()
    assert row["token_accuracy"] == pytest.approx(lucky)
    assert lucky < 0.1 if task.options.layout == "zoology" else lucky == 0
    assert row["exact"] == row["joint"] == 0


@pytest.mark.parametrize("task", [Recite(), *GIVEN], ids=["recite", "exam", "zoology"])
def test_a_model_generates_as_one_that_reads_everything_anew(task: SampledTask) -> None:
    trained = model("attention", vocabulary=len(task.vocabulary))

    class Anew(LogitsPredictor):
        def logits(self, tokens: Tensor) -> Tensor:
            return trained(tokens)[0]

    ours = ModelPredictor(trained).read(task.sample("test", 96, 30, seed=1))
    theirs = OutsideReader(Anew(), len(task.vocabulary)).read(task.sample("test", 96, 30, seed=1))
    given = ~task.sample("test", 96, 30, seed=1).supervised
    assert np.array_equal(ours.generated[given], task.sample("test", 96, 30, seed=1).answers[given])
    assert np.array_equal(ours.generated, theirs.generated)
    assert np.array_equal(ours.predictions, theirs.predictions)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)


@pytest.fixture
def several_pieces(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Texts that mixers read in more than one piece."""
    pieces_of(64, monkeypatch)
    return torch.arange(160).view(2, 80) % 90


# Those that read a long text in pieces.
IN_PIECES = [*MATRICES, "sliding_window"]


@pytest.mark.parametrize(
    ("batch", "time", "width", "again"),
    [(64, 64, 64, 0), (64, 1024, 64, 0), (64, 1280, 64, 4), (1, 81920, 64, 4), (8, 1024, 2048, 2)],
)
def test_pieces_of_four_million_numbers_are_kept_and_others_computed_again(
    batch: int, time: int, width: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = list[int]()

    def counted(_: Any, cuts: list[slice], count: int, x: Tensor, *state: Tensor) -> Any:
        counts.append(len(cuts))
        return x, *state[:count]

    monkeypatch.setattr(pieces._InPieces, "apply", counted)
    monkeypatch.setattr(MatrixMixer, "_advance", lambda _, x, *state: (x, *state))
    mixer = MIXERS["delta"](width)
    assert mixer(torch.zeros(batch, time, width))[0].shape == (batch, time, width)
    assert sum(counts) == again


@pytest.mark.parametrize("mixer", IN_PIECES)
def test_gradients_are_the_same_whether_pieces_are_kept_or_computed_again(
    mixer: str, several_pieces: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, found = model(mixer).double(), []
    for numbers in (0, 2**22):
        monkeypatch.setattr(pieces, "_NUMBERS_KEPT", numbers)
        y, _ = one(several_pieces)
        found.append(torch.autograd.grad(y.square().sum(), [*one.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_functional_call_gives_the_gradients_of_the_weights_it_lends(
    mixer: str, several_pieces: Tensor
) -> None:
    one, tokens = model(mixer).double(), several_pieces
    lent = {name: (1.1 * part).detach().requires_grad_() for name, part in one.named_parameters()}
    y, _ = torch.func.functional_call(one, lent, (tokens,))
    found = torch.autograd.grad(y.square().mean(), [*lent.values()])
    other = model(mixer).double()
    other.load_state_dict(lent, strict=False)
    expected = torch.autograd.grad(other(tokens)[0].square().mean(), [*other.parameters()])
    for part, gradient in zip(found, expected, strict=True):
        assert torch.allclose(part, gradient, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_hook_of_a_weight_runs_once_on_its_whole_gradient(
    mixer: str, several_pieces: Tensor
) -> None:
    one, tokens, found = model(mixer).double(), several_pieces, dict[str, list[Tensor]]()
    for name, part in one.named_parameters():
        part.register_hook(found.setdefault(name, []).append)
    one(tokens)[0].square().mean().backward()
    for name, part in one.named_parameters():
        (seen,) = found[name]
        assert torch.equal(seen, part.grad)


def test_a_backward_pass_leaves_the_module_alone_and_reads_it_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces_of(64, monkeypatch)
    mixer, x, seen = MIXERS["sparse_delta"](16), torch.randn(2, 80, 16), list[bool]()
    y, _ = mixer(x)
    expected = torch.autograd.grad(y.square().sum(), [*mixer.parameters()], retain_graph=True)
    read = type(mixer)._read

    def watched(self: Any, *given: Tensor) -> Any:
        # Another thread may read the module meanwhile.
        seen.append(all(isinstance(one, nn.Parameter) for one in mixer.parameters()))
        return read(self, *given)

    monkeypatch.setattr(type(mixer), "_read", watched)
    mixer.read_first = False
    found = torch.autograd.grad(y.square().sum(), [*mixer.parameters()])
    assert seen
    assert all(seen)
    assert all(map(torch.equal, found, expected))


STATES = {
    **{name: (name, {}) for name in MATRICES},
    "a gate of one token": ("sparse_delta", {"gate_kernel": 1}),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_holds_no_more_than_itself(case: str) -> None:
    mixer, options = STATES[case]
    one, x = MIXERS[mixer](64, **options), torch.randn(1, 4000, 64)
    for _ in range(2):
        with torch.no_grad():
            _, state = one(x)
        whole = sum(part.nbytes for part in state)
        assert all(part.untyped_storage().nbytes() <= 1.5 * whole for part in state)
        one.serial, x = True, x[:, :20]


@pytest.mark.parametrize(
    ("mixer", "dtype"),
    [
        *((mixer, torch.bfloat16) for mixer in MATRICES),
        *((mixer, torch.float16) for mixer in ("delta", "retnet")),
    ],
)
def test_a_memory_of_weights_in_half_precision_is_whole(mixer: str, dtype: torch.dtype) -> None:
    half = MIXERS[mixer](16).to(dtype)
    whole = MIXERS[mixer](16)
    whole.load_state_dict({name: part.float() for name, part in half.state_dict().items()})
    x = torch.cat([torch.randn(1, 3, 16), torch.zeros(1, 300, 16)], dim=1).to(dtype)
    expected, after = whole(x.float())
    found, state = half(x)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, rtol=0.01, atol=0.01)
    found.float().square().sum().backward()
    assert all(part.grad.dtype == dtype for part in half.parameters() if part.grad is not None)
    alone = half.init_state(1)
    with torch.no_grad():
        for at in range(x.shape[1]):
            _, alone = half(x[:, at : at + 1], alone)
    for parts in zip(alone, state, after, strict=True):
        assert {part.dtype for part in parts} == {torch.float32}
        assert all(torch.allclose(part, parts[-1], rtol=1e-4, atol=1e-5) for part in parts)


def test_a_model_takes_a_list_of_mixers_or_the_name_of_a_hybrid() -> None:
    one = LanguageModel(9, ["delta", MIXERS["gru"], partial(MIXERS["lstm"], 16)], width=16)
    other = LanguageModel(9, "delta+gru", layers=3, width=16)
    for made, last in ((one, "LSTM"), (other, "Delta")):
        assert [type(block.mixer).__name__ for block in made.blocks] == ["Delta", "GRU", last]
