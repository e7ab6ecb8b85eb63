"""JSON and YAML files of hyperparameters, which `tune` writes and `train` and `tune` read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from local.errors import UserError
from local.requests.tuning import Range

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
"""YAML's tags of numbers."""


@dataclass(frozen=True)
class SearchFile:
    """A file of `ranges` and, optionally, fixed `hyperparameters`."""

    ranges: tuple[Range, ...]
    hyperparameters: Mapping[str, str] = field(default_factory=dict)


def read_hyperparameters(path: Path) -> dict[str, str]:
    """Read a map of names to values, at the top level or under `hyperparameters` (`best.json`).

    Raises:
        UserError: the file does not exist or has another format.
    """
    content = _read(path)
    return _texts(content.get("hyperparameters", content), path)


def read_search(path: Path) -> SearchFile:
    """Read `ranges`: each name with `low:high:log` (as in --range) or a list of values.

    Raises:
        UserError: the file does not exist or has another format.
    """
    content = _read(path)
    unknown = content.keys() - {"ranges", "hyperparameters"}
    if unknown or not isinstance(content.get("ranges"), dict):
        found = ", ".join(map(str, content)) or "nothing"
        raise UserError(f"{path}: found {found}, expected ranges (and hyperparameters)")
    ranges = []
    for name, given in content["ranges"].items():
        if isinstance(given, list):
            if not given:
                raise UserError(f"{path}: {name}: found {given}, expected one or more values")
            ranges.append(Range(str(name), "categorical", values=tuple(map(_text, given))))
        else:
            ranges.append(Range.parse(f"{name}={given}"))
    return SearchFile(tuple(ranges), _texts(content.get("hyperparameters") or {}, path))


def write_best(folder: Path, best: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write `best` to `best.json` and `best.yaml`, and return the two paths.

    `best` has the `hyperparameters` and the names of the jobs they are from.
    """
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_yaml = folder / "best.json", folder / "best.yaml"
    as_json.write_text(json.dumps(best, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    as_yaml.write_text(
        yaml.safe_dump(dict(best), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    return as_json, as_yaml


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_loader())  # noqa: S506 (a safe one; JSON is YAML)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise UserError(f"{path}: neither JSON nor YAML: {line}") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: found {type(content).__name__}, expected a map of names to values"
        )
    return content


@cache
def _loader() -> Any:
    """A safe YAML loader that reads `2:8` as text; in YAML 1.1 it is the base-60 number 128."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile("(?!.*:)" + regex.pattern, regex.flags) if tag in NUMBERS else regex)
            for tag, regex in resolvers
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


def _texts(content: Any, path: Path) -> dict[str, str]:
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: hyperparameters: found {type(content).__name__}, expected a map of names to "
            "values"
        )
    return {str(name): _text(value) for name, value in content.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
