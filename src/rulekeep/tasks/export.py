"""Examples for another harness: JSONL, npz or parquet, streamed, with a hash of the tokens.

    with whole_file(path) as file:
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
little-endian integers: the same in every format, and the same as a certificate's.

In an npz a column of lists such as `rule_positions` is flat, beside `rule_positions_offsets`
(`[n + 1]`): those of example i are `rule_positions[offsets[i] : offsets[i + 1]]`.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import chain
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

import numpy as np

from rulekeep.specs import UsageError
from rulekeep.tasks.sampled import Sample

Format: TypeAlias = Literal["jsonl", "parquet", "npz"]

# What a piece may hold: a large n needs no large memory.
PIECE_TOKENS = 2**20
_COPY_BYTES = 2**20
# What losses ignore.
_NO_LABEL = -100
_LISTS = (
    "rule_positions",
    "first_mention_positions",
    "item_positions",
    "instruction_positions",
    "decoy_positions",
)


class Ragged(NamedTuple):
    """A list for each example, one after another, and the length of each."""

    values: np.ndarray
    lengths: np.ndarray

    def lists(self) -> list[list[int]]:
        """A list for each example."""
        parts: list[list[int]] = [
            part.tolist() for part in np.split(self.values, np.cumsum(self.lengths)[:-1])
        ]
        return parts


class Columns(NamedTuple):
    """A piece of examples as columns."""

    tokens: np.ndarray
    answer_start: np.ndarray
    chance: np.ndarray
    chance_per_position: np.ndarray
    ragged: dict[str, Ragged]
    labels: np.ndarray | None


def require(format: Format) -> None:  # noqa: A002 - the option's own name
    """Raise UsageError if a format needs a library that is not installed."""
    if format == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("--format parquet: needs pyarrow; pip install 'rulekeep[parquet]'")


def export(
    samples: Iterable[Sample],
    file: BinaryIO,
    format: Format,  # noqa: A002
    about: Mapping[str, str],
    folder: str | None = None,
) -> str:
    """Writes the examples and returns the hash of their tokens.

    `about` is kept in parquet, and in npz as JSON. Each column of an npz is gathered in `folder`
    first, with other temporary files if left out.
    """
    digest = hashlib.sha256()

    def pieces() -> Iterator[Columns]:
        for sample in samples:
            digest.update(np.ascontiguousarray(sample.tokens, dtype="<i8").tobytes())
            yield columns(sample)

    if format == "jsonl":
        _write_jsonl(pieces(), file)
    elif format == "npz":
        _write_npz(pieces(), file, about, folder)
    else:
        _write_parquet(pieces(), file, {**about})
    return digest.hexdigest()


def columns(sample: Sample) -> Columns:
    """A sample as columns."""
    n, start = len(sample.tokens), sample.answer_start
    first = sample.first_mention
    count = first.sum(axis=1)
    total = np.where(first, sample.chance, 0).sum(axis=1)
    chance = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)
    masks = (sample.rule, first, sample.item, sample.instructions, sample.decoys)
    offsets = (start, start, start, 0, 0)
    ragged = {
        name: Ragged((np.nonzero(mask)[1] + offset).astype(np.int32), mask.sum(axis=1))
        for name, mask, offset in zip(_LISTS, masks, offsets, strict=True)
    }
    return Columns(
        sample.tokens.astype(np.int32),
        np.full(n, start, dtype=np.int32),
        chance,
        sample.chance,
        ragged,
        None
        if sample.labels is None
        else np.where(sample.supervised, sample.labels, _NO_LABEL).astype(np.int32),
    )


def _write_jsonl(pieces: Iterator[Columns], file: BinaryIO) -> None:
    for piece in pieces:
        lists = {name: column.lists() for name, column in piece.ragged.items()}
        for i in range(len(piece.tokens)):
            chance = float(piece.chance[i])
            line = {
                "tokens": piece.tokens[i].tolist(),
                "answer_start": int(piece.answer_start[i]),
                **{name: column[i] for name, column in lists.items()},
                "chance": None if np.isnan(chance) else chance,
                "chance_per_position": piece.chance_per_position[i].tolist(),
            }
            if piece.labels is not None:
                line["labels"] = piece.labels[i].tolist()
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _write_npz(
    pieces: Iterator[Columns], file: BinaryIO, about: Mapping[str, str], folder: str | None
) -> None:
    # A member's shape stands before its content: each is gathered in a file of its own first.
    with ExitStack() as stack:
        parts: dict[str, tuple[BinaryIO, np.dtype[Any], list[int]]] = {}

        def add(name: str, values: np.ndarray) -> None:
            if name not in parts:
                spool: Any = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                parts[name] = (spool, values.dtype, [0, *values.shape[1:]])
            held, _, shape = parts[name]
            held.write(np.ascontiguousarray(values).tobytes())
            shape[0] += len(values)

        add("about", np.array([json.dumps({**about})]))
        ends = dict.fromkeys(_LISTS, 0)
        for piece in pieces:
            for name in ("tokens", "answer_start", "chance", "chance_per_position", "labels"):
                if (column := getattr(piece, name)) is not None:
                    add(name, column)
            for name, column in piece.ragged.items():
                add(name, column.values)
                if ends[name] == 0 and f"{name}_offsets" not in parts:
                    add(f"{name}_offsets", np.zeros(1, dtype=np.int64))
                offsets = ends[name] + np.cumsum(column.lengths)
                ends[name] = int(offsets[-1])
                add(f"{name}_offsets", offsets.astype(np.int64))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, (held, dtype, shape) in parts.items():
                # A fixed date, so that the same examples are the same bytes.
                info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as member:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(dtype),
                        "fortran_order": False,
                        "shape": tuple(shape),
                    }
                    np.lib.format.write_array_header_1_0(member, header)
                    held.seek(0)
                    while chunk := held.read(_COPY_BYTES):
                        member.write(chunk)


class _Counted:
    """A stream that counts the bytes written to it, which a pipe cannot tell."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._written = 0

    def write(self, content: Any) -> int:
        self._file.write(content)
        self._written += len(content)
        return len(content)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Left to the opener of the stream."""


def _write_parquet(pieces: Iterator[Columns], file: BinaryIO, about: dict[str, str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    first = next(pieces)
    labelled = first.labels is not None
    numbers = pa.list_(pa.int32())
    schema = pa.schema(
        [
            ("tokens", numbers),
            ("answer_start", pa.int32()),
            *((name, numbers) for name in _LISTS),
            ("chance", pa.float64()),
            ("chance_per_position", pa.list_(pa.float64())),
            *([("labels", numbers)] if labelled else []),
        ],
        metadata=about,
    )

    def lists(values: np.ndarray, lengths: np.ndarray) -> Any:
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    def table(values: np.ndarray) -> Any:
        return lists(values.ravel(), np.full(len(values), values.shape[1]))

    with parquet.ParquetWriter(_Counted(file), schema) as writer:
        for piece in chain([first], pieces):
            arrays = [
                table(piece.tokens),
                pa.array(piece.answer_start),
                *(lists(*piece.ragged[name]) for name in _LISTS),
                pa.array(piece.chance),
                table(piece.chance_per_position),
                *([table(piece.labels)] if piece.labels is not None else []),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
