"""`rulekeep harness`: what the harnesses that others wrote read of rulekeep."""

from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from rulekeep.console import tell
from rulekeep.specs import UsageError

# The first with which the tasks were tried.
LEAST_LM_EVAL = (0, 4, 13)


def lm_eval() -> int:
    """Print the folder of tasks for lm-evaluation-harness: lm_eval --include_path FOLDER."""
    least = ".".join(map(str, LEAST_LM_EVAL))
    fix = f"pip install 'lm-eval[hf]>={least}'"
    try:
        found = version("lm_eval")
    except PackageNotFoundError:
        raise UsageError(f"harness lm-eval: lm_eval is not installed here; {fix}") from None
    if tuple(int(part) for part in found.split(".")[:3] if part.isdigit()) < LEAST_LM_EVAL:
        raise UsageError(f"harness lm-eval: lm_eval {found} is too old; {fix}")
    tell(str(files("rulekeep").joinpath("harness", "lm_eval")))
    return 0
