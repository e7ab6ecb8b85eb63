"""Compiles filter patterns: terms, regular expressions, JSON, space-delimited fields."""

import re
from collections.abc import Callable
from functools import lru_cache

from local.emulator.aws.logs.filters.fields import compile_fields
from local.emulator.aws.logs.filters.json_objects import compile_json
from local.emulator.aws.logs.filters.values import LONGEST, compile_regex, refused

Match = Callable[[str], bool]

_TERM = re.compile(r'\s*(?P<sign>[?-]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<term>[^\s"]+))(?=\s|$)')


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> Match:
    """Compile a pattern to a function that returns whether a message matches.

    Raises:
        ServiceError: `InvalidParameterException`, the pattern is invalid.
    """
    if len(pattern) > LONGEST:
        raise refused(f"it has {len(pattern)} characters; expected at most {LONGEST}")
    text = pattern.strip()
    if not text:
        return lambda _: True
    if text.startswith("{"):
        return compile_json(text)
    if text.startswith("["):
        return compile_fields(text)
    if text.startswith("%"):
        if len(text) < 3 or not text.endswith("%") or "%" in text[1:-1]:
            raise refused(f"found {text}; expected one regular expression between two %")
        return compile_regex(text[1:-1])
    return _terms(text)


def _terms(text: str) -> Match:
    """Match words and phrases: all of them, any of those with `?`, none of those with `-`."""
    found: dict[str, list[str]] = {"": [], "?": [], "-": []}
    place = 0
    while place < len(text):
        term = _TERM.match(text, place)
        if term is None:
            raise refused(f"found {text[place:].strip()[:80]}; expected a term or a quoted phrase")
        place = term.end()
        words = term["phrase"]
        if words is None:
            words = term["term"]
            if re.search(r"[^\w*]", words):
                raise refused(
                    f"Invalid character(s) in term '{words}'; expected letters, digits and "
                    "underscores, or the term in double quotes"
                )
        else:
            words = re.sub(r"\\(.)", r"\1", words)
        if not words:
            raise refused("a term is empty")
        found[term["sign"]].append(words)
    every, some, none = found[""], found["?"], found["-"]
    if some and (every or none):
        raise refused("terms with ? cannot be combined with other terms; expected ? before each")
    if some:
        return lambda message: any(term in message for term in some)
    return lambda message: (
        all(term in message for term in every) and not any(term in message for term in none)
    )
