"""Filter patterns for events that are JSON: `{ $.level = "ERROR" && $.seconds > 2 }`."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from local.emulator.aws.logs.filters.scanner import Scanner
from local.emulator.aws.logs.filters.values import MOST_EXPRESSIONS, compare, refused

Check = Callable[[Any], bool]

_STEP = re.compile(r"""\.?\[(?:"([^"]*)"|'([^']*)'|(\*)|(\d+))\]|\.([\w*-]+)""")
ANY = "*"

Step = str | int


def compile_json(text: str) -> Callable[[str], bool]:
    """Compile a pattern to a function that returns whether a message is JSON that matches.

    Raises:
        ServiceError: the pattern is invalid.
    """
    scanner = Scanner(text)
    scanner.expect("{")
    check = _either(scanner)
    scanner.expect("}")
    if scanner.kind != "end":
        raise refused(f"found {scanner.token} after the closing brace")
    if scanner.expressions > MOST_EXPRESSIONS:
        raise refused(
            f"it has {scanner.expressions} regular expressions; expected at most {MOST_EXPRESSIONS}"
        )

    def match(message: str) -> bool:
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict | list) and check(value)

    return match


def is_selector(text: str) -> bool:
    """Whether a text is a property selector such as `$.name` or `$.list[0]["a name"]`."""
    return text.startswith("$") and len(text) > 1 and not _STEP.sub("", text[1:])


def json_values(selector: str, message: str) -> list[Any]:
    """The strings, numbers and booleans that a selector finds in a message; none without JSON."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return []
    return list(_leaves(value, _steps(selector)))


def _either(scanner: Scanner) -> Check:
    checks = [_both(scanner)]
    while scanner.take("||"):
        checks.append(_both(scanner))
    return lambda value: any(check(value) for check in checks)


def _both(scanner: Scanner) -> Check:
    checks = [_one(scanner)]
    while scanner.take("&&"):
        checks.append(_one(scanner))
    return lambda value: all(check(value) for check in checks)


def _one(scanner: Scanner) -> Check:
    if scanner.take("("):
        check = _either(scanner)
        scanner.expect(")")
        return check
    if scanner.kind != "selector" or scanner.token == "$":  # noqa: S105
        raise refused(f"found {scanner.token or 'the end'}; expected a property as $.name")
    steps = _steps(scanner.next())
    if scanner.take("IS"):
        word = scanner.expect("NULL", "TRUE", "FALSE")
        wanted = {"NULL": None, "TRUE": True, "FALSE": False}[word]
        return lambda value: any(found is wanted for found in _walk(value, steps))
    if scanner.take("NOT"):
        scanner.expect("EXISTS")
        return lambda value: not any(True for _ in _walk(value, steps))
    if scanner.take("EXISTS"):
        return lambda value: any(True for _ in _walk(value, steps))
    test = compare(scanner.comparison(), scanner.literal())
    return lambda value: any(test(found) for found in _leaves(value, steps))


def _steps(selector: str) -> list[Step]:
    found: list[Step] = []
    for quoted, single, every, index, name in _STEP.findall(selector):
        found.append(int(index) if index else every or quoted or single or name)
    return found


def _leaves(value: Any, steps: list[Step]) -> Iterator[Any]:
    """The strings, numbers and booleans at a path."""
    for found in _walk(value, steps):
        if found is not None and not isinstance(found, dict | list):
            yield found


def _walk(value: Any, steps: list[Step]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step == ANY:
        inner = value.values() if isinstance(value, dict) else value
        for each in inner if isinstance(value, dict | list) else ():
            yield from _walk(each, rest)
    elif isinstance(step, int):
        if isinstance(value, list) and step < len(value):
            yield from _walk(value[step], rest)
    elif isinstance(value, dict) and step in value:
        yield from _walk(value[step], rest)
