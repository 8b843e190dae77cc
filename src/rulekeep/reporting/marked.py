"""Examples marked for the eye: each token with what it is, long bodies left out in the middle.

    for piece in pieces(sample, 0, task.vocabulary):
        print(piece.text, MARKS[piece.kind].meaning)

A terminal and a page show the same pieces. Every mark has a letter, for those who see no colour.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

from rulekeep.tasks import Role, Sample

Kind: TypeAlias = Literal[
    "plain", "cue", "rule", "item", "decoy", "request", "first", "answer", "given", "left out"
]
# Tokens of a body that are shown at either end of what is left out.
ENDS = 8


class Piece(NamedTuple):
    """A word, or what stands for the words left out."""

    text: str
    kind: Kind


class Mark(NamedTuple):
    """How a kind is marked: a letter, a terminal's style, and what it means."""

    letter: str
    style: str
    meaning: str


MARKS: dict[Kind, Mark] = {
    "rule": Mark("R", "bold green", "a rule: it governs the answer, unless revised later"),
    "item": Mark("I", "bold cyan", "the item asked about"),
    "decoy": Mark("d", "red", "a decoy: a rule or item word that is no instruction"),
    "cue": Mark("C", "bold magenta", "a cue: an instruction follows"),
    "request": Mark("Q", "yellow", "the request"),
    "first": Mark("A!", "bold reverse green", "answer, first use of a rule: retention is this"),
    "answer": Mark("A", "bold", "answer, which is no first use of a rule"),
    "given": Mark("q", "underline yellow", "in the answer, but given: not predicted"),
}

_KINDS: dict[Role, Kind] = {
    Role.PLAIN: "plain",
    Role.CUE: "cue",
    Role.RULE: "rule",
    Role.ITEM: "item",
    Role.DECOY_RULE: "decoy",
    Role.DECOY_ITEM: "decoy",
    Role.REQUEST: "request",
}


def legend(examples: Iterable[Sequence[Piece]]) -> dict[Kind, Mark]:
    """The marks that stand in the examples."""
    present = {piece.kind for example in examples for piece in example}
    return {kind: mark for kind, mark in MARKS.items() if kind in present}


def pieces(sample: Sample, row: int, vocabulary: Sequence[str], ends: int = ENDS) -> list[Piece]:
    """An example as pieces, in order; runs of body longer than two ends lose their middle."""
    shown: list[Piece] = []
    every = _every(sample, row, vocabulary)
    for is_body, run in groupby(every, key=lambda piece: piece.kind in ("plain", "decoy")):
        some = list(run)
        if is_body and len(some) > 2 * ends + 1:
            middle = some[ends:-ends]
            decoys = sum(piece.kind == "decoy" for piece in middle)
            text = f"… {len(middle):,} tokens, {decoys:,} of them decoys …"
            some = [*some[:ends], Piece(text, "left out"), *some[-ends:]]
        shown += some
    return shown


def _every(sample: Sample, row: int, vocabulary: Sequence[str]) -> Iterator[Piece]:
    for i, (token, role) in enumerate(
        zip(sample.tokens[row].tolist(), sample.roles[row].tolist(), strict=True)
    ):
        yield Piece(vocabulary[token], _kind(sample, row, i, Role(role)))
        place = i + 1 - sample.answer_start
        asked = 0 <= place < sample.supervised.shape[1] and sample.supervised[row, place]
        if sample.labels is not None and asked:
            kind: Kind = "first" if sample.first_mention[row, place] else "answer"
            yield Piece(f"→{vocabulary[sample.labels[row, place]]}", kind)


def _kind(sample: Sample, row: int, position: int, role: Role) -> Kind:
    if role != Role.ANSWER:
        return _KINDS[role]
    place = position - sample.answer_start
    assert place >= 0, "what stands before the answer is none"
    if sample.first_mention[row, place]:
        return "first"
    return "answer" if sample.supervised[row, place] else "given"
