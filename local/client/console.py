"""Where tables go."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 1000
"""Characters of a line that no terminal shows: a file, or another program."""


def table_console() -> "Console":
    """A console on stdout for tables: as wide as the terminal, or else as the table is.

    What reads a table instead of a person shall find each name whole and on one line.
    """
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDEST)
