"""Families of rules in words, read from TOML: a rule's text, its options, and how a reply shows it.

    [name]
    kind = "asked"                        # or "cued", "uncued": what tells of the rule in the end
    group = "content"
    rule = "Your name is {}."             # a revision names what it replaces with {old}
    options = ["Nora", "Felix", "Oscar", "Victor"]
    request = "Who are you?"
    prefix = "My name is"                 # how the scored reply begins
    replies = [" Nora", …]                # what follows it, one an option; left out: the option
    check = "I am {}"                     # what a written reply must match; left out: the option

A rule of an agent says more (`rulekeep.compaction`): `wordings`, other ways to say it; `about`, the
beginnings of words of which one stands beside the option where the rule is told in other words;
`force`, words that make it a rule, beside those of its group; `breaks`, a reply against it.

A check is a regular expression in which {} is the option, or one form an option: a regular
expression, or a list of words of which a reply has two, its code left out.

One option is drawn as the rule, and the others are its rivals: chance is one in as many as there
are. No torch is loaded.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from rulekeep.specs import Spec, UsageError

# The families that come with the package, by what asks for them.
SHIPPED = {"": ("language", "rules.toml"), "agents": ("compaction", "rules.toml")}
_OPTION, _OLD = "{}", "{old}"
# The option as a word, or as words.
_NAMED = r"(?<!\w){}(?!\w)"
# Underscores around words are no part of them: _Nora_ is Nora. Those of names are, as in my_docs.
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# Goes up where the same checks judge a reply otherwise.
_JUDGING = 2


class Family(Spec):
    """One kind of rule: the same sentence with one option or another."""

    kind: Literal["asked", "cued", "uncued"]
    group: str
    rule: str
    options: tuple[str, ...]
    request: str
    prefix: str = ""
    replies: tuple[str, ...] = ()
    check: str | tuple[str | tuple[str, ...], ...] = ()
    wordings: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    force: str = ""
    breaks: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.options) < 2:
            raise ValueError(f"options {list(self.options)}: give two or more")
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"options {list(self.options)}: name each once")
        if not all(option.strip() for option in self.options):
            raise ValueError("options: one is empty; write a word for each")
        self._options_are_of_one_form()
        for text in (self.rule, *self.wordings):
            if text.count(_OPTION) != 1:
                raise ValueError(f"rule {text!r}: must name its option once, as {{}}")
        if self.replies and len(self.replies) != len(self.options):
            raise ValueError(
                f"replies: {len(self.replies)} for {len(self.options)} options; give one an option"
            )
        if len(set(self.continuations)) < len(self.options):
            raise ValueError("replies: two options have the same reply; give each its own")
        if not all(self.continuations):
            raise ValueError("replies: one is empty; write what follows the prefix")
        if not self.request.strip():
            raise ValueError("request: is empty; write what the user asks")
        if self.check:
            self._check_is_whole()
        return self

    def _options_are_of_one_form(self) -> None:
        """Raise where options are told apart by white space, or one stands in another.

        Options of unequal length are none the worse: each is compared with itself as a rival.
        """
        for at, option in enumerate(self.options):
            if option != " ".join(option.split()):
                raise ValueError(f"options: {option!r} has spaces too many; take them off")
            for rival, stands in enumerate(self.named(option)):
                if stands != (rival == at):
                    raise ValueError(
                        f"options: {self.options[rival]!r} stands in {option!r}; "
                        "write options that do not"
                    )
        if len({reply[:1].isspace() for reply in self.replies}) > 1:
            raise ValueError("replies: some begin with a space and others do not; write all alike")

    def _check_is_whole(self) -> None:
        if isinstance(self.check, str) and _OPTION not in self.check:
            raise ValueError(f"check {self.check!r}: must hold the option, as {{}}")
        if not isinstance(self.check, str) and len(self.check) != len(self.options):
            raise ValueError(
                f"check: {len(self.check)} for {len(self.options)} options; give one, or one each"
            )
        try:
            self.shown("")
        except re.error as error:
            raise ValueError(f"check: is no regular expression ({error})") from None
        self.check_finds_replies()

    def check_finds_replies(self) -> None:
        """Raise unless each option's own reply shows it, and no other's."""
        for at, (option, reply) in enumerate(zip(self.options, self.continuations, strict=True)):
            if self.shown(self.prefix + reply) != tuple(i == at for i in range(len(self.options))):
                raise ValueError(
                    f"check: does not find {option!r} alone in {self.prefix + reply!r}; "
                    "give the family a check that does"
                )

    def shown(self, reply: str) -> tuple[bool, ...]:
        """Which options a written reply shows; a rule is followed where its own is alone."""
        given = self.check or _NAMED
        forms = (
            [given.replace(_OPTION, re.escape(option)) for option in self.options]
            if isinstance(given, str)
            else given
        )
        return tuple(_has(reply, one) for one in forms)

    def named(self, reply: str) -> tuple[bool, ...]:
        """Which options stand in a text as words."""
        return self.model_copy(update={"check": ()}).shown(reply)

    @property
    def continuations(self) -> tuple[str, ...]:
        """What is scored after the prefix, one text an option."""
        gap = " " if self.prefix else ""
        return self.replies or tuple(f"{gap}{option}" for option in self.options)

    @property
    def recalled(self) -> tuple[str, tuple[str, ...]]:
        """The rule itself as a reply: how it begins, and what follows, one text an option."""
        sentence = next(part for part in self.rule.split(". ") if _OPTION in part)
        before, _, _ = sentence.partition(_OPTION)
        gap = " " if before.endswith(" ") else ""
        return before.rstrip(), tuple(f"{gap}{option}" for option in self.options)

    @property
    def is_revision(self) -> bool:
        """Whether the rule's text names an earlier option that it replaces."""
        return _OLD in self.rule

    def said(self, option: int, old: int | None = None) -> str:
        """The rule's text with an option, and for a revision the one that it replaces."""
        text = self.rule.replace(_OPTION, self.options[option])
        return text if old is None else text.replace(_OLD, self.options[old])


