"""Writes the report's files, each whole or not at all, and loses none for another's sake."""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from container.files import replace_text


def write_json(path: Path, value: Any) -> None:
    """The same for JSON; what is not finite becomes null."""
    replace_text(path, json.dumps(finite(value), indent=1, allow_nan=False, ensure_ascii=False))


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


def finite(value: Any) -> Any:
    """Plain JSON values: numpy's numbers made Python's, infinities and NaN None."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
