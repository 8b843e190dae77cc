"""The article's script, written again from its description, as plainly as can be.

Strings, lists and global streams: nothing is shared with the package. Tests hold the
package against it.
"""

import random
from functools import cache
from typing import Any

import torch
from torch import nn

RULES = ["red", "blue", "green", "cold", "warm", "quiet", "loud", "fast", "slow"]
ITEMS = ["app", "game", "note", "chart", "bot", "tool", "page", "form", "deck"]
STEPS = ["make", "add", "show", "test", "save", "open", "close", "draw", "sort"]
FILLERS = ["please", "now", "clean", "simple", "small", "later", "again", "today", "brief"]
VOCABULARY = ["<pad>", "<bos>", "<eos>", *RULES, *ITEMS, *STEPS, *FILLERS]
IDS = {word: number for number, word in enumerate(VOCABULARY)}


def sequence(split: str, k: int, a: int, b: int, i: int, context: int) -> list[str]:
    """One example as words, for rule numbers a and b and item number i."""
    rule_a, rule_b, item = RULES[a], RULES[b], ITEMS[i]
    if k == 0:
        target = [rule_a, rule_b, item, rule_a, rule_b, item]
        opening = ["<bos>", rule_a, rule_b, item]
        tail = {"train": "please make add show test", "validation": "brief make open save show"}
        prefix = opening + tail[split].split()
    elif k == 1:
        target = [item, rule_a, rule_b, item, rule_a, rule_b]
        middle = {"train": "simple", "validation": "later"}[split]
        tail = {"train": "open draw save close", "validation": "draw close test sort"}
        prefix = ["<bos>", item, rule_a, middle, rule_b, *tail[split].split()]
    else:
        target = [rule_b, rule_a, item, rule_b, rule_a, item]
        first = {"train": "now", "validation": "again"}[split]
        second = {"train": "clean", "validation": "small"}[split]
        tail = {"train": "sort show test", "validation": "show save open"}
        prefix = ["<bos>", rule_a, first, item, second, rule_b, *tail[split].split()]
    decoy = (a + k + 2) % 9
    if decoy == b:
        decoy = (decoy + 1) % 9
    cycle = [
        STEPS[k],
        FILLERS[k],
        RULES[decoy],
        ITEMS[(i + k + 3) % 9],
        STEPS[(k + 3) % 9],
        FILLERS[(k + 4) % 9],
    ]
    distractors: list[str] = []
    while len(prefix) + len(distractors) < context - 7:
        distractors.append(cycle[len(distractors) % 6])
    return [*prefix, *distractors, *target, "<eos>"]


@cache
def examples(split: str, context: int) -> list[list[int]]:
    """All 1944 examples as token ids, in the published order."""
    found = []
    for i in range(9):
        for a in range(9):
            for b in range(9):
                if b == a:
                    continue
                for k in range(3):
                    words = sequence(split, k, a, b, i, context)
                    found.append([IDS[word] for word in words])
    return found


class Attention(nn.Module):
    """The published attention model, through torch's own encoder and a mask."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.token = nn.Embedding(39, 64)
        self.position = nn.Embedding(context, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 39)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        time = tokens.shape[1]
        x = self.token(tokens) + self.position(torch.arange(time))
        mask = torch.ones(time, time, dtype=torch.bool).triu(1)
        return self.head(self.norm(self.encoder(x, mask=mask)))


class CompressedBlock(nn.Module):
    """The published slot block, a token at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(64, 192)
        self.mix = nn.Linear(128, 64)
        self.f = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
        self.norm = nn.LayerNorm(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, write, read = self.project(x).chunk(3, dim=-1)
        gate, write, read = gate.sigmoid(), write.tanh(), read.tanh()
        slots = [x.new_zeros(x.shape[0], 64) for _ in range(8)]
        ys = []
        for t in range(x.shape[1]):
            s = t % 8
            slots[s] = slots[s] + gate[:, t] * (write[:, t] - slots[s])
            memory = torch.stack(slots, dim=1)
            weights = ((memory * read[:, t, None]).sum(-1) / 8.0).softmax(-1)
            read_out = (weights[..., None] * memory).sum(1)
            ys.append(self.mix(torch.cat([x[:, t], read_out], dim=-1)))
        y = torch.stack(ys, dim=1)
        return self.norm(x + y + self.f(x + y))


class Compressed(nn.Module):
    """The published compressed model."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.token = nn.Embedding(39, 64)
        self.position = nn.Embedding(context, 64)
        self.blocks = nn.ModuleList([CompressedBlock(), CompressedBlock()])
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 39)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def whole_run(seed: int, contexts: list[int]) -> dict[tuple[int, str], dict[str, Any]]:
    """What each cell starts from, out of global streams, in the published order."""
    random.seed(seed)
    torch.manual_seed(seed)
    cells = {}
    for context in contexts:
        train = [*examples("train", context)]
        random.shuffle(train)
        train = train[:480]
        validation = [*examples("validation", context)]
        random.shuffle(validation)
        validation = validation[:120]
        models = {"attention": Attention(context), "compressed": Compressed(context)}
        for name, model in models.items():
            batches = [random.sample(train, 64) for _ in range(80)]
            cells[context, name] = {
                "model": model,
                "train": train,
                "validation": validation,
                "first_batch": batches[0],
                "last_batch": batches[-1],
            }
    return cells
