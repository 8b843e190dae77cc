"""How hard documents are to read: words, sentences and numbers of README and each page.

    python tools/prose.py                # a table: README.md and docs/*.md
    python tools/prose.py FILE …         # of these files
    python tools/prose.py --long FILE …  # each sentence over 25 words, too

Prose counts alone: no code, no tables, no headings, no pictures, no targets of links. An item of a
list is a sentence or more. Code inside a line is one word.
"""

import argparse
import re
import statistics
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LONGEST = 25
_LEFT_OUT = [
    re.compile(r"\A---\n.*?\n---\n", re.DOTALL),
    re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.DOTALL | re.MULTILINE),
    re.compile(r"<!--.*?-->", re.DOTALL),
    # Tables, headings, HTML of its own line, rules, titles of boxes and what a page includes.
    re.compile(r"^ *(\||#|<|---|===|!!!|\?\?\?|:::).*$", re.MULTILINE),
    re.compile(r"!\[[^\]]*\]\([^)]*\)(\{[^}]*\})?"),
]
_LINK = re.compile(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])")
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+[.)])\s)")
_BULLET = re.compile(r"\A\s*(?:[-*+]|\d+[.)])\s+")
_END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_\[]*[A-Z\d`])")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,.]*")


class Prose(NamedTuple):
    """The counts of a text."""

    words: int
    sentences: int
    median: float
    longest: int
    numbers: int

    @property
    def density(self) -> float:
        """Numbers per 100 words."""
        return 100 * self.numbers / max(self.words, 1)


# READMEs of projects that read well, counted by this script: at which commit, and what it found.
BESIDE = {
    "README of kvpress (8bb29b9)": Prose(1431, 106, 12, 43, 11),
    "README of zoology (d88d6f5)": Prose(1071, 89, 11, 33, 6),
    "README of diffrax (5ea5fcb)": Prose(223, 26, 7, 39, 3),
}


def sentences(markdown: str) -> list[str]:
    """Its prose, a sentence each."""
    text = markdown
    for pattern in _LEFT_OUT:
        text = pattern.sub("", text)
    text = re.sub(r"`[^`]*`", "CODE", _LINK.sub(r"\1", text))
    blocks = (" ".join(_BULLET.sub("", block).split()) for block in _BLOCK.split(text))
    return [one for block in blocks for one in _END.split(block) if re.search(r"\w", one)]


def counted(markdown: str) -> Prose:
    """The counts of a document."""
    found = sentences(markdown)
    lengths = [len(one.split()) for one in found] or [0]
    numbers = sum(len(_NUMBER.findall(one)) for one in found)
    return Prose(sum(lengths), len(found), statistics.median(lengths), max(lengths), numbers)


def row(name: str, one: Prose) -> str:
    """A line of the table."""
    return (
        f"| {name} | {one.words:,} | {one.sentences} | {one.median:g} | {one.longest} "
        f"| {one.numbers} | {one.density:.1f} |"
    )


HEAD = (
    "| document | words | sentences | median words a sentence | longest "
    "| numbers | per 100 words |\n"
    "|---|--:|--:|--:|--:|--:|--:|"
)


def documents() -> list[Path]:
    """README and each page."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def table() -> str:
    """README and each page beside READMEs of other projects."""
    texts = {path: path.read_text(encoding="utf-8") for path in documents()}
    ours = [row(path.relative_to(ROOT).as_posix(), counted(text)) for path, text in texts.items()]
    beside = [row(name, found) for name, found in BESIDE.items()]
    return "\n".join([HEAD, ours[0], *beside, *ours[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--long", action="store_true", help=f"show sentences over {LONGEST} words")
    asked = parser.parse_args()
    if not asked.paths and not asked.long:
        print(table())
        return
    paths = asked.paths or documents()
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    print(HEAD)
    for path, text in texts.items():
        name = path.resolve()
        print(row(str(name.relative_to(ROOT) if ROOT in name.parents else path), counted(text)))
    for path, text in texts.items() if asked.long else ():
        for one in sentences(text):
            if len(one.split()) > LONGEST:
                print(f"\n{path} [{len(one.split())} words] {one}")


if __name__ == "__main__":
    main()
