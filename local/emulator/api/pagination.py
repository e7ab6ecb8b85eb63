"""Pagination. A token encodes where the next page starts, so the server keeps no state."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from local.emulator.errors import invalid

DEFAULT_PAGE = 10
"""AWS's default for MaxResults."""

Item = TypeVar("Item")

Key = tuple[Any, str]
"""The sort key of an item: a value, then its unique name."""


def page(
    items: Sequence[Item],
    request: dict[str, Any],
    key: Callable[[Item], Key],
    *,
    descending: bool = False,
    default: int = DEFAULT_PAGE,
) -> tuple[list[Item], str | None]:
    """The requested page of items, and the token of the next page, if there is one.

    A token encodes the key of the last item, so that items that are created or deleted between two
    requests do not shift the others. It is only valid for the same request.

    Raises:
        ServiceError: the token is invalid, or is for another request.
    """
    ordered = sorted(items, key=key, reverse=descending)
    fingerprint = _digest(
        {k: v for k, v in request.items() if k not in ("NextToken", "MaxResults")}
    )
    if token := request.get("NextToken"):
        last = _decode(token, fingerprint)
        ordered = [
            item for item in ordered if (key(item) < last if descending else key(item) > last)
        ]
    size = request.get("MaxResults", default)
    chosen = ordered[:size]
    return chosen, _encode(key(chosen[-1]), fingerprint) if len(ordered) > size else None


def _digest(value: object) -> str:
    def to_json(item: object) -> float:
        if isinstance(item, datetime):
            return item.timestamp()
        raise TypeError(f"{type(item).__name__} is not part of a request")

    text = json.dumps(value, sort_keys=True, default=to_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encode(key: Key, fingerprint: str) -> str:
    return base64.urlsafe_b64encode(
        json.dumps([*key, fingerprint, _digest([*key, fingerprint])]).encode()
    ).decode()


def _decode(token: str, fingerprint: str) -> Key:
    try:
        value, name, found, digest = json.loads(base64.urlsafe_b64decode(token.encode()))
        valid = digest == _digest([value, name, found])
    except (ValueError, TypeError, binascii.Error):
        valid = False
    if not valid:
        raise invalid("NextToken is not a token of this operation; start again without it.")
    if found != fingerprint:
        raise invalid(
            "NextToken belongs to a request with other filters or another order; expected the "
            "same request again."
        )
    return value, name
