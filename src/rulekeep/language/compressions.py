"""What is done to a context before the requests: the compressions that there are, and yours.

    one = Compression.parse("snapkv+ends@0.25")
    one.kind, one.name, one.guard, one.amount      # "eviction", "snapkv", "ends", 0.25

An eviction drops tokens of the cache, a rounding keeps its numbers in few bits, and a compactor
shortens the conversation as text. Each of ours is the function of its name in
`rulekeep.language.evictions` or `compactors`. A compactor of yours is one of
`rulekeep.compaction.compactors`, and an eviction is what `asked_of` says. No torch.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from rulekeep.compaction.compactors import find, version_of
from rulekeep.registry import find_function
from rulekeep.specs import UsageError
from rulekeep.specs.language import NO_COMPRESSION

Kind: TypeAlias = Literal["none", "eviction", "rounding", "compactor"]


class Known(NamedTuple):
    """A compression that comes with the package: its name in tables, and what it keeps."""

    shown: str
    about: str


# `h2o` has no recent half, as KVPress has it; `rulekeep.kernels.evictions` has the published H2O.
EVICTIONS: Mapping[str, Known] = {
    "h2o": Known("H2O", "what all later tokens attend to; KVPress's form, without a recent half"),
    "tova": Known("TOVA", "what the last token attends to"),
    "snapkv": Known("SnapKV", "what the last 16 tokens attend to, and its neighbours"),
    "expected_attention": Known("Expected Attention", "what queries to come should attend to"),
    "knorm": Known("K-norm", "the tokens with the smallest keys"),
    "streaming_llm": Known("StreamingLLM", "the first four tokens and the last"),
    "random": Known("random", "any tokens"),
}
# What an eviction may not drop as it pleases, as in snapkv+ends@0.25.
GUARDS: Mapping[str, str] = {
    "ends": "a tenth of the tokens at each end stays",
    "fair": "the same share of each rule stays, a token at least; it is told where they are",
    "rules": "every token of the rules that fits stays: an oracle",
}
ROUNDINGS: Mapping[str, Known] = {
    "kivi": Known("KIVI", "all tokens; keys rounded by channel, values by token, the last whole"),
    "per_token": Known("per token", "all tokens, rounded by token"),
}
COMPACTORS: Mapping[str, Known] = {
    "keep_last": Known("the last turns", "the last messages that fit"),
    "keep_ends": Known("both ends", "the beginning and the end: the middle is cut"),
    "extract": Known("central sentences", "the sentences nearest to the centroid of all"),
    "summary": Known("the model's summary", "what the model writes when asked for a summary"),
}
OURS = {**EVICTIONS, **ROUNDINGS, **COMPACTORS}
# What a user's eviction may ask for.
OF_A_CACHE = ("keys", "values", "queries", "attention", "layer", "hidden", "module", "rotary")


class Compression(NamedTuple):
    """What is done before the requests.

    An eviction keeps a share of the cache, and may have a guard; a rounding keeps so many bits a
    number. A compactor keeps a share of the tokens of the text: one of ours, `file.py:function`, or
    a command with a / in it. Whether a function is an eviction or a compactor its arguments say.
    """

    kind: Kind
    name: str = NO_COMPRESSION
    amount: float = 1.0
    guard: str = ""

    @classmethod
    def parse(cls, text: str) -> "Compression":
        """`none`, `snapkv@0.25`, `snapkv+ends@0.25`, `kivi@4bit`, `summary@0.25` or `./mine@0.25`.

        Raises:
            UsageError: it is none of them, its amount cannot be, or yours cannot be called.
        """
        if text == NO_COMPRESSION:
            return cls("none")
        whole, _, amount = text.rpartition("@") if "@" in text else (text, "", "")
        name, _, guard = whole.rpartition("+")
        if guard not in GUARDS or not name:
            name, guard = whole, ""
        kind = _kind(name, text)
        if guard and kind != "eviction":
            raise UsageError(f"compress {text!r}: is no eviction; leave the guard out")
        if kind == "rounding":
            if amount not in ("2bit", "4bit", "8bit"):
                raise UsageError(f"compress {text!r}: write 2, 4 or 8 bits, as in {name}@4bit")
            return cls(kind, name, float(amount[0]))
        try:
            share = float(amount)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise UsageError(
                f"compress {text!r}: write the share kept, above 0 and at most 1, as in {name}@0.25"
            )
        return cls(kind, name, share, guard)

    @property
    def version(self) -> str | None:
        """What identifies one of yours: the content of its files; None of ours."""
        return None if self.name in OURS else version_of(self.name)


def _kind(name: str, text: str) -> Kind:
    ours: Mapping[Kind, Mapping[str, Known]] = {
        "eviction": EVICTIONS, "rounding": ROUNDINGS, "compactor": COMPACTORS
    }  # fmt: skip
    for kind, known in ours.items():
        if name in known:
            return kind
    if is_function(name):
        function = find_function(name, {}, "compact")
        if "keys" in inspect.signature(function).parameters:
            asked_of(name)
            return "eviction"
    elif "/" not in name and " " not in name:
        listed = ", ".join((NO_COMPRESSION, *OURS))
        raise UsageError(
            f"compress {text!r}: there is no {name!r}; choose from {listed}, "
            "file.py:function or a command such as ./mine"
        )
    find(name)
    return "compactor"


def is_function(name: str) -> bool:
    """Whether a name is of a function in a file of the user's."""
    return ".py:" in name


def asked_of(name: str) -> tuple[Callable[..., Any], Sequence[str]]:
    """The eviction `file.py:function`, and the names of what it asks for.

    It has an argument `keys`, is called once a layer, and asks for any of these:

        keys       [batch, heads, tokens, key width], as they stand in the cache, rotated
        values     [batch, heads, tokens, value width]
        queries    [batch, query heads, tokens, key width], rotated
        attention  [batch, query heads, tokens, tokens], what each token attends to
        layer      its number, counted from 0
        hidden     [batch, tokens, width], what the layer's attention read
        module     the layer's attention itself, with its projections
        rotary     rotary(hidden, places): the cosines and sines of places

    It returns a score for each token of each head.

    Raises:
        UsageError: there is no such function, or it asks for something else.
    """
    function = find_function(name, {}, "compact")
    parameters = inspect.signature(function).parameters
    for asked, parameter in parameters.items():
        if asked not in OF_A_CACHE and parameter.default is parameter.empty:
            listed = ", ".join(OF_A_CACHE)
            raise UsageError(f"compress {name}: takes {asked}; an eviction takes {listed}")
    return function, [asked for asked in parameters if asked in OF_A_CACHE]
