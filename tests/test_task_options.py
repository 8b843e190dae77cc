"""What a task cannot be asked for: one line that names the value and the allowed range."""

import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import SAMPLED, make

from rulekeep.specs import UsageError
from rulekeep.tasks import Recite, SampledTask


def test_few_combinations_are_noted_and_too_few_refused() -> None:
    options = Recite.options_type.parse(rules=1)
    assert "has 512 combinations" in Recite(options).notes[0]  # type: ignore[arg-type]
    assert make(Recite).notes == ()
    with pytest.raises(UsageError, match="has 80 combinations"):
        make(Recite, rules=1, rule_words=20, items=4)


# Around every limit that an option has, and far beyond.
NUMBERS = st.integers(-2, 130) | st.sampled_from([-(10**9), 4095, 4096, 4097, 10**9])
RATES = st.floats(-0.5, 1.5) | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf])


@st.composite
def asked(draw: st.DrawFn) -> tuple[type[SampledTask], dict[str, Any]]:
    """Any value for any options of any task."""
    task = draw(st.sampled_from(SAMPLED))
    special: dict[str, st.SearchStrategy[Any]] = {
        "decoy_rate": RATES,
        "placement": st.sampled_from(["early", "marked", "late"]),
        "layout": st.sampled_from(["exam", "zoology"]),
    }
    names = draw(st.sets(st.sampled_from(sorted(task.options_type.model_fields)), max_size=4))
    return task, {name: draw(special.get(name, NUMBERS)) for name in sorted(names)}


@settings(
    max_examples=400, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(
    asked(),
    st.sampled_from(["train", "validation", "test", "dev", ""]),
    st.integers(-40, 40) | st.integers(0, 65_536),
    st.integers(-1, 2**40),
)
def test_anything_asked_for_is_refused_in_one_line_or_gives_examples(
    asked: tuple[type[SampledTask], dict[str, Any]], split: Any, more: int, seed: int
) -> None:
    task, options = asked
    try:
        made = make(task, **options)
    except UsageError as error:
        said = str(error)
        assert "\n" not in said
        # It names an option with its value, and what it may be.
        named = re.match(r"(\w+) (\S+): (must be|input should|the zoology)", said)
        assert named or re.search(r"has [\d,]+ combinations of rules and item: must be 100", said)
        assert not named or named[1] in task.options_type.model_fields
        return
    low = made.shortest_context
    context = low + more
    wrong = [
        said
        for is_wrong, said in (
            (
                split not in ("train", "validation", "test"),
                f"split '{split}': choose from train, validation, test",
            ),
            (more < 0, f"context {context}: must be from {low} to "),
            (seed < 0, "seed -1: must be from 0"),
        )
        if is_wrong
    ]
    if wrong:
        with pytest.raises(UsageError) as error:
            made.sample(split, context, 1, seed=seed)
        assert "\n" not in str(error.value)
        assert any(str(error.value).startswith(said) for said in wrong)
        return
    sample = made.sample(split, context, 2, seed=seed)
    assert sample.tokens.shape == (2, context)
    assert sample.tokens.min() >= 0
    assert sample.tokens.max() < len(made.vocabulary)
    assert ((sample.chance > 0) & (sample.chance <= 1)).all()
    assert (sample.source[sample.first_mention] >= 0).all()
