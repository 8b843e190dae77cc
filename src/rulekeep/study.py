"""A study in one file: its question, variants, runs, tables, figures and claims.

    STUDY = Study(question=…, variants=…, settings=…, sweeps=…, tables=…, claims=…)

    rulekeep study NAME run        # studies/NAME.py, or a FILE.py: makes missing runs
    rulekeep study NAME build      # writes results/NAME, and fills the marks of documents
    rulekeep study NAME check      # a line for each text that differs from the records

A table, a figure and a claim are plain functions of `Rows`. A document has marks to fill:
`claim:NAME.KEY` or `table:NAME.KEY` in an HTML comment, closed by `/claim` or `/table`.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rulekeep.analysis.rows import Rows, Span, TaskSetting, Variant
from rulekeep.analysis.summary import LEVEL, Summary, holm, p_text
from rulekeep.printable import markdown_table
from rulekeep.records.store import CLAIMS, text_bytes, whole_runs, write_bytes
from rulekeep.registry import failure_line, load_file
from rulekeep.specs import UsageError

STUDIES, RESULTS = "studies", "results"
_MARK = re.compile(r"(<!-- (claim|table):([\w-]+)\.([\w-]+) -->)(.*?)(<!-- /\2 -->)", re.DOTALL)
_OPENED = re.compile(r"<!-- (claim|table):([\w-]+)\.([\w-]+) -->")
# A figure's file says what it shows (`analysis.panels.shown`): its bytes differ by machine.
_SHOWN = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Sweep(NamedTuple):
    """What makes the runs of a folder: a preset, or a function in the file of the study.

    `mixers` are the keys of variants for the preset; by default it runs its own mixers.
    """

    what: str
    mixers: tuple[str, ...] = ()


Value: TypeAlias = float | Summary | Span | str


@dataclass(frozen=True)
class Claim:
    """A statistic that a document states, and the condition under which its sentence stands.

    `minimum` and `maximum` bound the value: for a summary its interval, for a span both ends.
    """

    value: Callable[[Rows], Value]
    digits: int = 3
    minimum: float = -math.inf
    maximum: float = math.inf
    holds: Callable[[Rows], bool] | None = None

    def text(self, value: Value) -> str:
        """The value as documents state it."""
        if isinstance(value, str):
            return value
        if isinstance(value, Summary | Span):
            return value.text(self.digits)
        return f"{value:,.{self.digits}f}"

    def failure(self, value: Value, rows: Rows) -> str | None:
        """Why the claim does not hold; None if it does."""
        if not isinstance(value, str):
            ends = (value.low, value.high) if isinstance(value, Summary | Span) else (value, value)
            # A summary without an interval is within no bounds but those that are none.
            low = -math.inf if ends[0] is None else ends[0]
            high = math.inf if ends[1] is None else ends[1]
            if not self.minimum <= low <= high <= self.maximum:
                bounds = f"{self.minimum:g} to {self.maximum:g}"
                return f"is {self.text(value)}, must be from {bounds}"
        return None if self.holds is None or self.holds(rows) else "its condition does not hold"


class Tested(NamedTuple):
    """A difference over seeds, how probable so large a one is where there is none, and the same
    corrected for all that are tested with it.
    """

    difference: Summary
    p: float
    corrected: float

    @property
    def is_shown(self) -> bool:
        """Whether it is shown, in the direction that it has."""
        return self.corrected < 1 - LEVEL


@dataclass(frozen=True)
class Family:
    """Comparisons that are tested together, declared before the runs: by name a difference, paired
    by seed, at the longest length.

    One is *shown* where Holm's correction over all of the family leaves it below 0.05.
    """

    differences: Callable[[Rows], Mapping[str, Summary]]

    def tested(self, rows: Rows) -> dict[str, Tested]:
        """Each comparison; those without a second seed are left out."""
        found = {name: one for name, one in self.differences(rows).items() if one.p is not None}
        corrected = holm({name: one.p or 0.0 for name, one in found.items()})
        return {name: Tested(one, one.p or 0.0, corrected[name]) for name, one in found.items()}

    def shown(self, name: str, digits: int = 3, *, reverse: bool = False) -> Claim:
        """A difference that must be shown, and above 0; the other way round if `reverse`."""
        return self._claim(name, digits, reverse, lambda one: one.is_shown, 0.0)

    def not_shown(self, name: str, digits: int = 3, *, reverse: bool = False) -> Claim:
        """A difference that must not be shown, in either direction."""
        return self._claim(name, digits, reverse, lambda one: not one.is_shown, -math.inf)

    def _claim(
        self, name: str, digits: int, reverse: bool, holds: Callable[[Tested], bool], minimum: float
    ) -> Claim:
        def value(rows: Rows) -> Summary:
            found = self.tested(rows)[name].difference
            return -found if reverse else found

        return Claim(value, digits, minimum, holds=lambda rows: holds(self.tested(rows)[name]))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, what is compared, and what is published.

    `context` is the longest training length in tokens. A cell counts if all `seeds` are run.
    `sweeps` make each folder of results; `reads` are folders of other studies, read first.
    `families` are the comparisons that are tested, by what is tested. They make a table `tested`.
    """

    question: str
    variants: Mapping[str, Variant]
    settings: Sequence[TaskSetting]
    context: int
    seeds: Sequence[int] = (1, 2, 3, 4, 5)
    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    reads: Sequence[str] = ()
    families: Mapping[str, Family] = field(default_factory=dict)
    tables: Mapping[str, Callable[[Rows], str]] = field(default_factory=dict)
    figures: Mapping[str, Callable[[Rows], bytes]] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)


