"""Messages as a model reads them: its chat template and its tokenizer.

    chat = ChatTemplate(tokenizer)
    head = chat.head(messages)                    # what is read before any request
    chat.after(head, chat.text([*messages, request], reply=True))     # tokens of what follows

Templates differ: some refuse a system prompt, move it, or write the last reply otherwise until a
request follows. No torch.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from rulekeep.language.chat import SYSTEM, Message, parted
from rulekeep.language.contract import shared
from rulekeep.printable import one_line
from rulekeep.specs import UsageError

# Letters of what was read that say how the tokens go on: longer than any token.
_SEAM = 64
_CHANGES = (
    "model: its chat template changes what stands before a request with the request; "
    "name another model"
)


class ChatTemplate:
    """A tokenizer with its chat template."""

    def __init__(self, tokenizer: Any) -> None:
        """Takes a loaded tokenizer."""
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError("model: its tokenizer has no chat template; name a chat model")
        self.tokenizer = tokenizer
        # transformers 5.24 reads some folders as another class of tokenizer than 5.2 does.
        if tokenizer.unk_token_id in self.tokens(SYSTEM):
            raise UsageError(
                f"model: its tokenizer, a {type(tokenizer).__name__}, does not know the words of "
                f"{SYSTEM!r}; mend tokenizer_class in its tokenizer_config.json"
            )

    def text(self, messages: Sequence[Message], *, reply: bool = False) -> str:
        """Messages as the model reads them; with `reply`, up to where its reply begins.

        What looks like a token of control gets a space in it: it would end the message. A template
        without a place for a system prompt has it at the beginning of the first user's turn. The
        thought of a model that thinks is empty.
        """
        turns = [{"role": one.role, "content": self._plain(one.text)} for one in messages]
        if turns[0]["role"] == "system" and not self.takes_system:
            both = "\n\n".join(one["content"] for one in turns[:2])
            turns[:2] = [{"role": "user", "content": both}]
        return self._rendered(turns, reply=reply)

    @cached_property
    def takes_system(self) -> bool:
        """Whether it has a place for a system prompt."""
        turns = [{"role": "system", "content": "Obey."}, {"role": "user", "content": "."}]
        try:
            return "Obey." in self._rendered(turns, reply=True)
        except UsageError:
            return False

    def _rendered(self, turns: Sequence[Mapping[str, str]], *, reply: bool) -> str:
        try:
            found: str = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=reply, enable_thinking=False
            )
        except Exception as error:
            raise UsageError(
                f"model: its chat template fails ({one_line(error, 120)}); name another model"
            ) from None
        if reply and found.rstrip().endswith("<think>"):
            # A template that opens a thought whatever it is told.
            found = f"{found.rstrip()}\n\n</think>\n\n"
        return found

    def head(self, messages: Sequence[Message]) -> str:
        """What the model reads of messages before it sees any request.

        That is their text, where it stays as a request follows: or else what requests have in
        common. Some templates write the last reply otherwise once there is one after it.
        """
        # A system prompt in the last user's turn is no part of it: that turn moves on.
        later = [Message("user", "Z"), Message("assistant", "Z")] if len(messages) > 1 else []
        near, far = (
            self.text([*messages, *more, Message("user", letter)], reply=True)
            for more, letter in (([], "A"), (later, "Z"))
        )
        common = near[: shared(near, far)]
        if not common:
            raise UsageError(_CHANGES)
        try:
            whole = self.text(messages)
        except UsageError:
            # A system prompt alone, to some templates.
            return common
        ends = self._plain(messages[-1].text).strip() in whole
        return whole if ends and common.startswith(whole) else common

    def after(self, head: str, text: str) -> list[int]:
        """Token ids of what follows a head in a text."""
        if not text.startswith(head):
            raise UsageError(_CHANGES)
        # Many tokenizers begin a text of its own with a space.
        last, rest = head[-_SEAM:], text[len(head) :]
        begun, joined = self.tokens(last), self.tokens(last + rest)
        goes_on = joined[: len(begun)] == begun
        return joined[len(begun) :] if goes_on else self.tokens(rest)

    def _plain(self, text: str) -> str:
        return parted(self._control, text)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        found = {*self.tokenizer.all_special_tokens, *(str(one) for one in added if one.special)}
        # An empty token would stand between all letters. Of none nothing is found.
        return re.compile("|".join(re.escape(one) for one in sorted(found) if one) or r"(?!)")

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, nothing added: a template has its start token already."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def places(
        self, read: str, texts: Sequence[str], lead: str = ""
    ) -> tuple[tuple[int, ...], ...]:
        """Where the tokens of each text stand, at its first place in what was read.

        With `lead` they are a list that follows these words, each after a space.
        """
        tokens = self.tokenizer(read, add_special_tokens=False, return_offsets_mapping=True)
        found = []
        for text in texts:
            before, said = self._plain(lead), self._plain(text)
            first = read.index(before + said) + len(before)
            last = first + len(said)
            found.append(
                tuple(
                    place
                    for place, (begin, end) in enumerate(tokens.offset_mapping)
                    if begin < last and end > first
                )
            )
            lead += f"{text} " if lead else ""
        return tuple(found)

    def tokens_of(self, messages: Sequence[Message]) -> int:
        """How many tokens some turns add to a conversation."""
        system, request = Message("system", "."), Message("user", ".")
        # Before a request, since a template may write the last turn otherwise.
        with_them, without = (
            len(self.tokens(self.text([system, *some, request], reply=True)))
            for some in (messages, ())
        )
        return with_them - without
