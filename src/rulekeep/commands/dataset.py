"""All data as one folder of parquet files, with the card that `datasets` and the Hub read."""

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, get_args

from jinja2 import Template

from rulekeep.checks.certificate import certify
from rulekeep.commands import certificates
from rulekeep.compaction.history import made
from rulekeep.console import say
from rulekeep.language.families import digest_of, read_families
from rulekeep.printable import counted
from rulekeep.records.folders import make_folder
from rulekeep.records.store import write_bytes, write_record, write_text
from rulekeep.registry import make
from rulekeep.specs import CompactionSpec
from rulekeep.specs.compaction import STYLES
from rulekeep.tasks import TASKS, Article, Split, export

# The published sequences are those of github.com/koo1140/attention-experiment.
_OURS, _ARTICLE = "MIT (rulekeep)", "MIT (rulekeep; sequences: Mmm, attention-experiment)"
_HISTORIES = 20
_FAMILIES = {"rules": "", "agent_rules": "agents"}


class _Part(NamedTuple):
    """A file: one split of a config, with what the card says of it."""

    config: str
    split: str
    rows: int
    version: object
    licence: str
    digest: str


def write_all(folder: Path, context: int, n: int, seed: int) -> None:
    """Every split of every task, its certificate, histories of agents, and families of rules."""
    make_folder(folder, f"--out {folder}")
    parts, passing = list[_Part](), dict[str, bool]()

    def keep(config: str, split: str, rows: int, of: object, content: bytes) -> None:
        path = folder / config / f"{split}.parquet"
        make_folder(path.parent)
        write_bytes(path, content)
        licence = _ARTICLE if config == Article.name else _OURS
        digest = hashlib.sha256(content).hexdigest()
        parts.append(_Part(config, split, rows, of, licence, digest))

    for name, cls in TASKS.items():
        task: Any = make(name, cls)
        count, splits = n, get_args(Split)
        if isinstance(task, Article):
            # A table, without a validation split.
            count, splits = task.size, ("train", "test")
        for split in splits:
            about = {"task": name, **export.about(task, split, context, seed)}
            file = io.BytesIO()
            export.export(export.pieces(task, split, context, count, seed), file, "parquet", about)
            keep(name, split, count, task.version, file.getvalue())
        make_folder(folder / "certificates")
        # Of the very examples that are written: its `data_hash` is that of their tokens.
        record = certificates.ended(
            certificates.begun(name, task, seed), [_certified(task, context, n, seed)]
        )
        write_record(folder / "certificates" / f"{name}.json", record)
        passing[name] = record["passed"]
        say(f"{name}: {counted(count, 'example')} each of {', '.join(splits)}")
    histories = [*_histories(seed)]
    keep("histories", "test", len(histories), CompactionSpec.version, _parquet(histories))
    for config, place in _FAMILIES.items():
        families = read_families(place)
        rows = [
            {"name": key, **one.model_dump(mode="json"), "check": json.dumps(one.check)}
            for key, one in families.items()
        ]
        keep(config, "test", len(rows), digest_of(families), _parquet(rows))
    sums = [f"{one.digest}  {one.config}/{one.split}.parquet\n" for one in parts]
    write_text(folder / "SHA256SUMS", "".join(sums))
    write_text(folder / "README.md", _card(parts, passing, context, seed))


def _certified(task: Any, context: int, n: int, seed: int) -> dict[str, Any]:
    if isinstance(task, Article):
        return certificates.article_at_context(context)
    with warnings.catch_warnings():
        # A reader that has few examples of many words.
        warnings.simplefilter("ignore")
        return certificates.at_context(context, certify(task, context, examples=n, seed=seed))


def _histories(seed: int) -> Iterator[dict[str, Any]]:
    """Histories of each style, with their rules and as the control without them."""
    families = read_families("agents")
    for style in STYLES:
        for control in ("none", "no_rules"):
            spec = CompactionSpec(compactor="-", style=style, control=control, seed=seed)
            for number in range(_HISTORIES):
                one = made(families, spec, number)
                yield {
                    "style": style, "control": control, "number": number, "tokens": spec.tokens,
                    "messages": one.messages, "rules": [rule._asdict() for rule in one.rules],
                    "facts": [fact._asdict() for fact in one.facts], "fresh": list(one.fresh),
                }  # fmt: skip


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), file, compression="zstd")
    return file.getvalue()


def _card(parts: list[_Part], passing: Mapping[str, bool], context: int, seed: int) -> str:
    configs: dict[str, list[_Part]] = {}
    for part in parts:
        configs.setdefault(part.config, []).append(part)
    text = files("rulekeep.commands").joinpath("dataset.md").read_text("utf-8")
    return str(Template(text).render(
        configs=configs, context=f"{context:,}", seed=seed, version=version("rulekeep"),
        passing=[name for name, passed in passing.items() if passed],
        failing=[name for name, passed in passing.items() if not passed],
    ))  # fmt: skip
