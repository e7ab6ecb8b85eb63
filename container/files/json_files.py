"""Reads JSON with one-line errors, and writes files atomically."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from container.errors import BerthError, DataError


def read_json(path: Path, error: type[BerthError] = DataError, what: str = "JSON") -> Any:
    """A JSON file's value; `what` names what was expected.

    Raises:
        error: the file cannot be read, or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise error(f"{path}: expected {what}, found an empty file")
        return json.loads(text)
    except RecursionError:
        raise error(f"{path}: expected {what}, found brackets nested too deep") from None
    except OSError as found:
        raise error(f"{path}: expected {what}, found {found.strerror or found}") from None
    except ValueError as found:
        raise error(f"{path}: expected {what}, found {found}") from None


def read_object(path: Path, error: type[BerthError] = DataError) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        error: the file cannot be read, or is not a JSON object.
    """
    value = read_json(path, error, "a JSON object")
    if not isinstance(value, dict):
        found = "null" if value is None else type(value).__name__
        raise error(f"{path}: expected a JSON object, found {found}")
    return value


def finite(value: Any) -> Any:
    """Convert to plain JSON values: numpy to Python types, infinities and NaN to None."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(each) for each in value]
    if not isinstance(value, str | int | float | bool | None) and hasattr(value, "tolist"):
        return finite(value.tolist())  # numpy's arrays and numbers
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Encode as JSON (RFC 8259); non-finite numbers become null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def beside(path: Path, pid: int) -> Path:
    """The temporary path that a process writes before renaming it to `path`."""
    return path.with_name(f".{path.name}.{pid}")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds, and is removed otherwise."""
    aside = beside(path, os.getpid())
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Replace a UTF-8 file atomically, creating its folder; unencodable characters become `?`.

    Raises:
        OSError: it cannot be written; an earlier file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="replace")