Families = Mapping[str, Family]


def is_stored(text: str, option: str) -> bool:
    """Whether an option stands in a text, as a word of its own."""
    return _has(text, _NAMED.replace(_OPTION, re.escape(option)))


def options_in(text: str, families: Families) -> dict[str, list[str]]:
    """The options that stand in a text as words, by family."""
    # A search for a word among others takes a hundred times as long as one for letters.
    letters = text.lower()
    every = {
        name: [
            option
            for option in family.options
            if option.lower() in letters and is_stored(text, option)
        ]
        for name, family in families.items()
    }
    return {name: options for name, options in every.items() if options}


def _unmarked(text: str) -> str:
    """A text without the underscores that stress a word."""
    return _EMPHASIS.sub("", text)


def _has(reply: str, form: str | tuple[str, ...]) -> bool:
    """Whether a reply has a form: it matches a regular expression, or has two words of several."""
    if isinstance(form, str):
        # A check may ask for the underscores.
        return any(re.search(form, text, re.IGNORECASE) for text in {reply, _unmarked(reply)})
    said = re.findall(r"\w+", _unmarked(_CODE.sub(" ", reply)).casefold())
    return len({*said} & {word.casefold() for word in form}) >= 2


def read_families(path: str) -> dict[str, Family]:
    """The families of a TOML file; shipped ones if `path` is empty, or "agents": rules of agents.

    Raises:
        UsageError: it cannot be read, or a family of it cannot be.
    """
    shipped = SHIPPED.get(path)
    place = files("rulekeep").joinpath(*shipped) if shipped else Path(path)
    try:
        text = place.read_bytes()
    except OSError as error:
        raise UsageError(f"--rules {path}: {error.strerror}; name a TOML file of rules") from None
    try:
        tables = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--rules {path}: is no TOML ({error})") from None
    found = {}
    for name, values in tables.items():
        if not isinstance(values, dict):
            raise UsageError(f"--rules {path}: {name} stands outside a family; write [{name}]")
        try:
            found[name] = Family.parse(**values)
        except UsageError as error:
            raise UsageError(f"--rules {path}: family {name}: {error}") from None
    if not found:
        raise UsageError(f"--rules {path}: has no family; write at least one")
    return found


def digest_of(families: Families) -> str:
    """What identifies the families of a file: their content, whatever the file is called.

    Checks are left out: they say nothing of a reply that is scored.
    """
    # What came with the rules of agents counts where it is said: ids of before stand.
    newer = ("wordings", "about", "force", "breaks")
    left_out = {
        name: {"check", *(key for key in newer if not getattr(one, key))}
        for name, one in families.items()
    }
    whole = [
        f"{name}={one.model_dump_json(exclude=left_out[name])}"
        for name, one in sorted(families.items())
    ]
    return hashlib.sha256("\n".join(whole).encode()).hexdigest()[:12]


def digest_of_checks(families: Families) -> str:
    """What identifies how written replies are checked."""
    whole = [f"{name}={one.check!r}" for name, one in sorted(families.items())]
    return hashlib.sha256("\n".join([str(_JUDGING), *whole]).encode()).hexdigest()[:12]
