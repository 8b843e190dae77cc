"""Writes the golden figures: `python tests/goldens/write.py [FAMILY …]`.

An entry whose figures changed is written only if its version is higher; else it is refused, and
the exit code is 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from goldens import kept


def main(arguments: list[str]) -> int:
    """Writes; the exit code."""
    refused = 0
    for family in arguments or kept.FAMILIES:
        before, after = kept.load(family), {}
        for name in kept.FAMILIES[family].names():
            now = kept.entry(family, name)
            try:
                after[name] = kept.renewed(family, name, before.get(name), now)
            except kept.RefusedError as error:
                sys.stdout.write(f"refused: {error}\n")
                after[name], refused = before[name], refused + 1
        kept.save(family, after)
        changed = sum(after[name] != before.get(name) for name in after)
        sys.stdout.write(f"{kept.path(family).name}: {len(after)} entries, {changed} written\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