class Opened(NamedTuple):
    """A study with its name, its file, and the folder whose documents it fills."""

    name: str
    path: Path
    root: Path
    study: Study

    @property
    def folder(self) -> Path:
        """The folder of its tables, figures and claims."""
        return self.root / RESULTS / self.name

    def rows(self) -> Rows:
        """Every record that the study reads.

        Raises:
            UsageError: a folder of records is missing, or a record in it is damaged.
        """
        study, records = self.study, []
        for folder in (*study.reads, *study.sweeps):
            root = self.root / RESULTS / folder
            if not root.is_dir():
                fix = f"rulekeep study {self.name} run" if folder in study.sweeps else "its study"
                raise UsageError(f"{root}: there are no records yet; {fix} makes them")
            records += whole_runs(root)
        return Rows(records, study.variants, study.settings, study.context, study.seeds)


def documents(root: Path) -> dict[Path, str]:
    """What may have marks to fill: README.md, docs/*.md and results/*/README.md."""
    kinds = ("README.md", "docs/*.md", f"{RESULTS}/*/README.md")
    paths = (path for kind in kinds for path in sorted(root.glob(kind)))
    return {path: path.read_bytes().decode() for path in paths}


def names() -> list[str]:
    """The studies of the folder; what else stands there they share."""
    files = sorted(Path(STUDIES).glob("*.py"))
    return [one.stem for one in files if re.search("^STUDY = ", one.read_text("utf-8"), re.M)]


def opened(name: str) -> Opened:
    """The study of a name, studies/NAME.py, or of a file.

    Documents and results are beside the folder `studies`, or beside a file elsewhere.

    Raises:
        UsageError: there is none, or its file fails.
    """
    path = Path(name if name.endswith(".py") else f"{STUDIES}/{name}.py").absolute()
    if not path.is_file():
        known = ", ".join(names()) or "none here"
        raise UsageError(f"study {name!r}: there is no file {path}; studies: {known}")
    try:
        module = load_file(path)
    # Whatever the file raises, an early exit included, is its author's to read in one line.
    except (Exception, SystemExit) as error:
        raise UsageError(f"study {name!r}: {failure_line(error)}") from None
    found = getattr(module, "STUDY", None)
    if not isinstance(found, Study):
        raise UsageError(f"study {name!r}: {path.name} must set STUDY = rulekeep.study.Study(…)")
    root = path.parent.parent if path.parent.name == STUDIES else path.parent
    return Opened(path.stem, path, root, found)


class Made(NamedTuple):
    """What the records give: files, texts by mark, and a line for each failing claim or mark."""

    files: dict[Path, bytes]
    marks: dict[str, str]
    failures: list[str]


def made(one: Opened) -> Made:
    """Compute a study without writing.

    Raises:
        UsageError: records are missing, or a function of the study fails.
    """
    study, result, texts = one.study, Made({}, {}, []), {}
    tables = dict(study.tables)
    if study.families:
        tables["tested"] = lambda rows: table_of_families(study.families, rows)
    # Mixers of files are named from there, and their defaults are read.
    with chdir(one.root):
        rows = one.rows()
        for key, table in tables.items():
            with _named(f"table {one.name}.{key}"):
                text = table(rows).strip()
            result.files[one.folder / "tables" / f"{key}.md"] = text_bytes(f"{text}\n")
            result.marks[f"table:{one.name}.{key}"] = f"\n\n{text}\n\n"
        for key, figure in study.figures.items():
            with _named(f"figure {one.name}.{key}"):
                result.files[one.folder / "figures" / key] = figure(rows)
        for key, claim in study.claims.items():
            with _named(f"claim {one.name}.{key}"):
                value = claim.value(rows)
                texts[key] = result.marks[f"claim:{one.name}.{key}"] = claim.text(value)
                failure = claim.failure(value, rows)
            if failure:
                result.failures.append(f"claim {one.name}.{key}: {failure}")
    claims = json.dumps(texts, indent=1, ensure_ascii=False)
    result.files[one.folder / CLAIMS] = text_bytes(f"{claims}\n")
    for path, text in documents(one.root).items():
        result.failures.extend(_lost(path, text, one, result))
    return result


