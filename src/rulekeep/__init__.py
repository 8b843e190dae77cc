"""rulekeep: which early, weak, parallel rules survive when a context is compressed.

    import rulekeep as rk

    rk.check(MyMixer)                                  # is it a mixer? each property, pass or FAIL
    left = rk.survives(my_compact, budget=0.25)        # what a compactor keeps of rules
    run = rk.run(task="recite", mixer=MyMixer)         # train it, test it, keep a record
    runs = rk.sweep("quick", mixers=[MyMixer])         # every run of a preset
    rk.test(run, contexts=[1028, 4096])                # the same model at other lengths
    rk.report("runs/mine")                             # a page about a folder of runs
    rows = rk.load_records("runs/mine")                # pandas.DataFrame(rows) and polars take them

    model = rk.LanguageModel(vocabulary=100, mixer="sparse_delta", layers=2)

All of it is in `rulekeep.api`, and loaded when it is asked for: importing rulekeep loads no torch.
"""

# As `typing` has it, which is not loaded for that alone.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from rulekeep import mixers, tasks
    from rulekeep.analysis.rows import TaskSetting, Variant
    from rulekeep.api import (
        DamagedRecordWarning,
        Run,
        RunFailedError,
        check,
        load_records,
        open_run,
        report,
        run,
        sweep,
        test,
    )
    from rulekeep.compaction.figures import Survival
    from rulekeep.compaction.run import survives
    from rulekeep.explain.traces import write_gates
    from rulekeep.mixers import Mixer, Stateless
    from rulekeep.mixers.base import auxiliary_loss, start_step
    from rulekeep.running.model import LanguageModel
    from rulekeep.specs import RunSpec, UsageError
    from rulekeep.study import Claim, Study, Sweep

__version__: str

__all__ = [
    "Claim",
    "DamagedRecordWarning",
    "LanguageModel",
    "Mixer",
    "Run",
    "RunFailedError",
    "RunSpec",
    "Stateless",
    "Study",
    "Survival",
    "Sweep",
    "TaskSetting",
    "UsageError",
    "Variant",
    "auxiliary_loss",
    "check",
    "load_records",
    "mixers",
    "open_run",
    "report",
    "run",
    "start_step",
    "survives",
    "sweep",
    "tasks",
    "test",
    "write_gates",
]

# Where each public name is.
_PLACES = {
    "api": (
        "DamagedRecordWarning", "Run", "RunFailedError", "check", "load_records", "open_run",
        "report", "run", "sweep", "test",
    ),
    "compaction.figures": ("Survival",),
    "compaction.run": ("survives",),
    "explain.traces": ("write_gates",),
    "mixers.base": ("Mixer", "auxiliary_loss", "start_step"),
    "mixers.adapter": ("Stateless",),
    "running.model": ("LanguageModel",),
    "specs": ("RunSpec", "UsageError"),
    "study": ("Claim", "Study", "Sweep"),
    "analysis.rows": ("TaskSetting", "Variant"),
}  # fmt: skip


# Unseen by a type checker, so that a name that is not there is an error.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A public name, loaded when it is asked for; the version too, which takes time to read."""
        from importlib import import_module

        if name == "__version__":
            return import_module("importlib.metadata").version(__name__)
        if name in ("mixers", "tasks"):
            return import_module(f"{__name__}.{name}")
        for place, names in _PLACES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{place}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
