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
    from rulekeep import mixers as mixers
    from rulekeep import tasks as tasks
    from rulekeep.analysis.rows import TaskSetting as TaskSetting
    from rulekeep.analysis.rows import Variant as Variant
    from rulekeep.api import DamagedRecordWarning as DamagedRecordWarning
    from rulekeep.api import Run as Run
    from rulekeep.api import RunFailedError as RunFailedError
    from rulekeep.api import check as check
    from rulekeep.api import load_records as load_records
    from rulekeep.api import open_run as open_run
    from rulekeep.api import report as report
    from rulekeep.api import run as run
    from rulekeep.api import sweep as sweep
    from rulekeep.api import test as test
    from rulekeep.compaction.figures import Survival as Survival
    from rulekeep.compaction.run import survives as survives
    from rulekeep.explain.traces import write_gates as write_gates
    from rulekeep.mixers import Mixer as Mixer
    from rulekeep.mixers import Stateless as Stateless
    from rulekeep.mixers.base import auxiliary_loss as auxiliary_loss
    from rulekeep.mixers.base import start_step as start_step
    from rulekeep.running.model import LanguageModel as LanguageModel
    from rulekeep.specs import RunSpec as RunSpec
    from rulekeep.specs import UsageError as UsageError
    from rulekeep.study import Claim as Claim
    from rulekeep.study import Study as Study
    from rulekeep.study import Sweep as Sweep

__version__: str

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
__all__ = ["mixers", "tasks", *(name for names in _PLACES.values() for name in names)]


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
