"""Terminal output: results go to stdout, notes to stderr."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 1000
"""Line width when stdout is not a terminal, so that names are neither cut nor wrapped."""


def table_console() -> "Console":
    """A stdout console for tables, which wraps only on a terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def print_line(console: "Console", line: str) -> None:
    """Print one line verbatim: without markup, colours or wrapping."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_note(line: str) -> None:
    """Print one line on stderr."""
    print(line, file=sys.stderr, flush=True)


def printable(text: str, replacement: str = " ") -> str:
    """Text from a container or a file name without terminal control characters."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else replacement for character in whole)
