"""Files that a hostile or a clumsy user brings: plug-ins, sweeps, specs and folders."""

from pathlib import Path
from typing import Any

import tiny
from report_records import record

from rulekeep.records.store import Values, write_record
from rulekeep.running.resolving import resolve
from rulekeep.specs import RunSpec

_MODULE = "from torch import nn\nclass M(nn.Module):\n"
_PARTS = "    def forward(self, x, s): ...\n    def init_state(self, n): ...\n"
_TASK = "from rulekeep.tasks import Recite\nclass T(Recite):\n"
_SWEEP = "from rulekeep.specs import RunSpec\n"

TEXTS = {
    "a_file": "kept",
    "syntax.py": "class :\n",
    "empty.py": "",
    "raises.py": "raise ValueError('no\\nluck')\n",
    "exits.py": "raise SystemExit(3)\n",
    "stops.py": "raise KeyError('x' * 5000)\n",
    "plain.py": "class M: ...\nthing = 3\n",
    "module.py": f"{_MODULE}    def __init__(self, width): super().__init__()\n",
    "positional.py": f"{_MODULE}{_PARTS}    def __init__(self): super().__init__()\n",
    "constructor.py": (
        f"{_MODULE}{_PARTS}    def __init__(self, width): raise OSError('two\\nlines')\n"
    ),
    "leaves_made.py": f"{_MODULE}{_PARTS}    def __init__(self, width): raise SystemExit(3)\n",
    "needs.py": f"{_MODULE}{_PARTS}    def __init__(self, width, heads): super().__init__()\n",
    "takes.py": f"{_MODULE}{_PARTS}    def __init__(self, width, heads=4): super().__init__()\n",
    "any.py": f"{_MODULE}{_PARTS}    def __init__(self, width, *, known: int = 1, **more): ...\n",
    "picky.py": (
        f"{_MODULE}{_PARTS}    def __init__(self, width, *, heads: int = 4, need: float):\n"
        "        super().__init__()\n"
    ),
    "annotated.py": f"{_MODULE}{_PARTS}    def __init__(self, width, *, a: 'Nowhere' = 1): ...\n",
    "list_of.py": f"{_MODULE}{_PARTS}    def __init__(self, width, *, gates: list[float]): ...\n",
    "default_of.py": (
        f"{_MODULE}{_PARTS}    def __init__(self, width, *, sizes=(1, 2)): ...\n"
        "class Endless(M):\n"
        "    def __init__(self, width, *, limit: float = float('inf')): ...\n"
        "class Bare(M):\n"
        "    def __init__(self, width, *, rate=0.5): ...\n"
    ),
    "child.py": "from plain_parent import M\n",
    "plain_parent.py": "class M: ...\n",
    "wants.py": "from tabnanny import N\n",
    "tabnanny.py": "",
    "pack_child.py": "from pack.part import M\n",
    "copied.py": (
        f"{_SWEEP}def sweep():\n"
        "    return [RunSpec().model_copy(update={'learning_rte': r}) for r in (1e-3, 2e-3)]\n"
    ),
    "copied_badly.py": (
        f"{_SWEEP}def sweep(): return [RunSpec().model_copy(update={{'batch_size': -3}})]\n"
    ),
    "at_its_top.py": f"{_SWEEP}SPECS = [RunSpec(setps=3)]\ndef sweep(): return SPECS\n",
    "relative.py": "from .plain_parent import M\n",
    "odd.py": f"{_MODULE}{_PARTS}    def __init__(self, width, *, model_config: int = 1): ...\n",
    "task_raises.py": f"{_TASK}    def __init__(self, options): raise ValueError('no\\nluck')\n",
    "task_exits.py": f"{_TASK}    def __init__(self, options): raise SystemExit(3)\n",
    "task_draws.py": f"{_TASK}    def _block(self, *a): return 1 / 0\n",
    "task_floats.py": (
        f"{_TASK}    def _block(self, *a):\n        s = super()._block(*a)\n"
        "        return s._replace(tokens=s.tokens * 1.0)\n"
    ),
    "task_int32.py": (
        f"{_TASK}    def _block(self, *a):\n        s = super()._block(*a)\n"
        "        return s._replace(tokens=s.tokens.astype('int32'))\n"
    ),
    "task_words.py": (
        f"{_TASK}    def _block(self, *a):\n        s = super()._block(*a)\n"
        "        return s._replace(tokens=s.tokens + 100)\n"
    ),
    "task_mask.py": (
        f"{_TASK}    def _block(self, *a):\n        s = super()._block(*a)\n"
        "        return s._replace(rule=s.rule[:, 1:], item=s.item * 1)\n"
    ),
    "task_lacks.py": f"{_TASK}    def __init__(self, options): self.options = options\n",
    "task_alone.py": f"{_TASK}    def __init__(self): ...\n",
    "task_options.py": (
        "from rulekeep.tasks import SampledTask\nclass T(SampledTask):\n"
        "    options = shortest_context = _block = None\n"
    ),
    "none.py": "def sweep(): return None\n",
    "nothing.py": "def sweep(): return []\n",
    "text.py": "def sweep(): return 'attention'\n",
    "dicts.py": "def sweep(): return [{'mixer': 'delta'}]\n",
    "number.py": "sweep = 3\n",
    "other.py": "def sweeps(): return []\n",
    "breaks.py": "def sweep(): raise RuntimeError('two\\nlines')\n",
    "leaves.py": "def sweep(): raise SystemExit(3)\n",
    "two.py": "def sweep(records, more): return []\n",
    "coroutine.py": "async def sweep(): return []\n",
    "endless.py": f"{_SWEEP}def sweep():\n    while True: yield RunSpec()\n",
    "bad_spec.py": f"{_SWEEP}def sweep(): return [RunSpec(width=0)]\n",
    "late.py": f"{_SWEEP}def sweep():\n    yield RunSpec()\n    yield RunSpec(mixer='delt')\n",
    "long.py": f"{_SWEEP}def sweep(): return [RunSpec(test_contexts=(128, 3))]\n",
    "unknown_key.toml": "widht = 64\n",
    "unknown_table.toml": "[mixer_option]\nheads = 4\n",
    "text_for_number.toml": "width = '64'\n",
    "fraction.toml": "layers = 2.5\n",
    "range.toml": "learning_rate = -0.003\n",
    "nan.toml": "learning_rate = nan\n",
    "nan_option.toml": 'mixer = "default_of.py:Bare"\n[mixer_options]\nrate = nan\n',
    "infinite.toml": "max_gradient_norm = inf\n",
    "huge.toml": f"seed = {10**30}\n",
    "digits.toml": f"seed = {'9' * 5000}\n",
    "date.toml": "seed = 2020-01-01\n",
    "list.toml": "mixer = ['delta']\n",
    "nested.toml": "[mixer_options.heads]\nmany = 4\n",
    "scalar.toml": "task_options = 3\n",
    "wrapped.toml": "[run]\nmixer = 'delta'\n",
    "flag.toml": "mixed_lengths = 'yes'\n",
    "option.toml": "[task_options]\nrules = '8'\n",
    "twice.toml": "seed = 1\nseed = 2\n",
    "json.toml": '{"mixer": "delta"}\n',
    "deep.toml": "test_contexts = " + "[" * 5000 + "]" * 5000 + "\n",
    "deep_key.toml": f"widht.{'a.' * 3000}a = 1\n",
    "deep_option.toml": f"mixer_options.{'a.' * 3000}a = 1\n",
    "twice_over.toml": 'mixer_options."delta.heads" = 8\nmixer_options.delta.heads = 4\n',
    "empty_option.toml": "mixer_options.heads = {}\n",
    "nul.toml": "mixer = 'a\0b'\n",
    "escape.toml": 'mixer = "a\\nb\\u001b[31m"\n',
    "good.toml": "steps = 2\nwarmup_steps = 0\n",
}


