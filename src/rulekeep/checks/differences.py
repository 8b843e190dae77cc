"""Differences between tensors that should be equal: the largest is kept, with its place.

One of outputs or states that is not allowed comes before any of gradients.

A difference is a fraction of the largest value of its tensor, or of 1e-3 if all are smaller. The
reason: gradients of weights are sums over all tokens, outputs are not.
"""

import math
from collections.abc import Mapping

from torch import Tensor

from rulekeep.checks.probes import is_number
from rulekeep.running.causality import LEAST_SCALE, largest_of


class Differences:
    """Collects differences; `allowed` is the largest fraction that passes.

    With `may_end`, what is expected to be no number is not compared: an evaluation says so.
    """

    def __init__(self, allowed: float, *, may_end: bool = False) -> None:
        self.allowed, self.may_end = allowed, may_end
        self._tensors, self._rank, self._said = 0, (False, -1.0), "nothing was compared"

    def add(
        self,
        found: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
        where: str,
        largest: float = 0.0,
    ) -> None:
        """Add tensors by name, such as `output` or `gradient of x`, and where they come from.

        `largest` is the largest value of what they are a part of.
        """
        for name, tensor in expected.items():
            if name in found:
                self._add(name, found[name].detach(), tensor.detach(), where, largest)
            else:
                self._keep(name, math.inf, f"{name} is missing ({where})")

    def _add(self, name: str, found: Tensor, expected: Tensor, where: str, largest: float) -> None:
        self._tensors += 1
        if found.shape != expected.shape:
            shapes = f"{list(found.shape)}, expected {list(expected.shape)}"
            return self._keep(name, math.inf, f"{name} has shape {shapes} ({where})")
        if not expected.numel():
            return self._keep(name, 0.0, "")
        if not is_number(expected):
            # Flags have no difference, and that of two bytes is none that a byte holds.
            found, expected = found.double(), expected.double()
        off = (found.to(expected) - expected).abs()
        if self.may_end and not expected.isfinite().all():
            return None
        # What is not a number equals nothing.
        if odd := int((~off.isfinite()).sum()):
            return self._keep(
                name, math.inf, f"{name} differs in {odd} values not finite ({where})"
            )
        most = off.max().item()
        share = most / max(largest_of(expected), largest, LEAST_SCALE)
        place = ""
        if name in ("output", "gradient of x"):
            place = f" at token {int(off.flatten(2).amax((0, 2)).argmax())}"
        said = f"{name}{place} differs by {most:.1e} ({where}): {share:.1e} of the largest value"
        return self._keep(name, share, said)

    def _keep(self, name: str, share: float, said: str) -> None:
        # What differs itself is why its gradient does.
        rank = share > self.allowed and not name.startswith("gradient of "), share
        if rank > self._rank:
            self._rank, self._said = rank, said

    @property
    def verdict(self) -> tuple[bool, str]:
        """Whether every difference is allowed, and the largest one in words."""
        _, share = self._rank
        if not share:
            return True, f"no difference in {self._tensors:,} tensors"
        allowed = f"allowed: {self.allowed:.0e}" if self.allowed else "no difference is allowed"
        return 0 <= share <= self.allowed, f"{self._said}; {allowed}"
