"""The commands as functions: `import rulekeep as rk`."""

import inspect
import linecache
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch
from torch import nn

import rulekeep as rk
from rulekeep.records.identity import class_digest

SMALL = {key: value for key, value in tiny.TINY.items() if key != "mixer"}
SMALL["test_contexts"] = [64]
FADING = """
DECAY = 0.5

def faded(mean, new):
    return DECAY * mean + (1 - DECAY) * new

class Fading(nn.Module):
    def __init__(self, width: int, *, sign: float = 1.0) -> None:
        super().__init__()
        self.sign, self.write = sign, nn.Linear(width, width)

    def init_state(self, batch_size):
        return (self.write.weight.new_zeros(batch_size, self.write.out_features),)

    def forward(self, x, state=None):
        (mean,) = state or self.init_state(len(x))
        means = []
        for new in self.write(x).unbind(dim=1):
            mean = faded(mean, new)
            means.append(self.sign * mean)
        return torch.stack(means, dim=1), (mean,)
"""


def cell(
    monkeypatch: pytest.MonkeyPatch, text: str = FADING, name: str = "Fading", *, kept: bool = True
) -> type[nn.Module]:
    """A class as a notebook has it: of a module without a file, its text in `linecache` alone."""
    module = ModuleType("a_notebook")
    vars(module).update(torch=torch, nn=nn)
    file = f"<cell {hash(text)}>" if kept else "<prompt>"
    if kept:
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, file, "exec"), vars(module))
    return getattr(module, name)


def test_every_public_name_is_there_and_documented() -> None:
    assert {*rk.__all__} <= {*dir(rk)}
    for name in rk.__all__:
        assert getattr(rk, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = rk.nothing
    with pytest.raises(rk.UsageError, match="a GRU is none; give the name of a mixer, or its"):
        rk.run(mixer=nn.GRU(2, 2), **SMALL)


def test_the_function_and_the_command_make_the_same_run(tmp_path: Path) -> None:
    run = rk.run(mixer="gru", out=tmp_path / "ours", **SMALL)
    plain = {**SMALL, "test_contexts": 64}
    del plain["task_options"]
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in plain.items()]
    done = tiny.rulekeep(
        "run", "--mixer=gru", "--task-options.rules=2", *flags, "--out=theirs", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (tiny.timeless_records(tmp_path / name) for name in ("ours", "theirs"))
    assert ours == theirs
    assert ours.keys() == {run.id}
    assert run.folder == tmp_path / "ours" / run.id


def test_a_class_of_a_notebook_is_the_class_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = cell(monkeypatch)
    assert rk.check(kind, width=8).passed
    (tmp_path / "fading.py").write_text(f"import torch\nfrom torch import nn\n{FADING}")
    threads, folder = torch.get_num_threads(), Path.cwd()
    ours = rk.run(mixer=kind, mixer_options={"sign": -1.0}, out=tmp_path / "runs", **SMALL)
    assert (torch.get_num_threads(), Path.cwd()) == (threads, folder)
    theirs = rk.run(
        mixer=f"{tmp_path}/fading.py:Fading", mixer_options={"sign": -1.0},
        out=tmp_path / "runs", **SMALL,
    )  # fmt: skip
    assert ours.record.evaluations == theirs.record.evaluations
    assert ours.record.history[-1]["train_loss"] == theirs.record.history[-1]["train_loss"]
    assert ours.record.spec.mixer == "a_notebook:Fading"
    # The same cell once more is the same run; another body is another.
    assert rk.run(mixer=cell(monkeypatch), mixer_options={"sign": -1.0},
                  out=tmp_path / "runs", **SMALL).id == ours.id  # fmt: skip
    tested = rk.test(ours, contexts=[96])
    assert [one.context for one in tested.record.tests()] == [64, 96]
    assert isinstance(ours.model(), rk.LanguageModel)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("self.sign * mean", "mean", False),
        ("nn.Module):", "nn.Module):\n    gain = 2", False),
        ("\nclass", "\nUNUSED = 1\n\nclass", True),
    ],
    ids=["body", "value", "unused"],
)
def test_the_version_of_a_class_without_a_file_is_its_source(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str, *, same: bool
) -> None:
    first = class_digest(cell(monkeypatch))
    second = class_digest(cell(monkeypatch, FADING.replace(before, after)))
    assert (first == second) is same


