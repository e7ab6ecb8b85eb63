"""The answer to ListObjectsV2, written as it is sent.

moto's own goes through a serializer of every AWS shape and parses each date back: 0.2 s for the
thousand objects of a page, which sixty thousand images make unbearable.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from moto.s3.exceptions import InvalidContinuationToken

from local.emulator.aws.buckets import DurableS3, StoredKey

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
PAGE = 1000
"""Objects a page has at most: S3's limit and default."""


def list_objects_v2(response: Any) -> tuple[int, dict[str, str], str]:
    """S3's answer: status, headers and body; takes the place of moto's method of this name.

    Raises:
        InvalidContinuationToken, MissingBucket: as S3 has them.
    """
    asked = {name: values[0] for name, values in response.querystring.items()}
    backend: DurableS3 = response.backend
    bucket = backend.get_bucket(response.bucket_name)
    token, after = asked.get("continuation-token"), asked.get("start-after")
    if token == "":
        raise InvalidContinuationToken
    limit = min(int(asked.get("max-keys", PAGE)), PAGE)
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
    items, more, following = backend.list_objects_v2(bucket, prefix, delimiter, token, after, limit)
    by_url = asked.get("encoding-type") == "url"
    text: Callable[[str], str] = quote if by_url else escape
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f'<ListBucketResult xmlns="{NAMESPACE}">',
        _element("Name", escape(bucket.name)),
        _element("Prefix", text(prefix)),
        _element("MaxKeys", str(limit)),
        _element("KeyCount", str(len(items))),
        _element("IsTruncated", str(more).lower()),
    ]
    told = {
        "Delimiter": delimiter and text(delimiter),
        "EncodingType": asked.get("encoding-type"),
        "ContinuationToken": token,
        "NextContinuationToken": following,
        "StartAfter": None if token else after and text(after),
    }
    parts += [_element(name, value) for name, value in told.items() if value]
    owned = asked.get("fetch-owner") == "true"
    for item in items:
        if isinstance(item, str):
            parts.append(f"<CommonPrefixes><Prefix>{text(item)}</Prefix></CommonPrefixes>")
        else:
            parts.append(_contents(item, text, owned))
    parts.append("</ListBucketResult>")
    return 200, {"content-type": "application/xml"}, "".join(parts)


def _contents(key: StoredKey, text: Callable[[str], str], owned: bool) -> str:
    owner = "<Owner><ID>local</ID><DisplayName>local</DisplayName></Owner>" if owned else ""
    algorithm = (
        f"<ChecksumAlgorithm>{key.checksum_algorithm}</ChecksumAlgorithm>"
        if key.checksum_algorithm
        else ""
    )
    return (
        f"<Contents><Key>{text(key.name)}</Key>"
        f"<LastModified>{key.last_modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
        f"<ETag>{escape(key.etag)}</ETag>{algorithm}<Size>{key.size}</Size>{owner}"
        f"<StorageClass>{key.storage_class}</StorageClass></Contents>"
    )


def _element(name: str, text: str) -> str:
    return f"<{name}>{text}</{name}>"
