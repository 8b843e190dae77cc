"""All data as one folder of parquet files, with the card that `datasets` and the Hub read."""

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias, get_args

from rulekeep.checks.certificate import certify
from rulekeep.checks.sample_form import AnyTask, whole_samples
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
# A file: config, split, rows, version, licence and digest, as the card says them.
_Part: TypeAlias = tuple[str, ...]
_FAMILIES = {"rules": "", "agent_rules": "agents"}


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
        parts.append((config, split, f"{rows:,}", str(of), licence, digest))

    for name, cls in TASKS.items():
        task: Any = make(name, cls)
        count, splits = n, get_args(Split)
        if isinstance(task, Article):
            # A table, without a validation split.
            count, splits = task.size, ("train", "test")
        for split in splits:
            about = {
                "task": name, "split": split, "context": str(context), "seed": str(seed),
                "version": str(task.version), "vocabulary": " ".join(task.vocabulary),
            }  # fmt: skip
            file = io.BytesIO()
            pieces = whole_samples(name, task, split, context, count, seed=seed, step=512)
            export.export(pieces, file, "parquet", about)
            keep(name, split, count, task.version, file.getvalue())
        make_folder(folder / "certificates")
        record = _certificate(task, context, n, seed)
        write_record(folder / "certificates" / f"{name}.json", record)
        passing[name] = bool(record["passed"])
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
    sums = [f"{digest}  {config}/{split}.parquet\n" for config, split, *_, digest in parts]
    write_text(folder / "SHA256SUMS", "".join(sums))
    write_text(folder / "README.md", _card(parts, passing, context, seed))


def _certificate(task: AnyTask, context: int, n: int, seed: int) -> dict[str, Any]:
    """Of the very examples that are written: its `data_hash` is that of their tokens."""
    if isinstance(task, Article):
        return certificates.article_record((context,))
    with warnings.catch_warnings():
        # A reader that has few examples of many words.
        warnings.simplefilter("ignore")
        one = certify(task, context, examples=n, seed=seed)
    return certificates.task_record(task.name, task, {context: one}, seed, {})


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


def _card(
    parts: list[tuple[str, ...]], passing: Mapping[str, bool], context: int, seed: int
) -> str:
    head = ["license: mit", "language: en", "pretty_name: rulekeep", "configs:"]
    for config, files_of in groupby(parts, lambda part: part[0]):
        head += [f"- config_name: {config}", "  data_files:"]
        for _, split, *_ in files_of:
            head += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
    lines = [f"| {' | '.join(about)} | `{digest}` |" for *about, digest in parts]
    return files("rulekeep.commands").joinpath("dataset.md").read_text("utf-8").format(
        head="\n".join(head), table="\n".join(lines), context=f"{context:,}", seed=seed,
        version=version("rulekeep"), passing=", ".join(name for name in passing if passing[name]),
        failing=", ".join(name for name in passing if not passing[name]),
    )  # fmt: skip
