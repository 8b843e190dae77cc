"""Where a rule is lost, told of mixers made by hand that lose it in one known place."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
import torch
from reading import ALL_BUT_RECALL
from torch import Tensor

from rulekeep.analysis.summary import wilson
from rulekeep.explain import explaining
from rulekeep.explain.explaining import write_explanation
from rulekeep.explain.record import GATE, RECORD, Explanation, Job, Probed, read_explanation
from rulekeep.explain.states import drawn, reads, samples, states_at
from rulekeep.explain.traces import (
    by_kind,
    change,
    follow,
)
from rulekeep.mixers import Delta, Mixer, RoutedSlots
from rulekeep.mixers.published import OURS
from rulekeep.records.folders import kept_beside
from rulekeep.records.store import RunFolder, read_record
from rulekeep.running.model import LanguageModel
from rulekeep.tasks import TASKS
from rulekeep.tasks.base import Role

# Enough combinations for no warning, and few words, so that a probe needs few examples.
OPTIONS = {"rules": 2, "rule_words": 16, "items": 48, "fillers": 4}
CONTEXT = 64


def task_of(name: str = "recite", **options: Any) -> Any:
    kind: Any = TASKS[name]
    return kind(kind.options_type.parse(**{**OPTIONS, **options}))


class Notes(NamedTuple):
    slots: Tensor
    count: Tensor
    cued: Tensor


class Notebook(Mixer):
    """Writes the first rule words (after a cue, if `cued`) into a slot each, and answers nothing.

    It reads tokens out of embeddings that are the identity. `never` writes nothing; `fades` halves
    its slots at every later token and adds the token to them.
    """

    def __init__(self, task: Any, *, never: bool = False, fades: bool = False) -> None:
        super().__init__()
        self.rules, self.words = task.options.rules, task.rule_words.tokens
        self.cue = task.vocabulary.index("<rule>")
        self.cued = task.options.placement == "marked"
        self.never, self.fades = never, fades

    def init_state(self, batch_size: int) -> Notes:
        zero = torch.zeros(batch_size, 1)
        return Notes(torch.zeros(batch_size, self.rules, len(self.words)), zero, zero)

    def forward(self, x: Tensor, state: Notes | None = None) -> tuple[Tensor, Notes]:
        slots, count, cued = state or self.init_state(len(x))
        slots, count = slots.clone(), count.clone()
        for token in x.argmax(dim=-1).T:
            word = token - int(self.words[0])
            is_word = (word >= 0) & (word < len(self.words))
            seen = torch.nn.functional.one_hot(word.clamp(0, len(self.words) - 1), len(self.words))
            seen = seen * is_word[:, None]
            full = count[:, 0] == self.rules
            writes = is_word & ~full & (cued[:, 0] > 0 if self.cued else True)
            if not self.never:
                row = torch.nonzero(writes)[:, 0]
                slots[row, count[row, 0].long()] = seen[row].float()
                count = count + writes[:, None]
                if self.fades:
                    slots = torch.where(full[:, None, None], slots / 2 + seen[:, None], slots)
            cued = (token == self.cue)[:, None].float()
        return torch.zeros_like(x), Notes(slots, count, cued)


def model_of(task: Any, make: Callable[[], Mixer]) -> LanguageModel:
    """A model whose mixer sees which token it is given, and whose head has learned nothing."""
    size = len(task.vocabulary)
    model = LanguageModel(
        size, [make], width=size, hidden=8, added_positions="none", context=CONTEXT, seed=1
    )
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(size))
    return model


def probed_with(placement: str = "early", **how: bool) -> Probed:
    """What is found of a notebook; its losses and what is said are all there is above chance."""
    task = task_of(placement=placement)
    model = model_of(task, lambda: Notebook(task, **how))
    found = explaining.probed(model, task, CONTEXT, train=(7, 320), scored=(1, 60))
    lost, said = found.lost, (found.said.mean - found.said_chance) / (1 - found.said_chance)
    for one in (lost.capture, lost.body, lost.readout):
        assert one.low <= one.mean <= one.high
    assert lost.capture.mean + lost.body.mean + lost.readout.mean + said == pytest.approx(1)
    return found


def shares(found: Probed) -> list[float]:
    return [place.found.mean for place in found.places]


def test_a_state_that_holds_the_rules_is_probed_at_1_and_what_is_not_said_is_lost_in_readout() -> (
    None
):
    found = probed_with()
    assert (found.after, shares(found)) == ("all rules", [1.0] * 5)
    assert found.places[-1].tokens == CONTEXT - 3
    assert found.places[0].by_rule == (1.0, 1.0)
    assert found.said.mean < 0.3
    assert found.chance < 0.2
    assert found.lost.capture.mean == found.lost.body.mean == 0
    assert found.lost.readout.low > 0.7


def test_a_mixer_that_never_writes_loses_all_in_capture() -> None:
    found = probed_with(never=True)
    assert shares(found) == [pytest.approx(found.chance)] * 5
    assert found.lost.capture.low > 0.8
    assert found.lost.capture.low < found.lost.capture.high
    assert found.lost.body.mean == 0
    # What is lost is least where the most may be there: the interval's ends change places.
    low, high = wilson(found.chance, 60)
    assert found.lost.capture.mean == pytest.approx(1)
    assert found.lost.capture.low == pytest.approx(1 - (high - found.chance) / (1 - found.chance))
    assert found.lost.capture.high == pytest.approx(1 - (low - found.chance) / (1 - found.chance))


def test_probes_learn_on_train_and_are_scored_on_dev_as_the_model_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = task_of()
    drawn_from: list[tuple[str, int, int]] = []
    sample = task.sample

    def spied(split: str, context: int, n: int, *, seed: int, start: int) -> Any:
        drawn_from.append((split, seed, n))
        return sample(split, context, n, seed=seed, start=start)

    monkeypatch.setattr(task, "sample", spied)
    model = model_of(task, lambda: Notebook(task))
    explaining.probed(model, task, CONTEXT, train=(7, 40), scored=(1, 20))
    # Learnt, judged, and what the model says of the same examples.
    assert drawn_from == [("train", 7, 40), ("validation", 1, 20), ("validation", 1, 20)]


def test_a_mixer_that_writes_and_fades_loses_all_in_the_body() -> None:
    found = probed_with(fades=True)
    assert shares(found)[0] == 1.0
    assert shares(found)[-1] < 0.3
    assert found.lost.capture.mean == 0
    assert found.lost.body.low > 0.7


def test_marked_rules_are_probed_each_right_after_itself() -> None:
    found = probed_with(placement="marked")
    assert (found.after, shares(found)) == ("each rule", [1.0, 1.0])
    assert len(found.places[0].penalties) == 2
    assert found.places[0].tokens < found.places[1].tokens == CONTEXT - 3


@pytest.mark.parametrize("placement", ["early", "marked"])
def test_a_state_read_at_a_place_is_that_after_the_tokens_before_it(placement: str) -> None:
    task = task_of(placement=placement)
    model = model_of(task, lambda: Delta(len(task.vocabulary), heads=1, key_width=4))
    few = drawn("recite", samples(task, "validation", CONTEXT, 1, 5))
    _, planned = reads(few.at, few.prefixes.shape[1])
    after = np.stack([read.after for read in planned], axis=1)
    for read, states in enumerate(states_at(model, few.prefixes, after)):
        for row in range(5):
            tokens = torch.from_numpy(few.prefixes[row : row + 1, : after[row, read]]).long()
            with torch.no_grad():
                _, state = model.advance(tokens)
            expected = state.layers[0].memory.flatten()
            assert torch.allclose(torch.from_numpy(states[row]), expected, atol=1e-5)


@pytest.mark.parametrize("name", [task.name for task in ALL_BUT_RECALL])
def test_rules_are_those_in_force_with_their_words_places_and_first_uses(name: str) -> None:
    task = task_of(name, items=96)
    sample = task.sample("validation", 80, 50, seed=1)
    rules = drawn(name, [sample])
    first = (sample.first_mention & sample.supervised).sum(axis=1)
    assert ((rules.words >= 0).sum(axis=1) == first).all()
    for row, rule in zip(*np.nonzero(rules.words >= 0), strict=True):
        word = rules.words[row, rule]
        assert sample.tokens[row, rules.at[row, rule]] == task.rule_words.tokens[word]
        assert sample.roles[row, rules.at[row, rule]] == Role.RULE
        said = sample.answers[row, rules.columns[row, rule]]
        assert said == task.rule_words.answers[word]
        if name != "recite":
            assert task.rule_words.groups[word] == rule


def test_a_change_is_relative_to_the_state_before_and_after() -> None:
    before = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    after = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [6.0, 8.0]])
    assert change(before, after)[:, 0].tolist() == pytest.approx([0, 1, 0, 1, 1 / 3])
    assert change(before, after[:, :1]).isnan().all()


def test_traces_are_averaged_by_kind_and_by_bins_of_twice_the_tokens() -> None:
    kinds = np.array([["<bos>", "rule", "filler", "rule", "filler"]] * 2, dtype=object)
    values = np.array([[1.0, 0.5, 0.0, 0.25, 0.125], [1.0, 0.5, 0.5, np.nan, 0.125]])
    table = torch.from_numpy(values).unsqueeze(2)
    found = {one.kind: one for one in by_kind(1, "memory", table, kinds)}
    assert {kind: (one.n, one.mean, one.zeros) for kind, one in found.items()} == {
        "<bos>": (2, 1.0, 0.0),
        "rule": (3, pytest.approx(1.25 / 3), 0.0),
        "filler": (4, 0.1875, 0.25),
    }
    assert [tuple(one) for one in map(_values, found["rule"].bins)] == [
        (1, 2, 2, 0.5), (3, 4, 1, 0.25),
    ]  # fmt: skip
    assert [tuple(one) for one in map(_values, found["filler"].bins)] == [
        (1, 2, 2, 0.25), (3, 4, 2, 0.125),
    ]  # fmt: skip
    assert all(one.mean_by_gate == one.zeros_by_gate == () for one in found.values())


def _values(one: Any) -> tuple[Any, ...]:
    return one.first, one.last, one.n, one.mean


@pytest.mark.core
@pytest.mark.parametrize(
    ("make", "zeros"),
    [
        (lambda width: Delta(width), 0.0),
        (lambda width: Delta(width, OURS, False, gate_kernel=4), 0.0),
        (lambda width: RoutedSlots(width, slots=8, top_k=2), 0.75),
    ],
    ids=["delta", "delta of four tokens", "routed_slots"],
)
def test_write_gates_token_by_token_are_those_of_the_whole_text(
    make: Callable[[int], Mixer], zeros: float
) -> None:
    model = LanguageModel(
        30,
        [lambda: make(16)] * 2,
        width=16,
        hidden=8,
        added_positions="none",
        context=CONTEXT,
        seed=1,
    )
    tokens = torch.randint(0, 30, (3, 20))
    found = follow(model, tokens.numpy())
    assert [key for key in found if key[1] == GATE] == [(1, GATE), (2, GATE)]
    assert {part for _, part in found} <= {"memory", "pending", "keys", "values", GATE}
    inputs = {}
    for layer, block in enumerate(model.blocks):
        block.mixer.register_forward_pre_hook(
            lambda _, given, layer=layer: inputs.__setitem__(layer, given[0])
        )
    with torch.no_grad():
        model.advance(tokens)
        for layer, block in enumerate(model.blocks):
            whole = block.mixer.write_strength(inputs[layer], None)
            assert 0 <= whole.min() <= whole.max() <= 1
            gates = found[layer + 1, GATE]
            assert (gates == 0).double().mean().item() == pytest.approx(zeros)
            assert np.allclose(gates.numpy(), whole.flatten(2).numpy(), atol=1e-5)


# A run that is done, in its folder, made once.
SPEC = tiny.tiny(validation_examples=10)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finish(tmp_path_factory.mktemp("runs") / "done", SPEC)


@pytest.fixture
def finished(made_once: Path, tmp_path: Path) -> Path:
    """As it was made: what one test explains, and so keeps, is not there for another."""
    return Path(shutil.copytree(made_once, tmp_path / "finished" / made_once.name))


def explained(folder: Path, *contexts: int) -> tuple[list[str], Explanation, list[int]]:
    steps: list[int] = []
    notes = write_explanation(Job(str(folder), contexts or (64,), 40, 0, "a command"), steps.append)
    return notes, read_explanation(folder / RECORD), steps


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "trained again"])
def test_the_model_has_the_recorded_figures_and_says_what_the_run_said(
    finished: Path, kept: bool
) -> None:
    if not kept:
        RunFolder(finished).weights.unlink()
    notes, found, steps = explained(finished, 64, 96)
    assert notes == []
    assert steps == [*(() if kept else range(1, 13)), 13, 14, 15]
    assert found.differences == {}
    assert found.run == "done"
    record = read_record(finished / "record.json")
    # The same ten examples of validation.
    assert found.probes[0].said.mean == record["history"][-1]["retention"]
    assert [one.context for one in found.probes] == [64, 96]
    assert found.traced.context == 96
    assert {one.part for one in found.traced.changes} == {"hidden"}


@pytest.mark.usefixtures("undrawn")
def test_the_command_explains_the_only_run_of_a_folder_and_the_report_shows_it(
    tmp_path: Path,
) -> None:
    folder = tiny.finish(tmp_path / "runs" / "done", SPEC)
    done = tiny.rulekeep("explain", "runs", "--examples", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "At 64 tokens a probe finds" in done.stdout
    assert "training again" not in done.stderr
    shown = tiny.rulekeep("report", "runs", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    text = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "## Where rules are lost" in text
    assert "## At which step rules are lost" in text
    (folder / RECORD).write_text("{")
    broken: list[str] = []
    assert kept_beside(tmp_path / "runs", broken) == []
    (said,) = broken
    assert said.startswith("run done: explain.json: not readable")
    assert said.endswith("; rulekeep explain makes it again")
