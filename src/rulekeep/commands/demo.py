"""`rulekeep demo`: three mixers on one task in about two minutes, a table and a report."""

from rulekeep.commands.beside import BASELINES, chart, line_of
from rulekeep.commands.options import Workers
from rulekeep.console import tell
from rulekeep.executors import LocalExecutor
from rulekeep.records.folders import run_folder
from rulekeep.specs import mixer_specs
from rulekeep.sweeps.making import make_runs
from rulekeep.sweeps.planning import identity

# The same task, steps and batch for each: short texts, so that two cores need two minutes.
_TASK = {
    "task": "recite",
    "context": 96,
    "length_growth": 0.65,
    "test_contexts": (96, 384, 1536),
    "steps": 600,
    "evaluate_every": 50,
    "validation_examples": 128,
    "test_examples": 256,
    "long_test_examples": 64,
}
_MIXERS = {
    **{name: one for name, one in BASELINES.items() if name.startswith("attention")},
    "sparse_delta": "sparse_delta",
}


def demo(*, out: str | None = None, workers: Workers = None) -> int:
    """Train three mixers on one task in about two minutes; show a table and write a report.

    Parameters
    ----------
    out
        Folder of runs, runs/demo-TIME if left out.
    workers
        Runs side by side; as many as there are cores if left out.
    """
    specs = {name: mixer_specs(one)[0].spec(**_TASK) for name, one in _MIXERS.items()}
    root = run_folder("demo", out)
    tell(
        f"{len(specs)} mixers must say 4 rules in order, which stand at the start of a text.\n"
        f"They train on texts of up to {_TASK['context']} tokens and are tested on longer ones.\n"
        "That takes about two minutes on two cores.",
        flush=True,
    )
    # The one that takes longest begins first.
    made = make_runs(lambda _: [*specs.values()][::-1], root, LocalExecutor(workers))
    if code := made.say_failed(root):
        return code
    chart({name: line_of([made.records[identity(spec)]]) for name, spec in specs.items()})
    tell(
        "Retention is the share of rules that are right where the answer first needs them.\n"
        "One seed and short training: a lead, not a result. The results: README.md, docs."
    )
    # Plotting brings libraries that take a second to load.
    from rulekeep.commands.records import report

    return report(str(root))
