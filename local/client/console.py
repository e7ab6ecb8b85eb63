"""Output of the commands: results on stdout, notes on stderr, text of others made printable."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 1000
"""Characters of a line where stdout is no terminal: names are neither cut nor wrapped."""


def table_console() -> "Console":
    """A console on stdout for tables: as wide as the terminal, or as wide as the table."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDEST)


def print_line(console: "Console", line: str) -> None:
    """Print one line as it is: no markup, no colours, not wrapped."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_note(line: str) -> None:
    """Print one line on stderr."""
    print(line, file=sys.stderr, flush=True)


def printable(text: str, replacement: str = " ") -> str:
    """Text from a container or a file name, without characters that control a terminal."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else replacement for character in whole)
