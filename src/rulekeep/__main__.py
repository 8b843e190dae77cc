"""`python -m rulekeep` and the command `rulekeep`: Ctrl-C while modules load is one line too."""

import os

try:
    from rulekeep.cli import main as main
except KeyboardInterrupt:
    os.write(2, b"rulekeep: interrupted\n")
    os._exit(130)

if __name__ == "__main__":
    main()
