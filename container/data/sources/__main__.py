"""python -m container.data.sources NAME DEST [options]: write a data set as an image folder."""

import argparse
import sys
from pathlib import Path

from container.data.sources import SOURCES
from container.data.splits import read_splits
from container.errors import BerthError
from container.files.folders import readable


def main(arguments: list[str] | None = None) -> int:
    """Write one data set; the exit status is 1 when it failed or left something out."""
    parser = argparse.ArgumentParser(
        prog="python -m container.data.sources", description="Write a data set as an image folder."
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, kind in SOURCES.items():
        command = names.add_parser(name, help=kind.summary, description=kind.summary)
        command.add_argument("dest", type=Path, metavar="DEST", help="the folder to make")
        kind.add_options(command)
    options = vars(parser.parse_args(arguments))
    name, dest = options.pop("name"), options.pop("dest")
    try:
        source = SOURCES[name].from_options(options)
        source.write(dest)
        splits, notes = read_splits({"folder": dest})
    except (BerthError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(note)
    for index in splits.values():
        print(f"{readable(str(index.root))}: {len(index):,} images, {len(index.classes)} classes")
    return 1 if source.problems else 0


if __name__ == "__main__":
    sys.exit(main())
