"""The `berth` command as it is installed; `python -m local` is the same."""

import sys

from container.extras import named_extra


def main() -> int:
    """Run `berth` with the command line's arguments; the exit status.

    An installation without the extra `local` ends in one line that says how to get it.
    """
    with named_extra("berth", "local"):
        from local.cli import main as berth
    return berth()


if __name__ == "__main__":
    sys.exit(main())
