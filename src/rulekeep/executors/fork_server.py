"""What the fork server loads first: it must end with the driver that started it.

Only ever imported there, as the first of its preloaded modules. Its children each hold an
end of the pipe by which it would notice that the driver is gone, so it would wait for them:
the kernel tells it instead, and it takes its children along (see `local`).
"""

from rulekeep.executors.parent import die_with_parent

die_with_parent()