def test_a_script_without_a_guard_is_run_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    values = {**SMALL, "steps": 4}
    script.write_text(
        "import torch\nfrom torch import nn\nimport rulekeep as rk\n"
        f"print('started')\n{FADING}\n"
        f"for mixer in (Fading, 'gru'):\n    rk.run(mixer=mixer, out='runs', **{values!r})\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1
    assert tiny.statuses(tmp_path / "runs") == ["done", "done"]


def test_a_file_that_was_edited_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "fading.py"
    text = f"import torch\nfrom torch import nn\n{FADING}"
    path.write_text(text)
    assert rk.check(f"{path}:Fading", width=8).passed
    run = rk.run(mixer=f"{path}:Fading", out=tmp_path / "runs", **SMALL)
    # It now sees the token after.
    path.write_text(text.replace("self.write(x)", "self.write(x.roll(-1, 1))"))
    assert not rk.check(f"{path}:Fading", width=8).passed
    with pytest.raises(rk.UsageError, match=r"it was made with .*; make the run again"):
        run.model()
    with pytest.raises(rk.UsageError, match="make the run again"):
        rk.test(run, contexts=[96])


def test_a_sweep_makes_what_the_folder_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [tiny.tiny(seed=seed) for seed in (1, 2)]
    first = rk.sweep(specs, out=tmp_path / "runs")
    assert [run.record.status for run in first] == ["done"] * 2
    again = rk.sweep([*specs, tiny.tiny(seed=3)], out=tmp_path / "runs")
    assert {run.id for run in first} < {run.id for run in again}
    file = tmp_path / "grid.py"
    file.write_text(
        f"def sweep(*, mixers=()):\n    return [one.spec(**{SMALL!r}) for one in mixers]\n"
    )
    kind = cell(monkeypatch)
    mixers = ["gru", (kind, {"sign": 2.0}), (rk.mixers.Delta, {"heads": 2})]
    with pytest.raises(rk.UsageError, match="sign 'a,b': "):
        rk.sweep(str(file), mixers=[(kind, {"sign": "a,b"})], out=tmp_path / "none")
    made = rk.sweep(str(file), mixers=mixers, out=tmp_path / "more")
    variants = {row["variant"] for run in made for row in run.rows()}
    assert variants == {"gru", "a_notebook:Fading[sign=2.0]", "delta[heads=2]"}
    with pytest.raises(rk.UsageError, match="specs have their own"):
        rk.sweep(specs, mixers=["gru"], out=tmp_path)


def test_records_are_flat_rows_with_every_column(tmp_path: Path) -> None:
    run = rk.run(mixer="gru", out=tmp_path / "runs", **{**SMALL, "test_contexts": [64, 96]})
    rows = rk.load_records(tmp_path / "runs", run)
    assert rows == rk.load_records(run.folder) == run.rows()
    assert [(row["split"], row["tokens"]) for row in rows] == [
        ("validation", 64), ("test", 64), ("test", 96),
    ]  # fmt: skip
    assert len({tuple(row) for row in rows}) == 1
    simple = (str, int, float, type(None))
    assert all(isinstance(value, simple) for row in rows for value in row.values())
    (test,) = [one for one in run.record.tests() if one.context == 96]
    assert rows[2]["retention"] == test.figures["retention"]
    with pytest.raises(rk.UsageError, match="there is no such folder"):
        rk.load_records(tmp_path / "none")


def test_our_memory_trains_by_its_recipe() -> None:
    """The loop that its docstring shows, as it stands there: the loss falls, and gates are read."""
    text = inspect.getdoc(rk.mixers.SparseDelta)
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    tokens = torch.randint(30, (4, 21))
    batches = [(tokens[:, :-1], tokens[:, 1:])] * 8
    known = {"rulekeep": rk, "torch": torch, "nn": nn, "functional": nn.functional}
    names = {**known, "vocabulary": 30, "batches": batches}
    exec(textwrap.dedent("\n".join(lines)), names)
    model, x, y = names["model"], *batches[0]
    started = rk.LanguageModel(30, "sparse_delta", added_positions="earliness")
    before, after = (nn.functional.cross_entropy(one(x)[0].mT, y) for one in (started, model))
    assert after < before
    assert rk.auxiliary_loss(model, step=1) is None
    assert rk.auxiliary_loss(model, step=501) > 0
    gates = rk.write_gates(model, x)
    assert {layer: gate.shape for layer, gate in gates.items()} == {
        1: (4, 20, 4), 2: (4, 20, 4),
    }  # fmt: skip
    assert all(gate.min() >= 0 and gate.max() <= 1 for gate in gates.values())
    assert rk.write_gates(rk.LanguageModel(30, "attention"), x) == {}


def test_the_runs_of_quick_come_with_the_package() -> None:
    rows = rk.load_records("quick")
    assert len({row["id"] for row in rows}) == 48
