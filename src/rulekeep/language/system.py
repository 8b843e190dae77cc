"""A system prompt of a user's own: its rules are found, and the rest stays as it is.

    prompt = read_system("prompt.md", families)
    [*prompt.rules]                                 # their families, in the order of the text
    prompt.said({"name": "Your name is Nora."})     # with these rules; of none, without their lines

A rule is a bullet that says what a family says with one of its options, or a mark: {{name}}. No
torch.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rulekeep.language.families import Families, Family, options_in
from rulekeep.specs import UsageError
from rulekeep.specs.base import choose

_Place: TypeAlias = tuple[int, int]
_MARK = r"\{\{[ \t]*(?:%s)[ \t]*\}\}"
_BULLET = r"^[ \t]*(?:[-*]|\d+\.)[ \t]+(%s)[ \t\r]*(?:\n|\Z)"
_FLAGS = re.IGNORECASE | re.MULTILINE


class SystemPrompt(NamedTuple):
    """A prompt as it was read, and its rules by family, in their order.

    A rule has two places, each a beginning and an end: of its words, and of what is left out where
    no rule is stated.
    """

    path: str
    text: str
    rules: Mapping[str, tuple[_Place, _Place]]

    def said(self, sentences: Mapping[str, str]) -> str:
        """The prompt with a sentence for each family; of none, without rules and their bullets."""
        text, at = "", 0
        for name, (words, whole) in self.rules.items():
            begin, end = words if sentences else whole
            text, at = text + self.text[at:begin] + sentences.get(name, ""), end
        return text + self.text[at:]

    @property
    def digest(self) -> str:
        """What identifies it: where its rules stand, and all that stays as it is."""
        marked = self.said({name: f"{{{{{name}}}}}" for name in self.rules})
        return hashlib.sha256(marked.encode()).hexdigest()[:12]

    def notes(self, families: Families) -> Iterator[str]:
        """What a reader of a cell must know of it."""
        yield f"system prompt: measured of {Path(self.path).name}: {', '.join(self.rules)}"
        own = {name: families[name] for name in self.rules}
        for name, options in options_in(self.said({}), own).items():
            yield f"system prompt: {', '.join(options)} of {name} stands beside its rules too"


def read_system(path: str, families: Families) -> SystemPrompt:
    """The prompt of a file, and those of its rules that are of these families."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--system {path}: {error.strerror}; name a text file") from None
    except UnicodeDecodeError:
        raise UsageError(f"--system {path}: is no UTF-8; save it as UTF-8") from None
    for mark in re.findall(_MARK % r"[\w-]+", text):
        if (name := mark.strip("{} \t")) not in families:
            fix = choose(name, families)
            raise UsageError(f"--system {path}: {mark} is no family asked for; {fix}")
    rules = dict[str, tuple[_Place, _Place]]()
    for name, family in families.items():
        form = f"{_MARK % re.escape(name)}|{_sentence(family)}"
        bullets = {one.span(1): one.span() for one in re.finditer(_BULLET % form, text, _FLAGS)}
        every = [one.span() for one in re.finditer(form, text, _FLAGS)]
        found = [at for at in every if at in bullets or text[at[0]] == "{"]
        # One in running text would say something else than the one that is drawn.
        if found and len(every) > 1:
            raise UsageError(f"--system {path}: says {name} {len(every)} times; leave one")
        for at in found:
            rules[name] = at, bullets.get(at, at)
    if not rules:
        raise UsageError(
            f"--system {path}: names no rule; write one rule of a family a bullet, or "
            f"{{{{family}}}}; families are {', '.join(families)}"
        )
    shown = dict[object, str]()
    for name, (words, _) in rules.items():
        for place in (words, (families[name].request, families[name].prefix)):
            if (other := shown.setdefault(place, name)) != name:
                raise UsageError(
                    f"--system {path}: {other} and {name} show in the same words of a reply; "
                    "name all but one as --families"
                )
    return SystemPrompt(path, text, dict(sorted(rules.items(), key=lambda one: one[1])))


def _sentence(family: Family) -> str:
    """A pattern of what a family says with any option, however its words are spaced."""
    said, options = _spaced(family.rule.removesuffix(".")), map(_spaced, family.options)
    any_one = f"(?:{'|'.join(options)})"
    for gap in ("{}", "{old}"):
        said = said.replace(re.escape(gap), any_one)
    return rf"(?<!\w){said}\.?(?!\w)"


def _spaced(text: str) -> str:
    return r"\s+".join(map(re.escape, text.split()))
