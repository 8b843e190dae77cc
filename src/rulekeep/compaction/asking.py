"""What a model makes of a history that was shortened: does it say the rules, and obey them?

    asker = Asker(spec, families)
    asker.asked(history, 7, "round 3", messages)        # rows: said, obeyed, tempted

Beside the shortened history stand the whole one, the whole one from a compressed cache, and the
bound: the same shortened history with each rule said again right before the request that needs it.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rulekeep.compaction.figures import RESTATED, ROUND
from rulekeep.compaction.history import History
from rulekeep.compaction.messages import Message
from rulekeep.language.chat import Asked, unstated_for
from rulekeep.language.compactors import as_turns
from rulekeep.language.compressions import Compression
from rulekeep.language.contract import Model, Opened
from rulekeep.language.families import Families
from rulekeep.language.judging import model_for, scored, written
from rulekeep.seeds import named_seed
from rulekeep.specs import CompactionSpec
from rulekeep.specs.language import NO_COMPRESSION


class Asker:
    """A model that is asked about the rules of histories."""

    def __init__(self, spec: CompactionSpec, families: Families) -> None:
        """Loads the model of a spec."""
        self._spec, self._families = spec, families
        self._judge = written if spec.endpoint else scored
        if spec.device != "cpu":
            from rulekeep.running.building import check_device, take_gpu

            check_device(spec.device)
            take_gpu(spec.device)
        self.model: Model = model_for(spec.endpoint, spec.reader, spec.device, spec.dtype)

    @property
    def rounds(self) -> Mapping[int, str]:
        """After which rounds it is asked: the first and the last; and what the rows are called.

        The compactor that keeps everything has the whole history, which is asked about once.
        """
        if self._spec.compactor == "everything":
            return {1: NO_COMPRESSION}
        return {at: f"{ROUND}{at}" for at in (1, self._spec.rounds)}

    def asked(
        self, history: History, number: int, label: str, messages: Sequence[Message]
    ) -> Iterator[dict[str, Any]]:
        """A row for each rule that holds, each way of asking, and the families not stated."""
        caches = {text: Compression.parse(text) for text in self._spec.compress}
        evictions = [one.name for one in caches.values() if one.kind == "eviction"]
        opened = self.model.opened(as_turns(messages), evictions)
        yield from self._asked(history, number, label, opened)
        for text, one in caches.items():
            yield from self._asked(history, number, text, opened.under(one))

    def _asked(
        self, history: History, number: int, label: str, opened: Opened
    ) -> Iterator[dict[str, Any]]:
        families = self._families
        texts = {rule.family: f"{rule.texts[0]} " for rule in history.rules}
        every = [
            (rule, how)
            for how in ("obeyed", "tempted", "said")
            for rule in self._rules(history, number)
            if how != "tempted" or families[rule.family].breaks
        ]
        # Each rule is restated before its own request alone; what is not stated, not at all.
        parts: list[tuple[str, str, list[tuple[Asked, str]]]] = [(label, "", every)]
        if label != NO_COMPRESSION:
            plain = [(rule, how) for rule, how in every if how != "said" and rule.option is None]
            parts.append((label + RESTATED, "", plain))
            parts += [
                (label + RESTATED, texts[rule.family], [(rule, how)])
                for rule, how in every
                if how != "said" and rule.option is not None
            ]
        for called, before, group in parts:
            judged = self._judge(opened, families, group, before)
            for (rule, how), row in zip(group, judged, strict=True):
                yield {
                    "compress": called, "split": "test", "prompt": number, "family": rule.family,
                    "rank": rule.rank, "option": rule.option, "how": how, **row,
                }  # fmt: skip

    def _rules(self, history: History, number: int) -> list[Asked]:
        """The rules that hold, and families that are not stated: what options score by themselves.

        Under the control without rules all are asked for alike.
        """
        stated = [rule for rule in history.rules if rule.holds]
        asked = [
            Asked(rule.family, self._families[rule.family].options.index(rule.option), rank)
            for rank, rule in enumerate(stated)
        ]
        if self._spec.endpoint:
            return asked
        others = sorted(self._families.keys() - {rule.family for rule in history.rules})
        random.Random(named_seed("compaction unstated", self._spec.seed)).shuffle(others)
        count = min(len(others), unstated_for(len(self._families), self._spec.histories))
        begin = number * count % len(others) if others else 0
        taken = [*others[begin:], *others[:begin]][:count]
        return [*asked, *(Asked(name, None, len(asked) + at) for at, name in enumerate(taken))]