@contextmanager
def _named(part: str) -> Iterator[None]:
    """What fails inside is named by the part of a study that it is of."""
    try:
        yield
    except Exception as error:
        raise UsageError(f"{part}: {failure_line(error)}") from error


def table_of_families(families: Mapping[str, Family], rows: Rows) -> str:
    """Every comparison of every family, as a Markdown table."""
    body = [
        [name, key, one.difference.text(), p_text(one.p), p_text(one.corrected), _verdict(one)]
        for name, family in families.items()
        for key, one in family.tested(rows).items()
    ]
    return markdown_table(["tested together", "comparison", "difference", "p", "p, Holm", ""], body)


def _verdict(one: Tested) -> str:
    if not one.is_shown:
        return "not shown"
    return "shown" if (one.difference.mean or 0.0) > 0 else "shown, behind"


def build(one: Opened) -> list[str]:
    """Write what the records give, and delete tables and figures that they no longer give.

    A line for each claim or mark that fails.
    """
    result = made(one)
    for path, content in result.files.items():
        if not _same(path, content):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
    for path in _left_over(one, result):
        path.unlink()
    for path, before in documents(one.root).items():
        after = _MARK.sub(lambda m: f"{m[1]}{result.marks.get(_name(m), m[5])}{m[6]}", before)
        if after != before:
            write_bytes(path, text_bytes(after))
    return result.failures


def check(one: Opened) -> list[str]:
    """A line for each claim, file or document that differs from the records."""
    result = made(one)
    fix = f"run rulekeep study {one.name} build"
    problems = list(result.failures)
    for path, content in result.files.items():
        if not _same(path, content):
            state = "is not what the records give" if path.exists() else "is missing"
            problems.append(f"{path.relative_to(one.root)}: {state}; {fix}")
    for path in _left_over(one, result):
        problems.append(f"{path.relative_to(one.root)}: is of nothing in the study; {fix}")
    for path, text in documents(one.root).items():
        for mark in _MARK.finditer(text):
            wanted = result.marks.get(_name(mark), mark[5])
            if mark[5] != wanted:
                says = f": says {mark[5]!r}, must be {wanted!r}" if mark[2] == "claim" else ""
                where = f"{path.relative_to(one.root)}: {_name(mark)} is out of date"
                problems.append(f"{where}{says}; {fix}")
    return problems


def stray(root: Path, names: Iterable[str]) -> list[str]:
    """A line for each mark in the documents of a folder that belongs to none of these studies."""
    known = {*names}
    return [
        f"{path.relative_to(root)}: {kind}:{name}.{key}: there is no study {name}"
        for path, text in documents(root).items()
        for kind, name, key in _OPENED.findall(text)
        if name not in known
    ]


def _lost(path: Path, text: str, one: Opened, result: Made) -> Iterator[str]:
    """A line for each mark of the study without such a key, or not closed."""
    closed = {mark.start() for mark in _MARK.finditer(text)}
    for mark in _OPENED.finditer(text):
        kind, name, key = mark.groups()
        place = f"{path.relative_to(one.root)}: {kind}:{name}.{key}"
        if name == one.name and f"{kind}:{name}.{key}" not in result.marks:
            yield f"{place}: the study has no such {kind}"
        elif name == one.name and mark.start() not in closed:
            yield f"{place}: is not closed; write <!-- /{kind} --> after it"


def _name(mark: re.Match[str]) -> str:
    return f"{mark[2]}:{mark[3]}.{mark[4]}"


def _left_over(one: Opened, result: Made) -> list[Path]:
    """Tables that it no longer makes, and figures that say what they show, as drawn ones do."""
    tables, figures = (one.folder / "tables").glob("*.md"), (one.folder / "figures").glob("*")
    standing = [
        *(path for path in tables if path.is_file()),
        # What else stands there is not the study's: it was made by hand.
        *(path for path in figures if path.is_file() and _SHOWN.search(path.read_bytes())),
    ]
    return sorted(path for path in standing if path not in result.files)


def _same(path: Path, content: bytes) -> bool:
    """Whether a file is as it must be; for a figure, whether it shows the same."""
    if not path.is_file():
        return False
    stands = path.read_bytes()
    shown = None if path.suffix in (".md", ".json") else _SHOWN.search(content)
    return stands == content or (shown is not None and shown[0] in stands)
