"""The tokens of JSON and space-delimited filter patterns."""

import re

from local.emulator.aws.logs.filters.values import COMPARISONS, Literal, refused

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<expression>%[^%]*%)
    |(?P<selector>\$(?:\.?\[(?:"[^"]*"|'[^']*'|\*|\d+)\]|\.[\w*-]+)*)
    |(?P<sign>\.\.\.|&&|\|\||!=|<=|>=|[=<>(){}\[\],])
    |(?P<plain>[^\s"%$&|!<>=(){}\[\],]+)
    )""",
    re.VERBOSE,
)


class Scanner:
    """Reads the tokens of a pattern.

    Attributes:
        kind: kind of the current token: quoted, expression, selector, sign, plain, or end.
        token: its text.
        expressions: number of regular expressions read.
    """

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self.kind, self.token = "end", ""
        self.expressions = 0
        self.next()

    def next(self) -> str:
        """Go to the next token, and return the previous one."""
        before = self.token
        found = _TOKEN.match(self._text, self._place)
        if found is not None:
            self.kind, self.token = found.lastgroup or "end", found[found.lastgroup or 0]
            self._place = found.end()
        elif self._text[self._place :].strip():
            raise refused(f"found {self._text[self._place :].strip()[:80]}")
        else:
            self.kind, self.token = "end", ""
        return before

    def take(self, sign: str) -> bool:
        """Skip this sign or word if it is the current token; return whether it was."""
        if self.kind in ("sign", "plain") and self.token == sign:
            self.next()
            return True
        return False

    def expect(self, *signs: str) -> str:
        """Read one of these signs.

        Raises:
            ServiceError: the current token is something else.
        """
        if self.kind not in ("sign", "plain") or self.token not in signs:
            raise refused(f"found {self.token or 'the end'}; expected {' or '.join(signs)}")
        return self.next()

    def comparison(self) -> str:
        """Read `=`, `!=`, `<`, `<=`, `>` or `>=`.

        Raises:
            ServiceError: the current token is something else.
        """
        return self.expect(*COMPARISONS)

    def literal(self) -> Literal:
        """Read a value.

        Raises:
            ServiceError: the current token is something else.
        """
        kind = self.kind
        if kind not in ("quoted", "expression", "plain"):
            raise refused(f"found {self.token or 'the end'}; expected a value")
        text = self.next()
        if kind == "quoted":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "expression":
            text = text[1:-1]
            self.expressions += 1
        return Literal(text, kind)
