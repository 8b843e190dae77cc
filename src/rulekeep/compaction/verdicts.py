"""What is left of a rule in a history: word for word, in other words, weakened, stale, or lost.

    standing(rule, family, messages)        # a Standing: the verdict, and the line it rests on

A rule is told in other words where one sentence has its option, a word that it is about, and the
force of a rule. Without the force it is weakened. A heading above a list may give both. Rules of
others are attributed where their sentence says whose they are. No model, no torch.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

from rulekeep.compaction.history import Fact, Rule
from rulekeep.compaction.messages import Message, text_of
from rulekeep.language.families import Family, is_stored

Verdict: TypeAlias = Literal[
    "verbatim", "reworded", "weakened", "stale", "lost", "promoted", "harmless", "failed"
]
KEPT: tuple[Verdict, ...] = ("verbatim", "reworded")
# As tables say them.
SHOWN: dict[str, str] = {
    "verbatim": "word for word", "reworded": "in other words", "weakened": "weakened",
    "stale": "stale", "lost": "lost", "promoted": "promoted", "harmless": "not followed",
    "failed": "failed",
}  # fmt: skip
_LONGEST_LINE = 300

# An end of a sentence, with quotes and brackets that close after it; in JSON a line break is \n.
_LINES = re.compile(r"\n+|\\n")
_ITEM = re.compile(r"[-*•]|\d+[.)]|\(\d+\)")
# A heading without a colon.
_OPENS = re.compile(
    r"(?=.*\b(?:rules?|instructions?|constraints?|conventions?|preferences?|requirements?)\b)[^.:;,]{1,60}[.:]?",
    re.IGNORECASE,
)
_SENTENCES = re.compile(
    r"(?<=[.!?])(?<!Mr\.)(?<!Ms\.)(?<!Mrs\.)(?<!Dr\.)(?<!e\.g\.)(?<!i\.e\.)(?<!max\.)(?<!min\.)(?<!\b[A-Z]\.)[\"'”’)\]]*,?\s+"
)
_FORBIDS = (
    r"never|(?:do|does|is|are|must|should|can|may|shall|need)(?:n['’]?t| not)|cannot|not allowed"
    r"|avoid\w*|forb[ia]\w*|prohibit\w*|off[- ]limits|refrain\w*|banned|stay away|keep away"
    r"|hands off|instead of|rather than|only|nobody|no one"
)
# In a sentence about what is forbidden these are force enough.
_NO = r"no|not|without|except|leave|no longer|rules?|constraints?|polic(?:y|ies)"
_DEMANDS = (
    r"always|must|shall|should|only|every|each|have to|has to|required?|requires"
    r"|requirement\w*|mandatory|want(?:s|ed)?|prefer\w*|ask(?:s|ed)|insist\w*|instruct\w*|rules?"
    r"|needs?|(?:is|are) to|wish(?:es)?|no\b.*\bwithout"
    r"|polic(?:y|ies)|constraints?|from now on|going forward|remember|at most|at least|no more than"
    r"|up to|limit\w*|maximum|max|cap(?:ped)?|under|below|instead|keep|use|stick to|likes?"
    r"|directives?|conventions?|standing|guidelines?|no other|nothing (?:above|over|beyond|else)"
    r"|no \w+ may|to be kept"
)
# A sentence with one of these tells of a rule, and does not give it.
_WEAKENS = re.compile(
    r"\b(?:(?<!be )mention(?:s|ed)|maybe|might|may have|could(?! you)|perhaps|if possible"
    r"|ideally|optional(?:ly)?|consider(?:ed|s|ing)?|discuss(?:ed|es)?|talked about|brought up"
    r"|suggest(?:s|ed|ion)?|was said about|touched on|came up|nice to have|sometimes|often|usually"
    r"|whether|some talk|one thought|or something|used to|first draft|open question|undecided"
    r"|recalls?|thinking about|some day|trying out|not (?:yet )?(?:settled|decided|know)|possible"
    r"|had been|yesterday|last (?:time|week|month|year|night))\b",
    re.IGNORECASE,
)
# In a sentence of its own, without a family to tell what it is about: only what nobody takes for a
# report.
_GIVES = re.compile(
    r"\b(?:always|never|must|shall|do not|don['’]t|may not|not allowed|forbid\w*|forbidden"
    r"|prohibited|from now on|required to|mandatory|user (?:wants|prefers|insists|demands))\b",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(
    r"\b(?:no longer|withdr[ae]w\w*|revoked?|cancell?ed|dropp?ed|lifted|obsolete|taken back|forget"
    r"|any ?more|scratch that|retracted|rescinded|superseded|disregard\w*|void|does not hold"
    r"|(?:took|takes?|taken) (?:that |it |this )?back|need not|leave it out"
    r"|first (?:asked|wanted)|again)\b",
    re.IGNORECASE,
)
_OF_OTHERS = re.compile(
    r"\b(?:comment\w*|issues? \d+|(?:e-?)?mails? (?:\d+ )?(?:from|by|of|sa(?:ys?|id)|ask(?:s|ed)?)"
    r"|another (?:user|company|team|department|project|firm)|someone|somebody|forwarded|wrote:"
    r"|third[- ]party|tool (?:result|output)s?|not (?:an? )?instructions?|web ?pages?|states that"
    r"|untrusted|asks the reader|Lee Park|it says|wrote\b.*[\"“]|own style guide"
    r"|(?:the|a|an) (?:e-?mail|flyer|page|guide|article|letter|supplier|consultant|vendor"
    r"|contributor|sender|contractor)|(?:README|\w+\.(?:html|md|txt)) (?:asks|says|tells|wants)"
    r"|(?:his|her|their) (?:advice|opinion|request|rules?|statement|view|wish))\b",
    re.IGNORECASE,
)
# In a sentence beside it.
_DISOWNED = re.compile(
    r"\b(?:third[- ]party|not (?:from |by )?the user|user did not|part of the (?:page|mail)"
    r"|not ours|that['’]?s (?:his|her|their)|their rules?|you have(?:n['’]t| not) (?:confirmed|set)"
    r"|not about (?:us|our)|isn['’]t about|not adopted|we won['’]t|not one of them)\b",
    re.IGNORECASE,
)


class Standing(NamedTuple):
    """What is left of a rule, the role that says it, and the line on which that rests."""

    verdict: Verdict
    role: str = ""
    line: str = ""


class _Sentence(NamedTuple):
    """One sentence, the headings right above it, and those before and after it in its line."""

    role: str
    text: str
    heading: str
    before: str
    after: str

    @property
    def is_of_others(self) -> bool:
        disowned = _DISOWNED.search(f"{self.before} {self.after}")
        return bool(disowned or _OF_OTHERS.search(f"{self.heading} {self.text}"))


def standing(rule: Rule, family: Family, messages: Sequence[Message]) -> Standing:
    """What these messages keep of a rule."""
    if rule.place == "withdrawn":
        found = _told(rule.option, rule.texts, family, messages)
        taken = [
            one
            for one in _with(rule.option, messages, everything=True)
            if _TAKES_BACK.search(f"{one.heading} {one.text}")
            and (is_stored(one.text, rule.option) or _is_about(one, family))
        ]
        if found.verdict in KEPT and not taken:
            return found._replace(verdict="stale")
        return Standing("harmless", *(taken[-1][:2] if taken else ("", "")))
    if not rule.holds:
        found = _told(rule.option, rule.texts, family, messages, others=False)
        kept = found.verdict in KEPT and found.role != "tool"
        return found._replace(verdict="promoted") if kept else Standing("harmless")
    found = _told(rule.option, rule.texts, family, messages, former=rule.former)
    if rule.former and found.verdict not in KEPT:
        former = _told(rule.former, (rule.former_text,), family, messages)
        if former.verdict in KEPT:
            return former._replace(verdict="stale")
    return found


def _told(
    option: str, texts: Sequence[str], family: Family, messages: Sequence[Message],
    *, others: bool = True, former: str = "",
) -> Standing:  # fmt: skip
    """The best that any sentence says of a rule; sentences of `others` may not count."""
    best = Standing("lost")
    plain = [_plain(text) for text in texts]
    for message in messages:
        whole = text_of(message)
        for sentence in _with(option, [message]):
            if not others and sentence.is_of_others:
                continue
            found = Standing("lost", message["role"], sentence.text.strip()[:_LONGEST_LINE])
            if any(text in _plain(whole) for text in plain):
                return found._replace(verdict="verbatim")
            if _says(sentence, family, option, former):
                best = found._replace(verdict="reworded")
            elif best.verdict == "lost" and _is_about(sentence, family, option):
                best = found._replace(verdict="weakened")
    return best


def _with(option: str, messages: Iterable[Message], *, everything: bool = False) -> list[_Sentence]:
    """Sentences that have an option; or every one of messages that have it."""
    return [
        sentence
        for message in messages
        if option.casefold() in (whole := text_of(message)).casefold()
        for sentence in _sentences(message["role"], whole)
        if everything or is_stored(sentence.text, option)
    ]


def _sentences(role: str, text: str) -> Iterator[_Sentence]:
    """The sentences of a text, with the headings above them; of JSON the keys are headings."""
    try:
        flat = [*_flattened("", json.loads(text))]
    except ValueError:
        flat = [*_under_headings(text)]
    for heading, line in flat:
        parts = _SENTENCES.split(line)
        for at, part in enumerate(parts):
            before, after = "".join(parts[at - 1 : at]), "".join(parts[at + 1 : at + 2])
            # A short sentence about rules begins a line of them.
            inline = next((one for one in parts[:at] if _OPENS.fullmatch(one.strip())), "")
            yield _Sentence(role, part, f"{heading} {inline}".strip(), before, after)


def _flattened(key: str, value: Any) -> Iterator[tuple[str, str]]:
    parts = [*value.values()] if isinstance(value, dict) else [value]
    if isinstance(value, dict) and len(parts) < 5 and all(isinstance(one, str) for one in parts):
        # One thing, said in parts.
        yield key, ", ".join(f"{name.replace('_', ' ')} {one}" for name, one in value.items())
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _flattened(f"{key} {name}".replace("_", " "), one)
    elif isinstance(value, list):
        for one in value:
            yield from _flattened(key, one)
    else:
        yield key, str(value)


def _under_headings(text: str) -> Iterator[tuple[str, str]]:
    """Each line of a text with the heading of its list."""
    heading, last = "", ""
    for line in _LINES.split(text):
        stripped = line.strip().strip("*_")
        if not stripped:
            continue
        if stripped.startswith("#") or stripped.endswith(":") or _OPENS.fullmatch(stripped):
            # One right below another is below it.
            heading = f"{heading} {stripped}" if last == "heading" else stripped
            last = "heading"
        else:
            kind = "item" if _ITEM.match(stripped) else "text"
            if (last, kind) == ("item", "text"):
                heading = ""
            last = kind
        yield heading if last != "heading" else "", line


def _says(sentence: _Sentence, family: Family, option: str, former: str) -> bool:
    """Whether a sentence gives the rule: what it is about, with force, and nothing that weakens."""
    if not _is_about(sentence, family, option) or _WEAKENS.search(sentence.text):
        return False
    # What is taken back beside the option that held before is that one.
    if _TAKES_BACK.search(sentence.text) and not (former and is_stored(sentence.text, former)):
        return False
    # A rule word in the heading makes rules of the list below it.
    force = _force(family)
    beside = sentence.before if _about(family).search(sentence.before) else ""
    return bool(force.search(f"{sentence.heading} {beside} {sentence.text}"))


def _is_about(sentence: _Sentence, family: Family, option: str = "") -> bool:
    """Whether a sentence is about what the rule is about; a mere list of names is not."""
    items = [re.sub(r" ?\(.*?\)", "", item).strip(" .") for item in sentence.text.split(",")]
    if sum(len(item.split()) < 3 for item in items) > 2 and option:
        names = re.search(rf"(?:^|[,:(]|\bthem)\s*{re.escape(option)}[\s,.)]", sentence.text)
        if names:
            return False
    return bool(_about(family).search(f"{sentence.heading} {sentence.text}"))


@cache
def _about(family: Family) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, family.about))})", re.IGNORECASE)


@cache
def _force(family: Family) -> re.Pattern[str]:
    # What demands something does not forbid it.
    forces = [_FORBIDS, _NO if family.group == "prohibition" else _DEMANDS]
    own = [family.force] if family.force else []
    return re.compile(rf"\b(?:{'|'.join([*forces, *own])})(?!\w)", re.IGNORECASE)


def _plain(text: str) -> str:
    """A text without marks and line breaks that do not change what it says."""
    return " ".join(re.findall(r"[\w@#%/.-]*\w", text.casefold()))


def own_sentences(seen: Mapping[str, str], messages: Iterable[Message]) -> list[str]:
    """What a compactor has left in its own words: sentences that stood in no message before.

    `seen` has what messages said, and how transcripts write them.
    """
    others = [text for message in messages if (text := text_of(message)) not in seen]
    whole = "\n".join(seen.values()) if others else ""
    parts = [
        part.strip()
        for text in others
        for line in _LINES.split(text)
        for part in _SENTENCES.split(line)
    ]
    return [part for part in parts if part not in whole]


def given_rule(sentences: Iterable[str]) -> str:
    """The first of some sentences that gives a rule; nothing where none does."""
    return next(
        (
            text[:_LONGEST_LINE]
            for text in sentences
            if _GIVES.search(text) and not _WEAKENS.search(text) and not _TAKES_BACK.search(text)
        ),
        "",
    )


def facts_kept(facts: Sequence[Fact], messages: Sequence[Message]) -> int:
    """How many facts of the task have their value left."""
    texts = [text_of(message) for message in messages]
    return sum(
        any(fact.value in text and is_stored(text, fact.value) for text in texts) for fact in facts
    )
