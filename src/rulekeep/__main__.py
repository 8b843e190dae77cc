"""`python -m rulekeep`: the same as the `rulekeep` command."""

from rulekeep.cli import main

if __name__ == "__main__":
    main()
