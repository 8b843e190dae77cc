"""The commands as functions: `import rulekeep as rk`."""

import importlib
import inspect
import linecache
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn

import rulekeep as rk
from rulekeep.api import RunValues
from rulekeep.records.provenance import class_text, text_digest

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


def test_a_run_takes_every_field_of_a_spec() -> None:
    named = {"task", "mixer", "task_options", "mixer_options"}
    assert RunValues.__annotations__.keys() | named == rk.RunSpec.model_fields.keys()


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
        ("DECAY = 0.5", "DECAY = 0.6", False),
        ("(1 - DECAY) * new", "new", False),
        ("self.sign * mean", "mean", False),
        ("DECAY = 0.5", "DECAY = 0.5  # half", True),
        ("\nclass", "\nUNUSED = 1\n\nclass", True),
    ],
    ids=["constant", "function", "body", "comment", "unused"],
)
def test_the_version_of_a_class_without_a_file_is_its_source(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str, *, same: bool
) -> None:
    first = text_digest(class_text(cell(monkeypatch)))
    second = text_digest(class_text(cell(monkeypatch, FADING.replace(before, after))))
    assert (first == second) is same


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("{'keep': 0.5}", "{'keep': 0.6}", False),
        ("[0.5, 'a']", "[0.5, 'b']", False),
        ("{'a', 'b'}", "{'b', 'a'}", True),
        ("None", "b'x'", False),
        ("types.SimpleNamespace(keep=0.5)", "types.SimpleNamespace(keep=0.6)", False),
        # Without a text of its own: it does not count.
        ("torch.zeros(2)", "torch.ones(2)", True),
    ],
)
def test_tables_that_a_class_uses_count(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str, *, same: bool
) -> None:
    text = FADING.replace("DECAY = 0.5", "import types\nDECAY = {}")
    first, second = (
        text_digest(class_text(cell(monkeypatch, text.format(value)))) for value in (before, after)
    )
    assert (first == second) is same


PART = """
SCALE = {}

def same(function):
    return function

def squash(x):
    return SCALE * x

class Kept:
    keep = SCALE
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Writes a module and a package with this scale, and lets them be imported anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kept_box").mkdir()
    (tmp_path / "kept_box" / "__init__.py").touch()

    def forget() -> None:
        for name in ("kept_part", "kept_box", "kept_box.part"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()

    def write(scale: float) -> None:
        for name in ("kept_part", "kept_box/part"):
            (tmp_path / f"{name}.py").write_text(PART.format(scale))
        forget()

    yield write
    forget()


@pytest.mark.parametrize(
    ("top", "before", "after"),
    [
        ("from kept_part import squash", "self.write(x)", "squash(self.write(x))"),
        ("import kept_part", "self.write(x)", "kept_part.squash(self.write(x))"),
        ("import kept_box.part", "self.write(x)", "kept_box.part.squash(self.write(x))"),
        ("", "(mean,) =", "from kept_part import squash; (mean,) ="),
        ("from kept_part import Kept", "nn.Module", "Kept, nn.Module"),
        ("import kept_part\nkept = kept_part.Kept()", "DECAY *", "kept.keep *"),
        ("from kept_part import same", "def faded", "@same\ndef faded"),
    ],
    ids=["function", "module", "package", "inside", "base", "object", "decorator"],
)
def test_a_class_of_a_notebook_counts_with_the_files_that_it_imports(
    monkeypatch: pytest.MonkeyPatch, parts: Callable[[float], None], top: str, before: str,
    after: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = top + FADING.replace(before, after)
    found = []
    for scale in (1, 2, 1):
        parts(scale)
        found.append(text_digest(class_text(cell(monkeypatch, text))))
    assert found[0] == found[2] != found[1]


def test_an_object_of_an_imported_class_counts_as_a_value(
    monkeypatch: pytest.MonkeyPatch, parts: Callable[[float], None]
) -> None:
    parts(1)
    text = "from kept_part import Kept\nkept = Kept()\nkept.keep = {}" + FADING
    one, other = (
        text_digest(
            class_text(cell(monkeypatch, text.format(keep).replace("DECAY *", "kept.keep *")))
        )
        for keep in (1, 2)
    )
    assert one != other


def test_an_imported_file_that_was_edited_since_is_no_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: Callable[[float], None]
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    parts(1)
    text = f"from kept_part import squash{FADING}".replace("self.write(x)", "squash(x)")
    kind = cell(monkeypatch, text)
    assert class_text(kind)
    (tmp_path / "kept_part.py").write_text(PART.format(22))
    with pytest.raises(rk.UsageError, match="changed after it was imported; restart"):
        class_text(kind)
    importlib.reload(sys.modules["kept_part"])
    assert class_text(kind)


PLAIN = """
def plain(function):
    def inner(*given):
        return function(*given)
    return inner
