"""What MkDocs does beside, to build the site of `docs`: it takes along what pages link to outside.

A page of `docs` links to figures, records, code and notes by their place in the repository. The
same link leads somewhere on the site: the file is copied to `repository/`, a Markdown file among
them becomes a page, and CONTRIBUTING.md is a page of its own. The table of how the documents read
is made as the site is built.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from prose import table

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"(\]\()([^)\s#]+)")
_FENCE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)
_CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
# Before an option of a mixer, as in `delta[heads=2,key_width=64]`.
_OPTION = re.compile(r"(?<=[\[,])(?=[a-z][a-z_.]*=)")
# Pages that stand elsewhere in the repository: the place there, and the page.
PAGES = {"CONTRIBUTING.md": "contributing.md"}
# What a link to a folder leads to: the first that stands in it, or else a list of its files.
_OF_FOLDER = ("README.md", "report.md", "records.jsonl")
_LISTED = "index.md"


def _place(source: str, target: str) -> str | None:
    """Where a link leads in the repository; None for one that leads out of it or to an address."""
    if re.match(r"[a-z]+:|/", target):
        return None
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return None if place.startswith("..") else place


def _file(place: str) -> str:
    """The file that stands for a place: of a folder, what it has to show."""
    if not (ROOT / place).is_dir():
        return place
    shown = (f"{place}/{name}" for name in _OF_FOLDER)
    return next((one for one in shown if (ROOT / one).is_file()), f"{place}/{_LISTED}")


def _exists(file: str) -> bool:
    return (ROOT / file).is_file() or _is_list(file)


def _is_list(file: str) -> bool:
    return not (ROOT / file).exists() and file.endswith(f"/{_LISTED}")


def _listed(file: str) -> str:
    """The files of a folder as a page."""
    folder = (ROOT / file).parent
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return "\n".join([f"# {folder.name}", "", *(f"- [{name}]({name})" for name in names), ""])


def _page(place: str) -> str:
    """Where a file of the repository stands on the site."""
    file = _file(place)
    return PAGES.get(file) or (
        file.removeprefix("docs/") if file.startswith("docs/") else f"repository/{file}"
    )


def _targets(source: str) -> set[str]:
    """What a document links to, as files of the repository."""
    whole = _listed(source) if _is_list(source) else (ROOT / source).read_text(encoding="utf-8")
    text = _FENCE.sub("", whole)
    places = (_place(source, target) for _, target in _LINK.findall(text))
    return {_file(place) for place in places if place and _exists(_file(place))}


def on_files(files: Any, config: Any) -> Any:
    """Adds the files outside `docs` that its pages link to, and those that these link to."""
    from mkdocs.structure.files import File

    docs = Path(config.docs_dir)
    todo = [*PAGES, *(f"docs/{path.relative_to(docs).as_posix()}" for path in docs.rglob("*.md"))]
    done = set[str]()
    while todo:
        source = todo.pop()
        if source in done:
            continue
        done.add(source)
        if _is_list(source):
            files.append(File.generated(config, _page(source), content=_listed(source)))
        elif not source.startswith("docs/"):
            files.append(File.generated(config, _page(source), abs_src_path=str(ROOT / source)))
        if source.endswith(".md"):
            todo += _targets(source)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links as they lead on the site."""
    uri = page.file.src_uri
    markdown = markdown.replace("<!-- prose -->", f"\n{table()}\n")
    elsewhere = {site: place for place, site in PAGES.items()}
    source = elsewhere.get(uri) or (
        uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"
    )

    def led(link: re.Match[str]) -> str:
        place = _place(source, link[2])
        if place is None or not _exists(_file(place)):
            return link[0]
        return link[1] + posixpath.relpath(_page(place), posixpath.dirname(uri) or ".")

    parts = _FENCE.split(markdown)
    return "".join(one if i % 2 else _LINK.sub(led, one) for i, one in enumerate(parts))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Lets a mixer's name break between its options: else it takes a table's whole width."""
    return _CELL.sub(lambda cell: _OPTION.sub("<wbr>", cell[0]), html)