def bring(folder: Path) -> None:
    """Puts them there, and folders of runs: one whole, others with something amiss."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    (folder / "latin.toml").write_bytes("mixer = 'déltä'\n".encode("latin-1"))
    (folder / "latin.py").write_bytes("x = 'déltä'\n".encode("latin-1"))
    (folder / "binary.py").write_bytes(bytes(range(256)))
    # 10 MB, without the bytes on the disk.
    with (folder / "large.toml").open("wb") as file:
        file.truncate(10**7)
    (folder / "empty").mkdir()
    (folder / "pack").mkdir()
    (folder / "pack" / "part.py").write_text("class M: ...\n")
    (folder / "an_article" / "runs" / "0abc").mkdir(parents=True)
    for name in ("overview.png", "runs/0abc/plan.json"):
        (folder / "an_article" / name).touch()
    (folder / "no_records" / "a").mkdir(parents=True)
    (folder / "no_records" / "a" / "plan.json").write_text("{}")
    (folder / "broken" / "a").mkdir(parents=True)
    (folder / "broken" / "a" / "plan.json").write_text("not JSON")
    for name in ("whole", "shut"):
        hollow(folder / name, tiny.tiny())
    (folder / "shut" / "report").touch()


def hollow(folder: Path, spec: RunSpec | Values, **changes: Any) -> Path:
    """The folder of a run that says it is done, without having been made."""
    path = folder / "made-up"
    path.mkdir(parents=True)
    made = {**record(), "id": path.name, "source": "0"}
    if isinstance(spec, RunSpec):
        code = resolve(spec)
        made |= {"source": code.source, "versions": {**code.versions}, "asked": code.asked}
        made["spec"] = spec.model_dump(mode="json")
    else:
        made["spec"] = spec
    made |= changes
    write_record(path / "record.json", made)
    return path