"""


@pytest.mark.parametrize(
    "top",
    [
        "import functools\n@functools.lru_cache(maxsize=2)",
        "@torch.no_grad()",
        "def same(function): return function\n@same",
        f"{PLAIN}@plain",
        f"{PLAIN}@plain\n@plain",
    ],
    ids=["cache", "no_grad", "same", "plain", "twice"],
)
def test_a_decorated_function_counts_with_its_decorator(
    monkeypatch: pytest.MonkeyPatch, top: str
) -> None:
    text = FADING.replace("def faded", f"{top}\ndef faded")
    changed = {text, text.replace("(1 - DECAY) * new", "new"), text.replace("=2)", "=3)")}
    found = {text_digest(class_text(cell(monkeypatch, one))) for one in changed}
    assert len(found) == len(changed)


def test_a_lambda_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FADING[FADING.index("def faded") : FADING.index("class Fading")]
    text = FADING.replace(whole, "faded = lambda mean, new: (\n    DECAY * mean + new)\n")
    one, other = (
        text_digest(class_text(cell(monkeypatch, one)))
        for one in (text, text.replace("+ new", "- new"))
    )
    assert one != other


@pytest.mark.parametrize(
    ("top", "changed"),
    [
        ("from typing import NamedTuple\nclass State(NamedTuple):\n    mean: object", "mean: list"),
        (
            "import dataclasses\n@dataclasses.dataclass\nclass State:\n    mean: object",
            "mean: list",
        ),
        ("class State:\n    mean = 3", "mean = 4"),
    ],
    ids=["NamedTuple", "dataclass", "attribute"],
)
def test_a_class_without_a_method_counts(
    monkeypatch: pytest.MonkeyPatch, top: str, changed: str
) -> None:
    text = f"{top}{FADING}".replace("x, state=None", "x, state: State = None")
    one, other = (
        text_digest(class_text(cell(monkeypatch, given)))
        for given in (text, re.sub("mean(:| =) [a-z0-9]+", changed, text, count=1))
    )
    assert one != other


def test_of_two_classes_of_one_name_without_a_method_each_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "\nclass Wide(Fading):\n    gain = 2\nFirst = Wide\n"
    cell(monkeypatch, FADING + text + text.replace("2", "3").replace("First", "Second"))
    first, second = (vars(sys.modules["a_notebook"])[key] for key in ("First", "Second"))
    assert text_digest(class_text(first)) != text_digest(class_text(second))


def test_a_class_without_source_cannot_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = cell(monkeypatch, kept=False)
    assert rk.check(kind, width=8).passed
    with pytest.raises(rk.UsageError, match=r"source text cannot be read.*FILE.py:Fading"):
        rk.run(mixer=kind, out=tmp_path, **SMALL)


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


def test_a_damaged_record_is_named_where_records_are_loaded(tmp_path: Path) -> None:
    runs = [rk.run(mixer="gru", seed=seed, out=tmp_path, **SMALL) for seed in (1, 2)]
    record = runs[0].folder / "record.json"
    record.write_text(record.read_text().replace("gru", "gro"))
    with pytest.warns(rk.DamagedRecordWarning, match=f"{runs[0].id}.*checksum"):
        rows = rk.load_records(tmp_path)
    assert {row["id"] for row in rows} == {runs[1].id}
    with pytest.raises(rk.UsageError, match=f"{runs[0].id}.*checksum"):
        rk.load_records(tmp_path, strict=True)


def test_a_report_is_written_where_it_says(tmp_path: Path, undrawn: None) -> None:
    run = rk.run(mixer="gru", out=tmp_path / "runs", **SMALL)
    for _ in range(2):
        assert rk.report(run).read_text().startswith("<!doctype html>")
    page = rk.report(tmp_path / "runs", run, out=tmp_path / "page")
    assert page == tmp_path / "page" / "report.html"
    assert page.exists()


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    name = tiny.plugin(tmp_path, "breaks", forward="raise RuntimeError('no more')")
    with pytest.raises(rk.RunFailedError, match="failed: RuntimeError: no more"):
        rk.run(mixer=name, out=tmp_path / "runs", **SMALL)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"mixer": "dela"}, "did you mean delta"),
        ({"mixer": nn.GRU(2, 2)}, r"GRU\(…\): is an instance; give its class, GRU$"),
        ({"mixer": nn.Sequential(nn.GRU(2, 2))}, "give its class, Sequential$"),
        ({"mixer": 3}, "mixer 3: give the name of a mixer, or its class"),
        ({"mixer": "gru", "mixer_options": {"head": 2}}, "there is no such option"),
        ({"mixer": "gru", "stepps": 2}, "did you mean 'steps'"),
        ({"mixer": "gru", "steps": "2"}, "steps '2'"),
        ({"mixer": "gru", "seed": np.float64(1.5)}, "seed 1.5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_one_line(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(rk.UsageError, match=said) as found:
        rk.run(out=tmp_path / "runs", **{**SMALL, **asked})
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("mixer", ["delta", rk.mixers.Delta, "delta+gru"])
def test_a_language_model_needs_a_vocabulary_alone(mixer: Any) -> None:
    model = rk.LanguageModel(30, mixer, layers=3)
    tokens = torch.randint(30, (2, 20))
    logits, state = model(tokens)
    assert logits.shape == (2, 20, 30)
    assert len(state.layers) == 3
    after, _ = model(tokens[:, 12:], model(tokens[:, :12])[1])
    torch.testing.assert_close(after, logits[:, 12:])
    again = rk.LanguageModel(30, mixer, layers=3)
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_a_language_model_says_what_is_wrong() -> None:
    with pytest.raises(rk.UsageError, match="did you mean delta"):
        rk.LanguageModel(30, "dela")
    with pytest.raises(rk.UsageError, match="learned positions need it"):
        rk.LanguageModel(30, "delta", added_positions="learned")


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


def test_numbers_of_other_libraries_are_numbers_and_what_is_none_is_one_line(
    tmp_path: Path,
) -> None:
    values = {**SMALL, "seed": np.int64(2), "test_contexts": range(64, 70, 3)}
    run = rk.run(mixer="gru", out=tmp_path / "runs", **values)
    assert run.record.spec.seed == 2
    assert [one.context for one in run.record.tests()] == [64, 67]
    assert rk.test(run, contexts=np.array([96])).record.tests()[-1].context == 96
    for asked, said in (
        ({"contexts": 96}, r"contexts 96: must be a list; write \[96\]"),
        ({"contexts": "96"}, "must be a list"),
        ({"contexts": ["96"]}, "contexts '96': must be a whole number"),
        ({"contexts": [96], "examples": 9.5}, "examples 9.5: must be a whole number"),
    ):
        with pytest.raises(rk.UsageError, match=said):
            rk.test(run, **asked)
    for workers in (-3, 0, 1.5):
        with pytest.raises(rk.UsageError, match=f"workers {workers}: must be"):
            rk.sweep([tiny.tiny()], out=tmp_path / "more", workers=workers)
    assert not (tmp_path / "more").exists()
    assert len(rk.sweep(tiny.tiny(), out=tmp_path / "more")) == 1
