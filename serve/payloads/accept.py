"""Content negotiation with the Accept header (RFC 9110, 12.5.1)."""

import re
from urllib.request import parse_http_list

from serve.errors import BadRequest

RESPONSE_TYPES = ("application/json", "text/csv", "application/jsonlines")

_QUALITY = re.compile(r"\d+\.?\d*|\.\d+")


def negotiate(accept: str) -> str:
    """The response type of the highest quality; ties go to the first of `RESPONSE_TYPES`.

    If two ranges match a type, the more specific one counts. Parameters such as a charset are
    ignored: every response is UTF-8. `*` alone and qualities such as `.2` are not in RFC 9110, but
    Java sends them. Raises BadRequest, 406, if none is acceptable.
    """
    ranges = [_range(item) for item in parse_http_list(accept)]
    ranges = [(media, quality) for media, quality in ranges if media]
    if not ranges:
        return RESPONSE_TYPES[0]
    best, best_rank = "", (0.0, 0)
    for media_type in RESPONSE_TYPES:
        fitting = [
            (specific, quality)
            for media, quality in ranges
            if (specific := _specificity(media, media_type))
        ]
        if fitting:
            specific, quality = max(fitting)
            if quality > 0 and (quality, specific) > best_rank:
                best, best_rank = media_type, (quality, specific)
    if not best:
        raise BadRequest(
            f"Accept: found {accept.strip()[:200]}, expected {' or '.join(RESPONSE_TYPES)}", 406
        )
    return best


def _range(item: str) -> tuple[str, float]:
    """A media range in lower case and its quality, which is 1 if missing or not a number."""
    media, *parameters = item.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q" and _QUALITY.fullmatch(value.strip()):
            quality = min(1.0, float(value))
    return media.strip().lower(), quality


def _specificity(media: str, media_type: str) -> int:
    """3 for the type itself, 2 for `type/*`, 1 for `*/*`, 0 if the range does not match."""
    if media == media_type:
        return 3
    if media in ("*", "*/*"):
        return 1
    return 2 if media == f"{media_type.partition('/')[0]}/*" else 0
