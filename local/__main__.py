"""The `berth` command as it is installed; `python -m local` is the same."""

import sys

from container.extras import module_missing


def main() -> int:
    """Run `berth` with the command line's arguments; the exit status.

    An installation without the extra `local` ends in one line that says how to get it.
    """
    try:
        from local.cli import main as berth
    except ModuleNotFoundError as error:
        line = module_missing(error)
        if line is None:
            raise
        print(f"berth: {line}", file=sys.stderr)
        return 1
    return berth()


if __name__ == "__main__":
    sys.exit(main())
