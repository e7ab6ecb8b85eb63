"""Custom rules: classes with smdebug's interface in a user's file.

Before training starts the file is only parsed, to find a missing name early. The process that
evaluates rules imports it; the training process never does.
"""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleError, RuleRequest, hint


@dataclass(frozen=True)
class CustomRule:
    """A class that can be evaluated as a rule.

    Attributes:
        file: the Python file.
        name: the class's name.
        parameters: the constructor's keywords except the trial; None if it accepts any, or if they
            cannot be known without running the file.
    """

    file: Path
    name: str
    parameters: tuple[str, ...] | None


def is_custom(request: RuleRequest) -> bool:
    """Whether a request is for a user's class: it has a source, or is not built in."""
    return request.source is not None or request.rule not in DEBUG_RULES


def find(path: Path) -> dict[str, CustomRule]:
    """The rules in a file: its classes that have `invoke_at_step`, or a base class from elsewhere.

    Args:
        path: a Python file.

    Raises:
        RuleError: it cannot be read or is not Python.
    """
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise RuleError(
            f"{path}: line {error.lineno}: expected a Python file with rules, found {error.msg}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RuleError(f"{path}: expected a Python file with rules, found: {reason}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return {
        name: CustomRule(path, name, _parameters(node))
        for name, node in classes.items()
        if _is_rule(node, classes)
    }


def check(path: Path | None, requests: Iterable[RuleRequest]) -> None:
    """Check that the user's file has every requested rule that is not built in.

    Args:
        path: the file, or a folder with the files named by the requests' sources.
        requests: all requested rules.

    Raises:
        RuleError: a rule is missing, or does not accept a given parameter; names similar ones.
    """
    for request in requests:
        if is_custom(request):
            locate(path, request)


def locate(path: Path | None, request: RuleRequest) -> CustomRule:
    """Find the user's class that a request names.

    Args:
        path: as in `check`.
        request: a rule that is not built in.

    Raises:
        RuleError: as in `check`.
    """
    if path is None:
        raise RuleError(
            f"rule {request.rule!r} is not built in, and no file with custom rules was given: "
            f"{hint(request.rule, DEBUG_RULES)}"
        )
    file = path / (request.source or "").rpartition("/")[2] if path.is_dir() else path
    found = find(file)
    rule = found.get(request.rule)
    if rule is None:
        raise RuleError(
            f"{file}: expected a class {request.rule!r} with a method invoke_at_step: "
            f"{hint(request.rule, found)}"
        )
    for name in request.parameters:
        if rule.parameters is not None and name not in rule.parameters:
            raise RuleError(
                f"{file}: rule {request.rule}: unknown parameter {name!r}: "
                f"{hint(name, rule.parameters)}"
            )
    return rule


def make(path: Path | None, request: RuleRequest, trial: Any) -> Any:
    """Import the user's file and create the rule, as SageMaker does: `Class(trial, **parameters)`.

    Parameters are passed unchanged; from SageMaker they are strings. For a constructor with
    `other_trials`, its comma-separated paths are opened as trials. A required `action_str` is
    empty, because the job itself performs actions.

    Raises:
        RuleError: as in `check`.
        Exception: from the user's file or class.
    """
    kind = getattr(_imported(locate(path, request).file), request.rule)
    return kind(trial, **_arguments(kind, request.parameters))


def _arguments(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(given)
    takes = inspect.signature(kind).parameters
    if "action_str" in takes and takes["action_str"].default is inspect.Parameter.empty:
        arguments.setdefault("action_str", "")
    if "other_trials" in takes and isinstance(given.get("other_trials"), str):
        from smdebug.trials import create_trial

        paths = filter(None, (path.strip() for path in given["other_trials"].split(",")))
        arguments["other_trials"] = [create_trial(path) for path in paths]
    return arguments


def _imported(file: Path) -> Any:
    """The file as a module, imported once; it may import other files of its folder."""
    name = f"own_rules.{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RuleError(f"{file}: expected a Python file with rules, found {file.suffix or 'none'}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_rule(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> bool:
    """Whether the class has the method or may inherit it, as far as the file shows."""
    if any(isinstance(n, ast.FunctionDef) and n.name == "invoke_at_step" for n in node.body):
        return True
    others = {name: kind for name, kind in classes.items() if kind is not node}
    for base in node.bases:
        name = ast.unparse(base).rpartition(".")[2]
        if name in others:
            if _is_rule(others[name], others):
                return True
        elif name not in ("Rule", "object"):
            return True
    return False


def _parameters(node: ast.ClassDef) -> tuple[str, ...] | None:
    constructor = next(
        (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
    )
    if constructor is None or constructor.args.kwarg is not None:
        return None
    arguments = constructor.args
    return tuple(
        a.arg for a in [*(arguments.posonlyargs + arguments.args)[2:], *arguments.kwonlyargs]
    )
