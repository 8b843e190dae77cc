"""No two runs share an id: each field of each kind of spec is varied, and each file that it reads.

tests/test_identity.py has versions and defaults.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from rulekeep.language import declared
from rulekeep.language.families import read_families
from rulekeep.records.identity import identify
from rulekeep.specs import (
    KINDS,
    AnySpec,
    ArticleCell,
    CompactionSpec,
    LanguageSpec,
    PredictorSpec,
    RunSpec,
)
from rulekeep.sweeps.planning import resolve_any

Values = Mapping[str, Any]
PREDICTOR = """
from rulekeep.running.evaluation import GeneratingPredictor


class {name}(GeneratingPredictor):
    def __init__(self, task): ...
    def generate(self, prompts, given, is_given): return given
"""
FAMILY = """
[{name}]
kind = "asked"
group = "content"
rule = "Your {name} is {{}}."
options = {options}
request = "What is your {name}?"
"""
NAMES = FAMILY.format(name="name", options='["Nora", "Felix", "Oscar"]')
TOWNS = FAMILY.format(name="town", options='["Oslo", "Lima", "Bonn"]')
ENDPOINT = {"endpoint": "http://localhost:8000/v1", "model": "named"}
WRITTEN = {**ENDPOINT, "replies": "written"}
TEMPLATED = {**ENDPOINT, "template": "chat.jinja"}

# What each kind of spec is given that has no default.
GIVEN: dict[type[AnySpec], Values] = {
    RunSpec: {"mixer": "delta"},
    PredictorSpec: {"predictor": "mine.py:Mine"},
    ArticleCell: {"context": 64, "model": "attention"},
    LanguageSpec: {"model": "model", "rules": "rules.toml", "rules_at_once": 1},
    CompactionSpec: {"compactor": "keep_last"},
}
SUMMARY = {"compactor": "summary", "model": "deaf"}
# Another value of what is no number, no truth value and no choice of words; what it needs beside.
OTHERS: dict[type[AnySpec], dict[str, tuple[Any, Values]]] = {
    RunSpec: {
        "task": ("apply", {}), "task_options": ({"rules": 2}, {}), "mixer": ("gated_delta", {}),
        "mixer_options": ({"heads": 2}, {}), "hidden": (128, {}), "test_contexts": ((256,), {}),
        "device": ("cuda", {}), "width": (128, {}),
    },
    PredictorSpec: {
        "predictor": ("mine.py:Other", {}), "task": ("apply", {}),
        "task_options": ({"rules": 2}, {}), "test_contexts": ((128, 256), {}),
    },
    ArticleCell: {
        "context": (128, {}), "model": ("compressed", {}), "device": ("cuda", {}),
        "serial": (True, {"model": "compressed"}),
    },
    LanguageSpec: {
        "model": ("other", {}), "endpoint": ("http://localhost:8001/v1", WRITTEN),
        "template": ("other.jinja", TEMPLATED), "rules": ("other.toml", {}),
        "chat": ("chat.jsonl", {}), "system": ("prompt.md", {"families": ("name",)}),
        "families": (("name",), {}), "rules_at_once": (2, {}),
        "compress": (("none", "knorm@0.5"), {}), "device": ("cuda", {}),
    },
    CompactionSpec: {
        "compactor": ("keep_ends", {}), "model": ("copying", SUMMARY),
        "summary_prompt": ("words", SUMMARY), "rules": ("ten.toml", {}),
        "chat": ("long.jsonl", {}), "count": ("own.py:count", {}), "reader": ("model", {}),
        "endpoint": ("http://localhost:8000/v1", {"reader": "named"}),
        "families": (tuple(f"name{n}" for n in range(10)), {"rules": "twelve.toml"}),
        "device": ("cuda", {"reader": "model"}),
        "compress": (("knorm@0.5",), {"compactor": "everything", "reader": "model"}),
    },
}  # fmt: skip


def another(kind: type[AnySpec], name: str) -> tuple[Any, Values]:
    """Another value of a field, and what it needs beside; a new field may need a line in OTHERS."""
    if name in OTHERS[kind]:
        return OTHERS[kind][name]
    field = kind.model_fields[name]
    usual = GIVEN[kind].get(name, field.default)
    if get_origin(field.annotation) is Literal:
        return next(value for value in get_args(field.annotation) if value != usual), {}
    if isinstance(usual, bool):
        return not usual, {}
    assert isinstance(usual, (int, float)), f"{name}: give OTHERS another value of it"
    return usual + 1 if isinstance(usual, int) else usual / 2 or 0.5, {}


def several(count: int) -> str:
    options = '["Nora", "Felix"]'
    return "".join(FAMILY.format(name=f"name{n}", options=options) for n in range(count))


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the specs name."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "model/config.json": "{}", "model/model.safetensors": "weights",
        "model/tokenizer.json": "{}", "model/chat_template.jinja": "{{ messages }}",
        "other/config.json": "{ }", "other/model.safetensors": "weights",
        "other/chat_template.jinja": "{{ messages }}",
        "rules.toml": NAMES + TOWNS, "other.toml": NAMES,
        "chat.jinja": "{{ messages }}", "other.jinja": "{{ messages }}!",
        "chat.jsonl": json.dumps(turns("hi")), "prompt.md": "Be kind.\n- Your name is Nora.\n",
        "mine.py": PREDICTOR.format(name="Mine") + PREDICTOR.format(name="Other"),
        "ten.toml": several(10), "twelve.toml": several(12),
        "long.jsonl": "\n".join([json.dumps(turns("hi " * 250) * 20)] * 20),
        "own.py": (
            "def small(keys): ...\ndef short(text, budget): ...\n"
            "def count(text): return len(text.split())\n"
        ),
        "command": "#!/bin/sh\ncat words\n", "words": "one",
    }  # fmt: skip
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "command").chmod(0o755)
    return tmp_path


def turns(asked: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": "yes"}]


def id_of(kind: type[AnySpec], **values: Any) -> str:
    return resolve_any(kind.parse(**{**GIVEN[kind], **values})).id


def language(**values: Any) -> str:
    return id_of(LanguageSpec, **values)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS.values() for name in kind.model_fields],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_each_field_of_a_spec_changes_its_id(kind: type[AnySpec], name: str) -> None:
    value, beside = another(kind, name)
    assert id_of(kind, **beside) != id_of(kind, **{**beside, name: value})
    assert id_of(kind, **beside) == id_of(kind, **beside)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)
def test_no_two_variations_of_a_spec_share_an_id(kind: type[AnySpec]) -> None:
    made = {}
    for name in kind.model_fields:
        value, beside = another(kind, name)
        made[name] = id_of(kind, **{**beside, name: value})
    same = [pair for pair in combinations(made, 2) if made[pair[0]] == made[pair[1]]]
    assert same == []
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in made.values())


@contextmanager
def changed(path: Path, text: str | bytes) -> Iterator[None]:
    """A file with another text."""
    before = path.read_bytes()
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    yield
    path.write_bytes(before)


OWN = {"compress": ("own.py:small@0.5",)}
COMMAND = {"compress": ("./command words@0.5",)}


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("model/config.json", '{"layers": 2}', {}), ("model/model.safetensors", "weightS", {}),
        ("model/tokenizer.json", "{ }", {}), ("model/chat_template.jinja", "x", {}),
        ("rules.toml", NAMES + TOWNS.replace("Lima", "Rome"), {}),
        ("rules.toml", NAMES + TOWNS.replace('"Oslo", "Lima"', '"Lima", "Oslo"'), {}),
        ("rules.toml", NAMES + TOWNS.replace("Your town", "The town"), {}),
        ("rules.toml", NAMES + TOWNS.replace("What is", "Which is"), {}),
        ("rules.toml", f'{NAMES}{TOWNS}prefix = "It is"\n', {}),
        ("rules.toml", f'{NAMES}{TOWNS}replies = [" O", " L", " B"]\n', {}),
        ("rules.toml", NAMES + TOWNS.replace("content", "format"), {}),
        ("rules.toml", NAMES + TOWNS.replace("asked", "cued"), {}),
        ("rules.toml", TOWNS + NAMES.replace("[name]", "[names]"), {}),
        ("rules.toml", f'{NAMES}{TOWNS}check = "in {{}}|{{}}"\n', {"replies": "written"}),
        ("chat.jsonl", json.dumps(turns("hello")), {"chat": "chat.jsonl"}),
        ("chat.jinja", "{{ messages }}?", TEMPLATED),
        ("own.py", "def small(keys): ...\ndef short(text, budget): return text\n", OWN),
        ("own.py", "def small(keys, values): ...\n", {"compress": ("own.py:small+ends@0.5",)}),
        ("own.py", "def short(text, budget): return 1\n", {"compress": ("own.py:short@0.5",)}),
        ("command", "#!/bin/sh\ntrue\n", COMMAND), ("words", "two", COMMAND),
        ("prompt.md", "Be cruel.\n- {{name}}\n", {"system": "prompt.md", "families": ("name",)}),
    ],
)  # fmt: skip
def test_each_file_that_a_cell_reads_changes_its_id(
    name: str, text: str, given: Values, files: Path
) -> None:
    (files / name).touch()
    before = language(**given)
    with changed(files / name, text):
        assert language(**given) != before
    assert language(**given) == before


def test_what_changes_no_figure_of_a_cell_changes_no_id(files: Path) -> None:
    whole, written = language(families=("town",)), language(**{**WRITTEN, "families": ("town",)})
    # Families that are not asked for, comments, and in which order they stand.
    with changed(files / "rules.toml", f"# towns\n{TOWNS}\n{NAMES.replace('Felix', 'Anton')}"):
        assert language(families=("town",)) == whole
    both = language(families=("town", "name"))
    assert both == language(families=("name", "town"))
    # How a written reply is checked says nothing of one that is scored.
    with changed(files / "rules.toml", f'{NAMES}{TOWNS}check = "in {{}}|{{}}"\n'):
        assert language(families=("town",)) == whole
        assert language(**{**WRITTEN, "families": ("town",)}) != written
    # Where a file stands: its content counts.
    named = {"model": "model", "rules": "rules.toml", "chat": "chat.jsonl"}
    before = language(**named)
    for name in named.values():
        (files / name).rename(files / f"moved-{name}")
    assert language(**{key: f"moved-{name}" for key, name in named.items()}) == before
    templated = language(**{**TEMPLATED, "rules": "moved-rules.toml"})
    (files / "chat.jinja").rename(files / "moved.jinja")
    with_moved = {**TEMPLATED, "template": "moved.jinja", "rules": "moved-rules.toml"}
    assert language(**with_moved) == templated


def test_a_cell_that_chooses_families_is_another_than_one_that_names_them() -> None:
    # It never asks what the rules are.
    assert language() != language(families=("name", "town"))
    assert language(rules="other.toml") != language(families=("name",))
    assert language(rules="") != language(rules="", families=tuple(read_families("")))
    # Of the others no id moves: this one is that of the digests alone.
    resolved = resolve_any(LanguageSpec.parse(**GIVEN[LanguageSpec], families=("name",)))
    asked = {"rules_at_once": 1}
    assert resolved.id == identify("language", asked, resolved.versions)
    assert {*resolved.versions} == {"protocol", "rules", "model"}


def test_weights_count_by_their_ends_and_their_size(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared, "_READ_BYTES", 4)
    path = files / "model" / "model.safetensors"
    ids = set()
    for text in ("abcd.....wxyz", "abcD.....wxyz", "abcd.....wxyZ", "abcd......wxyz"):
        path.write_text(text)
        ids.add(language())
    path.with_suffix(".bin").write_text("abcd")
    ids.add(language())
    assert len(ids) == 5
    path.write_text("abcd......wxyz")
    path.with_suffix(".bin").unlink()
    # What is no part of a model counts nothing.
    before = language()
    (path.parent / "README.md").write_text("about it")
    assert language() == before


def test_an_id_is_the_hash_of_kind_spec_and_versions() -> None:
    asked, versions = {"seed": 2, "mixer": "delta"}, {"protocol": 1, "delta": "ab12"}
    text = (
        '{"kind": "run", "spec": {"mixer": "delta", "seed": 2}, '
        '"versions": {"delta": "ab12", "protocol": 1}}'
    )
    wanted = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert identify("run", asked, versions) == wanted
    backwards = dict(reversed(asked.items())), dict(reversed(versions.items()))
    assert identify("run", *backwards) == wanted
