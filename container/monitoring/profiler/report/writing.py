"""Writes the report's files, each whole or not at all, and loses none for another's sake."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from container.files.json_files import replace_text, to_json


def write_json(path: Path, value: Any) -> None:
    """The same for JSON; what is not finite becomes null."""
    replace_text(path, to_json(value, indent=1))


def attempt(write: Callable[[], None], say: Callable[[str], None]) -> bool:
    """Write something the report can do without; a full disk is said in one line."""
    try:
        write()
    except OSError as error:
        say(f"profiler report: {error.filename or 'a file'}: {error.strerror or error}")
        return False
    return True


def file_name(rule: str) -> str:
    """A rule's name as the name of its file."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", rule).lstrip(".")[:100] or "rule"
