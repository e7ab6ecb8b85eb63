"""Compiles a SearchExpression into a predicate on a resource's Describe response."""

import functools
import operator
from collections.abc import Callable
from typing import Any

from local.emulator.api.search.properties import (
    Property,
    Record,
    find,
    moment_of,
    number_of,
    plain_name,
)
from local.emulator.errors import invalid

MAX_ELEMENTS = 20
"""Most filters, nested filters and subexpressions of an expression (API reference)."""
MAX_IN_ALL = 50
"""The same for an expression with all its subexpressions (API reference, Search)."""

EXPECTED = (
    "expected Equals, NotEquals, GreaterThan, GreaterThanOrEqualTo, LessThan, LessThanOrEqualTo, "
    "Contains, Exists, NotExists or In"
)
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
TEXT_ONLY = ("In", "Contains")

Match = Callable[[Record], bool]


def compile_expression(expression: dict[str, Any], shape_name: str) -> Match:
    """Compile an expression into a predicate on a record.

    Args:
        expression: a `SearchExpression`.
        shape_name: the shape of the resource.

    Raises:
        ServiceError: it has no conditions, too many, or an invalid one.
    """
    total, contains = _count(expression)
    if total > MAX_IN_ALL:
        raise invalid(
            f"SearchExpression has {total} filters and expressions in total; expected at most "
            f"{MAX_IN_ALL}."
        )
    if contains > 1:
        raise invalid("'CONTAINS' operator usage limit of 1 exceeded.")
    return _compile(expression, shape_name, "SearchExpression")


def _compile(expression: dict[str, Any], shape_name: str, field: str) -> Match:
    filters = expression.get("Filters", [])
    nested = expression.get("NestedFilters", [])
    inner = expression.get("SubExpressions", [])
    count = len(filters) + len(nested) + len(inner)
    if not 1 <= count <= MAX_ELEMENTS:
        raise invalid(
            f"{field} has {count} filters, nested filters and subexpressions; expected 1 to "
            f"{MAX_ELEMENTS}."
        )
    parts: list[Match] = [
        _filter(each, find(shape_name, each["Name"]), f"{field}.Filters[{number}]")
        for number, each in enumerate(filters)
    ]
    parts += [
        _nested(each, shape_name, f"{field}.NestedFilters[{number}]")
        for number, each in enumerate(nested)
    ]
    parts += [
        _compile(each, shape_name, f"{field}.SubExpressions[{number}]")
        for number, each in enumerate(inner)
    ]
    if expression.get("Operator", "And") == "Or":
        return lambda record: any(part(record) for part in parts)
    return lambda record: all(part(record) for part in parts)


def _filter(given: dict[str, str], found: Property, field: str) -> Match:
    """Compile one filter: a property, an operator, a value."""
    name, wanted = given.get("Operator", "Equals"), given.get("Value")
    if name in ("Exists", "NotExists"):
        return lambda record: bool(found.values(record)) == (name == "Exists")
    if wanted is None:
        raise invalid(f"{field}: Value is missing; the Operator {name} needs one.")
    if found.sort in ("list", "structure"):
        raise invalid(
            f"{field}: {found.name} is a {found.sort}; expected a property in it, or the Operator "
            "Exists or NotExists."
        )
    test = _test(found, name, wanted, field)
    if name == "NotEquals":
        return lambda record: not any(test(value) for value in found.values(record))
    return lambda record: any(test(value) for value in found.values(record))


def _test(found: Property, name: str, wanted: str, field: str) -> Callable[[Any], bool]:
    """The predicate on one value of a property; for NotEquals, that of Equals."""
    text = found.sort in ("text", "loose")
    if name in TEXT_ONLY:
        if not text:
            raise invalid(f"{field}: {found.name} is not text; {name} is only for text.")
        if name == "Contains":
            return lambda value: wanted in str(value)
        choices = {each.strip() for each in wanted.split(",")}
        return lambda value: str(value) in choices
    if name in ORDERS and found.sort in ("text", "truth"):
        raise invalid(f"{field}: {found.name} is text or a boolean; {name} is only for numbers.")
    if name not in (*ORDERS, "Equals", "NotEquals"):
        raise invalid(f"{field}: Operator is '{name}'; {EXPECTED}.")
    compare: Callable[[Any, Any], bool] = ORDERS.get(name, operator.eq)
    match found.sort:
        case "number":
            limit = number_of(wanted, field)
            return lambda value: compare(float(value), limit)
        case "time":
            moment = moment_of(wanted, field)
            return lambda value: compare(value, moment)
        case "truth":
            if wanted.lower() not in ("true", "false"):
                raise invalid(f"{field}: Value is '{wanted}'; expected true or false.")
            return lambda value: value == (wanted.lower() == "true")
        case "loose":
            if name in ORDERS:
                number_of(wanted, field)
            return functools.partial(_compare_loosely, compare, wanted, name not in ORDERS)
    return lambda value: bool(value == wanted)


def _compare_loosely(
    compare: Callable[[Any, Any], bool], wanted: str, or_text: bool, value: str
) -> bool:
    """Compare as numbers (as integers if `wanted` is one), or else as text with `or_text`."""
    try:
        left, right = float(value.strip('"')), float(wanted)
    except ValueError:
        return or_text and compare(value, wanted)
    if wanted.strip().lstrip("+-").isdecimal() and left == left and abs(left) != float("inf"):
        left = float(int(left))
    return compare(left, right)


def _nested(given: dict[str, Any], shape_name: str, field: str) -> Match:
    """Compile nested filters: all must hold for the same item of a list."""
    name = plain_name(shape_name, given["NestedPropertyName"])
    whole = find(shape_name, name)
    if whole.sort != "list":
        raise invalid(f"{field}: NestedPropertyName is '{name}'; expected a list.")
    tests: list[Match] = []
    for number, each in enumerate(given["Filters"]):
        path = plain_name(shape_name, each["Name"]).removeprefix(f"{name}.")
        found = find(shape_name, f"{name}.{path}", literally=True)
        within = Property(found.name, found.sort, found.path[len(whole.path) :])
        tests.append(_filter(each, within, f"{field}.Filters[{number}]"))

    def match(record: Record) -> bool:
        return any(all(test(item) for test in tests) for item in whole.values(record))

    return match


def _count(expression: dict[str, Any]) -> tuple[int, int]:
    """The total number of filters and expressions, and the number of filters with Contains."""
    filters = list(expression.get("Filters", []))
    for each in expression.get("NestedFilters", []):
        filters += each["Filters"]
    total = len(filters) + len(expression.get("NestedFilters", []))
    contains = sum(each.get("Operator") == "Contains" for each in filters)
    for inner in expression.get("SubExpressions", []):
        more, with_contains = _count(inner)
        total, contains = total + more + 1, contains + with_contains
    return total, contains
