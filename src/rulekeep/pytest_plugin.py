"""A fixture of pytest: `rules_survive(compact)` fails where a compactor loses rules.

def test_compactor(rules_survive):
    rules_survive(compact, at_least=0.9, kinds={"prohibition": 1}, budget=0.25, rounds=5)
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

import rulekeep

if TYPE_CHECKING:
    from rulekeep.compaction.figures import Survival


@pytest.fixture(scope="session")
def rules_survive() -> Callable[..., "Survival"]:
    """Holds what a compactor keeps after the last round against a line; `options` of `survives`."""
    return _checked


def _checked(
    compactor: Callable[..., Any] | str, at_least: float = 0.9,
    kinds: Mapping[str, float] = {}, **options: Any,
) -> "Survival":  # fmt: skip
    left = rulekeep.survives(compactor, **options)
    shares = {"rules": left.kept[-1].mean, **{of: at[-1].mean for of, at in left.by_group.items()}}
    if unknown := kinds.keys() - shares.keys():
        raise ValueError(f"kinds {', '.join(unknown)}: choose from {', '.join(left.by_group)}")
    lost = [f"it failed: {left.failure}"] * bool(left.failure)
    for kind, least in {"rules": at_least, **kinds}.items():
        if shares[kind] < least:
            lost.append(f"{kind}: {shares[kind]:.2f} left, below {least:g}")
    if lost:
        pytest.fail("\n".join(lost), pytrace=False)
    return left
