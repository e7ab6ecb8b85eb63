"""Filter patterns for events of fields with spaces between: `[ip, ..., status = 4*, bytes]`."""

import re
from collections.abc import Callable

from local.emulator.aws.logs.filters.scanner import Scanner
from local.emulator.aws.logs.filters.values import MOST_EXPRESSIONS, compare, refused

Check = Callable[[str], bool]

_FIELD = re.compile(r'"([^"]*)"|\[([^\]]*)\]|(\S+)')
REST = "..."


def compile_fields(text: str) -> Callable[[str], bool]:
    """What tells whether a message has these fields, and each as the pattern wants it.

    Raises:
        ServiceError: the pattern cannot be read.
    """
    scanner = Scanner(text)
    scanner.expect("[")
    before, after = _fields(scanner)
    if scanner.kind != "end":
        raise refused(f"found {scanner.token} after the closing bracket")
    if scanner.expressions > MOST_EXPRESSIONS:
        raise refused(
            f"it has {scanner.expressions} regular expressions; expected at most {MOST_EXPRESSIONS}"
        )

    def match(message: str) -> bool:
        found = [quoted or listed or word for quoted, listed, word in _FIELD.findall(message)]
        least = len(before) + len(after or ())
        if len(found) < least or (after is None and len(found) > least):
            return False
        last = found[len(found) - len(after or ()) :]
        checks = [*zip(before, found, strict=False), *zip(after or (), last, strict=True)]
        return all(check(value) for check, value in checks)

    return match


def _fields(scanner: Scanner) -> tuple[list[Check], list[Check] | None]:
    """The fields before and after `...`; None for the latter without it."""
    before: list[Check] = []
    after: list[Check] | None = None
    while True:
        if scanner.take(REST):
            if after is not None:
                raise refused("found ... twice; expected it once")
            after = []
        else:
            (before if after is None else after).append(_field(scanner))
        if scanner.expect(",", "]") == "]":
            return before, after


def _field(scanner: Scanner) -> Check:
    """A name, alone or with conditions: `status = 4* || status = 500`."""
    if scanner.kind != "plain":
        raise refused(f"found {scanner.token or 'the end'}; expected a field's name or ...")
    return _either(scanner, scanner.token)


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
