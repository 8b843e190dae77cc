"""Examples for another harness, as JSONL or parquet, with a hash of the tokens.

    with whole_files(path) as (file,):
        data_hash = export(pieces, file, "jsonl")

The columns are those of one line of JSONL:

- `tokens`, and `answer_start`: the answer is `tokens[answer_start:]`;
- `rule_positions`: where answers that follow a rule stand (what rule accuracy is scored on);
  `first_mention_positions`: those among them that cannot be read off the answer so far
  (retention); `item_positions`: answers that are items;
- `instruction_positions`: where the rules and the item were stated (and rules since revised);
  `decoy_positions`: rule and item words that are no instruction;
- `chance_per_position`, for each token of the answer, and `chance`, its mean over first mentions
  (null or NaN where an example has none);
- `labels`, of a labelled task alone: what is asked for after each token from `answer_start - 1` on,
  -100 where nothing is. What stands there in `tokens` is given.

All positions are indices into `tokens`. The hash is SHA-256 of all tokens, row by row, as 64-bit
little-endian integers: the same in both formats, and the same as a certificate's.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np

from rulekeep.specs import UsageError
from rulekeep.tasks.base import Split
from rulekeep.tasks.sampled import Sample

Format: TypeAlias = Literal["jsonl", "parquet"]
# A value for each example: an array, or arrays of different lengths.
Columns: TypeAlias = dict[str, np.ndarray | Sequence[np.ndarray]]

# What a piece may hold: a large n needs no large memory.
PIECE_TOKENS = 2**20
# What losses ignore.
_NO_LABEL = -100


def require(format: Format) -> None:  # noqa: A002 - the option's own name
    """Raise UsageError if a format needs a library that is not installed."""
    if format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("--format parquet: needs pyarrow; pip install 'rulekeep[parquet]'")


def pieces(task: Any, split: Split, context: int, n: int, seed: int) -> Iterator[Sample]:
    """Examples 0 to n - 1 of a sampled task or the article, in pieces that fit in memory."""
    step = max(1, PIECE_TOKENS // context)
    for start in range(0, n, step):
        yield task.sample(split, context, min(step, n - start), seed=seed, start=start)


def about(task: Any, split: Split, context: int, seed: int) -> dict[str, str]:
    """What a file says of its examples."""
    return {
        "split": split, "context": str(context), "seed": str(seed),
        "version": str(task.version), "vocabulary": " ".join(task.vocabulary),
    }  # fmt: skip


def export(
    samples: Iterable[Sample],
    file: BinaryIO,
    format: Format,  # noqa: A002
    about: Mapping[str, str],
) -> str:
    """Writes the examples and returns the hash of their tokens; parquet keeps `about`."""
    digest = hashlib.sha256()

    def each() -> Iterator[Columns]:
        for sample in samples:
            digest.update(np.ascontiguousarray(sample.tokens, dtype="<i8").tobytes())
            yield columns(sample)

    if format == "jsonl":
        _write_jsonl(each(), file)
    else:
        _write_parquet(each(), file, about)
    return digest.hexdigest()


def columns(sample: Sample) -> Columns:
    """A sample as columns."""
    n, start = len(sample.tokens), sample.answer_start
    count = sample.first_mention.sum(axis=1)
    total = np.where(sample.first_mention, sample.chance, 0).sum(axis=1)

    def positions(mask: np.ndarray, offset: int) -> list[np.ndarray]:
        return [(np.flatnonzero(row) + offset).astype(np.int32) for row in mask]

    found: Columns = {
        "tokens": sample.tokens.astype(np.int32),
        "answer_start": np.full(n, start, dtype=np.int32),
        "rule_positions": positions(sample.rule, start),
        "first_mention_positions": positions(sample.first_mention, start),
        "item_positions": positions(sample.item, start),
        "instruction_positions": positions(sample.instructions, 0),
        "decoy_positions": positions(sample.decoys, 0),
        "chance": np.divide(total, count, out=np.full(n, np.nan), where=count > 0),
        "chance_per_position": sample.chance,
    }
    if sample.labels is not None:
        asked_for = np.where(sample.supervised, sample.labels, _NO_LABEL)
        found["labels"] = asked_for.astype(np.int32)
    return found


def _write_jsonl(parts: Iterator[Columns], file: BinaryIO) -> None:
    for part in parts:
        for row in zip(*part.values(), strict=True):
            line = {name: value.tolist() for name, value in zip(part, row, strict=True)}
            line["chance"] = None if np.isnan(line["chance"]) else line["chance"]
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _write_parquet(parts: Iterator[Columns], file: BinaryIO, about: Mapping[str, str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for part in parts:
        table = pa.table({name: list(column) for name, column in part.items()})
        if writer is None:
            writer = parquet.ParquetWriter(file, table.schema.with_metadata({**about}))
        writer.write_table(table.cast(writer.schema))
    if writer is not None:
        writer.close()
