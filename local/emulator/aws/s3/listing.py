"""Lists the objects of a bucket: ListObjects, ListObjectsV2 and ListObjectVersions.

Responses are formatted as text, object by object, for speed: a bucket of sixty thousand images is
listed before each job.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from local.emulator.aws.s3.store import LAST_CHARACTER, ObjectStore, Version
from local.emulator.aws.s3.xml import OWNER, document, elements, timestamp
from local.emulator.errors import ServiceError

PAGE = 1000
"""Largest and default page size (API reference)."""
BATCH = 100
"""Rows read at a time if a delimiter may group them into few items."""

Query = Mapping[str, str]


@dataclass(frozen=True)
class _Request:
    """The parameters that all list operations have."""

    prefix: str
    delimiter: str
    limit: int
    encoding: str | None
    text: Callable[[str], str]

    @classmethod
    def of(cls, query: Query) -> "_Request":
        encoding = query.get("encoding-type")
        if encoding not in (None, "url"):
            raise _invalid("Invalid Encoding Method specified in Request")
        try:
            limit = int(query.get("max-keys") or PAGE)
        except ValueError:
            limit = -1
        if limit < 0:
            raise _invalid("max-keys: expected a whole number that is not negative")
        return cls(
            query.get("prefix", ""),
            query.get("delimiter", ""),
            min(limit, PAGE),
            encoding,
            quote if encoding else escape,
        )

    def folder(self, key: str) -> str | None:
        """The common prefix that a key is listed under, if any."""
        end = key.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        return key[: end + len(self.delimiter)] if end >= 0 else None

    def named(self, **names: str | None) -> str:
        """Elements with texts in the request's encoding."""
        return "".join(
            f"<{name}>{self.text(value)}</{name}>" for name, value in names.items() if value
        )


def list_objects(store: ObjectStore, bucket: str, query: Query) -> Response:
    """Answer ListObjects."""
    request, marker = _Request.of(query), query.get("marker", "")
    items, more = _page(store, bucket, request, marker)
    after = _name(items[-1]) if more and items else None
    return document(
        "ListBucketResult",
        elements({"Name": bucket, "MaxKeys": request.limit, "IsTruncated": more}),
        f"<Prefix>{request.text(request.prefix)}</Prefix><Marker>{request.text(marker)}</Marker>",
        request.named(Delimiter=request.delimiter, NextMarker=after),
        elements({"EncodingType": request.encoding}),
        *_described(items, request.text, OWNER),
    )


def list_objects_v2(store: ObjectStore, bucket: str, query: Query) -> Response:
    """Answer ListObjectsV2; its token is the last item, so it is valid after a restart."""
    request = _Request.of(query)
    token, start = query.get("continuation-token"), query.get("start-after", "")
    items, more = _page(store, bucket, request, start if token is None else _read_token(token))
    facts = {
        "Name": bucket,
        "MaxKeys": request.limit,
        "KeyCount": len(items),
        "IsTruncated": more,
        "EncodingType": request.encoding,
        "ContinuationToken": token,
        "NextContinuationToken": _name(items[-1]).encode().hex() if more and items else None,
    }
    return document(
        "ListBucketResult",
        elements(facts),
        f"<Prefix>{request.text(request.prefix)}</Prefix>",
        request.named(Delimiter=request.delimiter, StartAfter=start if token is None else None),
        *_described(items, request.text, OWNER if query.get("fetch-owner") == "true" else ""),
    )


def list_versions(store: ObjectStore, bucket: str, query: Query) -> Response:
    """Answer ListObjectVersions."""
    request = _Request.of(query)
    marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    position = -1
    if version_marker:
        known = store.find(bucket, marker, version_marker)
        position = known.position if known else -1
    items: list[tuple[Version, bool] | str] = []
    current, more = marker if version_marker else None, False
    for version in store.scan_versions(bucket, request.prefix, _past(request, marker), position):
        folder = request.folder(version.key)
        if folder is not None and items and items[-1] == folder:
            continue
        if len(items) >= request.limit:
            more = True
            break
        items.append(folder if folder is not None else (version, version.key != current))
        current = version.key
    facts: dict[str, object] = {"Name": bucket, "MaxKeys": request.limit, "IsTruncated": more}
    last = items[-1] if more and items else None
    following = last if isinstance(last, str) else last[0].key if last else None
    version_id = None if last is None or isinstance(last, str) else last[0].id
    return document(
        "ListVersionsResult",
        elements(facts | {"EncodingType": request.encoding, "NextVersionIdMarker": version_id}),
        f"<Prefix>{request.text(request.prefix)}</Prefix>",
        f"<KeyMarker>{request.text(marker)}</KeyMarker>",
        elements({"VersionIdMarker": version_marker}),
        request.named(Delimiter=request.delimiter, NextKeyMarker=following),
        *(_described_version(item, request.text) for item in items),
    )


def _page(
    store: ObjectStore, bucket: str, request: _Request, after: str
) -> tuple[list[Version | str], bool]:
    """Objects and, as strings, common prefixes; and whether more follow.

    `after` is the last item of the previous page.
    """
    items: list[Version | str] = []
    if request.limit == 0:
        return items, False
    count = BATCH if request.delimiter else request.limit + 1
    after = _past(request, after)
    while batch := store.scan(bucket, request.prefix, after, count):
        for version in batch:
            if version.key <= after:  # in the previous common prefix
                continue
            if len(items) == request.limit:
                return items, True
            folder = request.folder(version.key)
            items.append(version if folder is None else folder)
            after = version.key if folder is None else folder + LAST_CHARACTER
        if len(batch) < count:
            break
    return items, False


def _past(request: _Request, after: str) -> str:
    """The key after which a page starts: an item, or the last possible key of a common prefix."""
    in_folder = request.delimiter and after.endswith(request.delimiter)
    return after + LAST_CHARACTER if in_folder else after


def _described(
    items: Iterable[Version | str], text: Callable[[str], str], owner: str
) -> Iterator[str]:
    for item in items:
        if isinstance(item, str):
            yield f"<CommonPrefixes><Prefix>{text(item)}</Prefix></CommonPrefixes>"
            continue
        algorithm = item.state.get("algorithm")
        checksum = f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm>" if algorithm else ""
        yield (
            f"<Contents><Key>{text(item.key)}</Key>"
            f"<LastModified>{timestamp(item.modified)}</LastModified>"
            f"<ETag>&quot;{item.etag}&quot;</ETag>{checksum}<Size>{item.size}</Size>{owner}"
            f"<StorageClass>{item.storage_class}</StorageClass></Contents>"
        )


def _described_version(item: tuple[Version, bool] | str, text: Callable[[str], str]) -> str:
    if isinstance(item, str):
        return f"<CommonPrefixes><Prefix>{text(item)}</Prefix></CommonPrefixes>"
    version, latest = item
    facts = {
        "VersionId": version.id,
        "IsLatest": latest,
        "LastModified": timestamp(version.modified),
    }
    kind = "DeleteMarker"
    if version.content is not None:
        kind = "Version"
        facts |= {
            "ETag": f'"{version.etag}"',
            "Size": version.size,
            "StorageClass": version.storage_class,
        }
    return f"<{kind}><Key>{text(version.key)}</Key>{elements(facts)}{OWNER}</{kind}>"


def _name(item: Version | str) -> str:
    return item if isinstance(item, str) else item.key


def _read_token(token: str) -> str:
    try:
        return bytes.fromhex(token).decode()
    except ValueError:
        raise _invalid("The continuation token provided is incorrect") from None


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidArgument", message)
