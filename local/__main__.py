"""Entry point of the installed `berth` command and of `python -m local`."""

import sys

from container.extras import named_extra


def main() -> int:
    """Run `berth` with the arguments of the command line and return the exit status.

    Without the extra `local` it fails with one line that says how to install it.
    """
    with named_extra("berth", "local"):
        from local.cli import main as berth
    return berth()


if __name__ == "__main__":
    sys.exit(main())
