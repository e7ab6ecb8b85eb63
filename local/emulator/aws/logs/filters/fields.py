"""Filter patterns for space-delimited events: `[ip, ..., status = 4*, bytes]`."""

import re
from collections.abc import Callable

from local.emulator.aws.logs.filters.scanner import Scanner
from local.emulator.aws.logs.filters.values import MOST_EXPRESSIONS, compare, refused

Check = Callable[[str], bool]
Named = tuple[str, Check]
"""A field's name, and the check of its value."""

_FIELD = re.compile(r'"([^"]*)"|\[([^\]]*)\]|(\S+)')
REST = "..."


def compile_fields(text: str) -> Callable[[str], bool]:
    """Compile a pattern to a function that returns whether a message matches.

    Raises:
        ServiceError: the pattern is invalid.
    """
    before, after = _read(text)

    def match(message: str) -> bool:
        pairs = _pair(before, after, message)
        return pairs is not None and all(check(value) for (_, check), value in pairs)

    return match


def field_names(text: str) -> set[str]:
    """The names of a pattern's fields.

    Raises:
        ServiceError: the pattern is invalid.
    """
    before, after = _read(text)
    return {name for name, _ in (*before, *(after or ()))}


def field_values(text: str, message: str) -> dict[str, str]:
    """A message's fields by the pattern's names; empty if it has too few or too many fields.

    Raises:
        ServiceError: the pattern is invalid.
    """
    pairs = _pair(*_read(text), message)
    return {name: value for (name, _), value in pairs or ()}


def _read(text: str) -> tuple[list[Named], list[Named] | None]:
    scanner = Scanner(text)
    scanner.expect("[")
    before, after = _fields(scanner)
    if scanner.kind != "end":
        raise refused(f"found {scanner.token} after the closing bracket")
    if scanner.expressions > MOST_EXPRESSIONS:
        raise refused(
            f"it has {scanner.expressions} regular expressions; expected at most {MOST_EXPRESSIONS}"
        )
    return before, after


def _pair(
    before: list[Named], after: list[Named] | None, message: str
) -> list[tuple[Named, str]] | None:
    """Pair the pattern's fields with the message's; None if it has too few or too many."""
    found = [quoted or listed or word for quoted, listed, word in _FIELD.findall(message)]
    least = len(before) + len(after or ())
    if len(found) < least or (after is None and len(found) > least):
        return None
    last = found[len(found) - len(after or ()) :]
    return [*zip(before, found, strict=False), *zip(after or (), last, strict=True)]


def _fields(scanner: Scanner) -> tuple[list[Named], list[Named] | None]:
    """Parse the fields before and after `...`; without it, the latter is None."""
    before: list[Named] = []
    after: list[Named] | None = None
    while True:
        if scanner.take(REST):
            if after is not None:
                raise refused("found ... twice; expected it once")
            after = []
        else:
            (before if after is None else after).append(_field(scanner))
        if scanner.expect(",", "]") == "]":
            return before, after


def _field(scanner: Scanner) -> Named:
    """Parse a name, alone or with conditions: `status = 4* || status = 500`."""
    if scanner.kind != "plain":
        raise refused(f"found {scanner.token or 'the end'}; expected a field's name or ...")
    name = scanner.token
    return name, _either(scanner, name)


def _either(scanner: Scanner, name: str) -> Check:
    checks = [_both(scanner, name)]
    while scanner.take("||"):
        checks.append(_both(scanner, name))
    return lambda value: any(check(value) for check in checks)


def _both(scanner: Scanner, name: str) -> Check:
    checks = [_condition(scanner, name)]
    while scanner.take("&&"):
        checks.append(_condition(scanner, name))
    return lambda value: all(check(value) for check in checks)


def _condition(scanner: Scanner, name: str) -> Check:
    if scanner.kind != "plain" or scanner.token != name:
        raise refused(f"found {scanner.token or 'the end'}; expected {name} again")
    scanner.next()
    if scanner.kind == "sign" and scanner.token in (",", "]", "&&", "||"):
        return lambda _: True
    return compare(scanner.comparison(), scanner.literal())
