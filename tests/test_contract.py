"""Every mixer of the catalogue against the contract and against its own loop.

Lengths stand on, before and after the edges of chunks. A mixer without an option `serial` is
compared with its formula alone, in `test_formulas.py`.
"""

from functools import partial

import pytest
import torch
from small_pieces import pieces_of

from rulekeep.checks import mixers, numerics, properties, subject
from rulekeep.checks.mixers import check_mixer
from rulekeep.checks.numerics import HARD
from rulekeep.checks.properties import PROPERTIES
from rulekeep.checks.subject import Differences, Subject
from rulekeep.mixers import MIXERS
from rulekeep.registry import parameters_of
from rulekeep.running.building import mixer_maker, mixer_options

# Options that change what a mixer computes: each such mixer meets the contract as well. Others are
# held to their formula or loop: test_formulas.py, test_catalogue.py and those of one mixer.
VARIANTS: dict[str, tuple[str, dict]] = {
    "attention rotary": ("attention", {"positions": "rotary"}),
    "attention alibi": ("attention", {"positions": "alibi"}),
    "attention ntk": (
        "attention",
        {"positions": "rotary", "scaling": "ntk", "trained_length": 50, "conv_size": 4},
    ),
    "window": ("sliding_window", {"window": 5, "sinks": 2, "positions": "rotary"}),
    "slots, few": ("slots", {"slots": 3}),
    "delta convolved": ("delta", {"short_convolution": True, "output_gate": True}),
    "gated_delta published, gate of eight tokens": (
        "gated_delta",
        {"published": True, "gate_kernel": 8, "gate_penalty": 0.01, "penalty_start": 0},
    ),
    "kda, nothing left of a chunk": ("kda", {"half_life_tokens": 0.2}),
    "gated_delta_2, nothing left of a chunk": ("gated_delta_2", {"half_life_tokens": 0.2}),
    "routed_slots convolved": ("routed_slots", {"short_convolution": True}),
    "sparse_delta without convolution": (
        "sparse_delta",
        {"short_convolution": False, "read_first": False},
    ),
    "sparse_delta with a penalty": (
        "sparse_delta",
        {
            "straight_through": False,
            "gate_penalty": 0.01,
            "penalty_start": 0,
            "short_convolution": False,
        },
    ),
}
# The largest difference at inputs of a thousand, as a share of the largest value.
OF_A_THOUSAND = 1e-2
EVERY = {**{name: (name, {}) for name in MIXERS}, **VARIANTS}


def shorten(monkeypatch: pytest.MonkeyPatch, *, variant: bool) -> None:
    """Texts shorter than a user's check has, and of a variant shorter still: several chunks."""
    monkeypatch.setattr(mixers, "FURTHEST", 256 if variant else 2048)
    if variant:
        for module in (mixers, properties):
            monkeypatch.setattr(module, "ROUND", 128)
            monkeypatch.setattr(module, "LONG", 140)
        monkeypatch.setattr(numerics, "HARD", 64)
    monkeypatch.setattr(numerics, "HORIZON", 255 if variant else 1023)
    sizes = (64, 256, 1028) if variant else (64, 256, 1028, 4096)
    monkeypatch.setattr(numerics, "state_sizes", partial(numerics.state_sizes, tokens=sizes))


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY)
def test_every_property_holds(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pieces so small that the longer sequences have several.
    pieces_of(128, monkeypatch)
    name, options = EVERY[case]
    kind = MIXERS[name]
    shorten(monkeypatch, variant=case in VARIANTS)
    lengths = (1, 2, 17, 65) if case in VARIANTS else (1, 2, 16, 64, 65, 130)
    rows = list(check_mixer(kind, options, width=16, lengths=lengths))
    assert not [row for row in rows if row.passed is False]
    assert [row.property for row in rows] == list(PROPERTIES)
    skipped = {row.property for row in rows if row.passed is None}
    # Nothing else is left out, so that nothing holds only because it was not compared.
    surrogate = (
        {"gradients are slopes"}
        if name == "sparse_delta" and options.get("straight_through", True)
        else set()
    )
    assert skipped <= {
        "the form that runs is its own loop", "the tail is the end of the whole", *surrogate
    }  # fmt: skip
    no_loop = "serial" not in parameters_of(kind)
    assert ("the form that runs is its own loop" in skipped) == no_loop


@pytest.mark.parametrize("case", EVERY)
def test_inputs_of_a_thousand_in_float32_are_near_float64(case: str) -> None:
    """What `check_mixer` asks of no mixer: some decide between scores that are all but equal."""
    name, options = EVERY[case]
    kind = MIXERS[name]
    make = mixer_maker(name, kind, 64, mixer_options(name, kind, options))
    x = 1e3 * subject.drawn(1, HARD, 64)
    with torch.no_grad():
        found, expected = (
            subject.named(*Subject(make, None, 64, [], [], dtype=dtype).made()(x.to(dtype)))
            for dtype in (torch.float32, torch.float64)
        )
    # A head of four channels instead of 16 could have none left: exp(-1000) is 0 in float32.
    differences = Differences(OF_A_THOUSAND)
    near = {key: part.to(expected[key]) for key, part in found.items()}
    differences.add(near, expected, "of 1e3")
    passed, said = differences.verdict
    assert passed, said
