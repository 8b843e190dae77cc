"""All that a run needs, for the fork server to load once: only a plug-in is imported for each run.

Torch makes a million objects as it is loaded, and none is garbage: a fifth of the load was spent on
finding that out. A job turns the collection on again.
"""

import gc
from importlib import import_module

from rulekeep.mixers import MIXERS
from rulekeep.tasks import TASKS

gc.disable()
for _name in (
    # The code as it stands now: what is loaded here is what each run says it was made by.
    "rulekeep.records.identity",
    "torch",
    # The first optimizer loads it: a second and more of every run.
    "torch._dynamo",
    "rulekeep.sweeps.job",
    "rulekeep.running.run",
    "rulekeep.running.predicting",
    "rulekeep.article.cell",
    *map(MIXERS.module, MIXERS),
    *map(TASKS.module, TASKS),
):
    import_module(_name)
