"""`rulekeep harness`: what the harnesses that others wrote read of rulekeep."""

import re
from importlib.metadata import distributions
from importlib.resources import files

from rulekeep.console import tell
from rulekeep.specs import UsageError

LEAST_LM_EVAL = "0.4.13"


def lm_eval() -> int:
    """Print the folder of tasks for lm-evaluation-harness: lm_eval run --include_path FOLDER."""
    found = next((one.version for one in distributions(name="lm_eval")), "none")
    numbers = [[*map(int, re.findall(r"\d+", text))] for text in (found, LEAST_LM_EVAL)]
    if numbers[0] < numbers[1]:
        raise UsageError(
            f"harness lm-eval: needs lm_eval {LEAST_LM_EVAL} or later, and here is {found}; "
            f"pip install 'lm-eval[hf]>={LEAST_LM_EVAL}'"
        )
    tell(str(files("rulekeep").joinpath("harness", "lm_eval")))
    return 0
