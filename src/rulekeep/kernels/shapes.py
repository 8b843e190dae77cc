"""Dimension legend and array types: the letters used in signatures and in einsum.

batch (b)    sequences computed side by side
time (t)     tokens of one call: a whole sequence, a chunk of it or a single token
width (d)    channels of an activation
heads (h)    independent parts of a mixer, each `head_width` (k) channels wide
slots (s)    vectors of a slot memory
answer (a)   tokens of the supervised output, the last ones of a sequence
n            examples of a split
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

TokenTable: TypeAlias = Int[np.ndarray, "n context"]
AnswerTable: TypeAlias = Int[np.ndarray, "n answer"]
AnswerMask: TypeAlias = Bool[np.ndarray, "n answer"]
AnswerNumbers: TypeAlias = Float[np.ndarray, "n answer"]
