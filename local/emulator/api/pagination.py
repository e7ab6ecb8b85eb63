"""Pages of a list: where the next one starts is in the token, not in the server."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from local.emulator.errors import invalid

DEFAULT_PAGE = 10
"""Items of a page when the request does not say; AWS's own number."""

Item = TypeVar("Item")

Key = tuple[Any, str]
"""What a list is ordered by: a value, then the name, which no two have in common."""


def page(
    items: Sequence[Item],
    request: dict[str, Any],
    key: Callable[[Item], Key],
    *,
    descending: bool = False,
    default: int = DEFAULT_PAGE,
) -> tuple[list[Item], str | None]:
    """The items the request asks for, and the token of those after them, if any.

    The token holds the last item's key, so that items which come or go between two requests move
    no other from one page to the next. It is good only for the same request again.

    Raises:
        ServiceError: the token is not one this list gave.
    """
    ordered = sorted(items, key=key, reverse=descending)
    question = _digest({k: v for k, v in request.items() if k not in ("NextToken", "MaxResults")})
    if token := request.get("NextToken"):
        last = _open(token, question)
        ordered = [
            item for item in ordered if (key(item) < last if descending else key(item) > last)
        ]
    size = request.get("MaxResults", default)
    chosen = ordered[:size]
    return chosen, _seal(key(chosen[-1]), question) if len(ordered) > size else None


def _digest(value: object) -> str:
    def plain(item: object) -> float:
        if isinstance(item, datetime):
            return item.timestamp()
        raise TypeError(f"{type(item).__name__} is no part of a request")

    text = json.dumps(value, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seal(key: Key, question: str) -> str:
    return base64.urlsafe_b64encode(
        json.dumps([*key, question, _digest([*key, question])]).encode()
    ).decode()


def _open(token: str, question: str) -> Key:
    try:
        value, name, asked, digest = json.loads(base64.urlsafe_b64decode(token.encode()))
        sound = digest == _digest([value, name, asked])
    except (ValueError, TypeError, binascii.Error):
        sound = False
    if not sound:
        raise invalid("NextToken is not a token this operation gave; start again without it.")
    if asked != question:
        raise invalid(
            "NextToken belongs to a request with other filters or another order; expected the "
            "same request again."
        )
    return value, name
