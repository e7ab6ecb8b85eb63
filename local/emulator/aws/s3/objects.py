"""S3's operations on objects."""

from collections.abc import Mapping
from typing import Any

from werkzeug.http import http_date
from werkzeug.wrappers import Response

from local.emulator.aws.s3 import acl
from local.emulator.aws.s3.contents import Content
from local.emulator.aws.s3.multipart import COMPOSITE, WHOLE, MultipartUpload, Part, Uploads
from local.emulator.aws.s3.requests import (
    S3Request,
    byte_range,
    check_conditions,
    check_write,
    no_such_key,
)
from local.emulator.aws.s3.store import UNVERSIONED, ObjectStore, Version
from local.emulator.aws.s3.xml import (
    OWNER,
    document,
    element,
    elements,
    malformed,
    parse,
    tag_set,
    tagging,
    timestamp,
)
from local.emulator.aws.signature.chunked import Upload
from local.emulator.errors import ServiceError

MOST_PARTS = 10_000
PAGE = 1000


class S3Objects:
    """Answers requests about objects.

    Every operation raises ServiceError with S3's code if it rejects the request.
    """

    def __init__(self, store: ObjectStore, uploads: Uploads) -> None:
        self._store, self._uploads = store, uploads

    def put(self, request: S3Request) -> Response:
        """PutObject, or CopyObject."""
        if "x-amz-copy-source" in request.headers:
            return self._copy(request)
        self._store.bucket(request.bucket)
        state = request.state()
        upload = Upload.of(request.environ)
        content = self._store.contents.write(upload)
        for algorithm, value in upload.checksums.items():
            state |= {"algorithm": algorithm.upper(), "checksum_value": value}
            state["checksum_type"] = WHOLE
        version = self._add(request, content, state)
        headers = {"ETag": f'"{version.etag}"', **_version_id(version), **_checksum(version)}
        return Response(headers=headers)

    def _copy(self, request: S3Request) -> Response:
        source = self._source(request)
        replacing = request.headers.get("x-amz-metadata-directive") == "REPLACE"
        state = request.state()
        itself = request.source() == (request.bucket, request.key, None)
        if itself and not replacing and not state:
            raise ServiceError(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself "
                "without changing the object's metadata, storage class, website redirect location "
                "or encryption attributes.",
            )
        kept = ["algorithm", "checksum_value", "checksum_type", "checksum_parts"]
        if not replacing:
            state["metadata"] = source.state.get("metadata", {}) | {
                name: value
                for name, value in state.get("metadata", {}).items()
                if name.startswith(("x-amz-server-side", "x-amz-website"))
            }
        if request.headers.get("x-amz-tagging-directive") != "REPLACE":
            kept.append("tags")
        state |= {name: source.state[name] for name in kept if name in source.state}
        content = self._shared(request, source)
        version = self._add(request, content, state)
        response = document(
            "CopyObjectResult",
            elements({"ETag": f'"{version.etag}"', "LastModified": timestamp(version.modified)}),
        )
        response.headers.update(_version_id(version))
        if source.id != UNVERSIONED:
            response.headers["x-amz-copy-source-version-id"] = source.id
        return response

    def get(self, request: S3Request) -> Response:
        """GetObject."""
        while True:
            version = self._find(request)
            status, headers, begin, end = _selected(request, version)
            if status == 304 or version.content is None:
                return Response(status=status, headers=headers)
            try:
                body = version.content.open(begin, end)
            except FileNotFoundError:
                if self._find(request) == version:
                    raise
            else:
                return Response(body, status, headers)

    def head(self, request: S3Request) -> Response:
        """HeadObject."""
        status, headers, _, _ = _selected(request, self._find(request))
        return Response(status=status, headers=headers)

    def delete(self, request: S3Request) -> Response:
        """DeleteObject."""
        removed = self._store.remove(request.bucket, request.key, request.version)
        response = Response(status=204)
        if removed is not None:
            response.headers.update(_version_id(removed))
            if removed.content is None:
                response.headers["x-amz-delete-marker"] = "true"
        return response

    def attributes(self, request: S3Request) -> Response:
        """GetObjectAttributes."""
        version = self._find(request)
        wanted = {
            name.strip() for name in request.headers.get("x-amz-object-attributes", "").split(",")
        }
        sizes = version.state.get("parts")
        parts = {
            "ETag": element("ETag", version.etag),
            "Checksum": f"<Checksum>{_checksum_elements(version.state)}</Checksum>",
            "ObjectParts": f"<ObjectParts>{element('PartsCount', len(sizes or []))}</ObjectParts>",
            "StorageClass": element("StorageClass", version.storage_class),
            "ObjectSize": element("ObjectSize", version.size),
        }
        absent = set() if sizes else {"ObjectParts"}
        absent |= set() if "checksum_value" in version.state else {"Checksum"}
        shown = [text for name, text in parts.items() if name in wanted - absent]
        response = document("GetObjectAttributesResponse", *shown)
        response.headers["Last-Modified"] = http_date(int(version.modified))
        response.headers.update(_version_id(version))
        return response

    def get_tags(self, request: S3Request) -> Response:
        """GetObjectTagging."""
        return tagging(self._find(request).state.get("tags", {}))

    def put_tags(self, request: S3Request) -> Response:
        """PutObjectTagging."""
        tags = tag_set(parse(request.body()))
        self._store.update(request.bucket, self._find(request), {"tags": tags})
        return Response()

    def delete_tags(self, request: S3Request) -> Response:
        """DeleteObjectTagging."""
        self._store.update(request.bucket, self._find(request), {"tags": {}})
        return Response(status=204)

    def get_acl(self, request: S3Request) -> Response:
        """GetObjectAcl."""
        return acl.to_document(self._find(request).state.get("acl"))

    def put_acl(self, request: S3Request) -> Response:
        """PutObjectAcl."""
        grants = acl.from_headers(request.headers) or acl.from_body(request.body())
        self._store.update(request.bucket, self._find(request), {"acl": grants})
        return Response()

    def create_upload(self, request: S3Request) -> Response:
        """CreateMultipartUpload."""
        self._store.bucket(request.bucket)
        algorithm = request.headers.get("x-amz-checksum-algorithm", "").lower()
        usual = WHOLE if algorithm == "crc64nvme" else COMPOSITE
        kind = request.headers.get("x-amz-checksum-type", usual)
        upload = MultipartUpload(request.bucket, request.key, request.state(), algorithm, kind)
        self._uploads.add(upload)
        facts = {"Bucket": request.bucket, "Key": request.key, "UploadId": upload.id}
        response = document("InitiateMultipartUploadResult", elements(facts))
        if algorithm:
            response.headers["x-amz-checksum-algorithm"] = algorithm.upper()
            response.headers["x-amz-checksum-type"] = kind
        return response

    def put_part(self, request: S3Request) -> Response:
        """UploadPart, or UploadPartCopy."""
        upload, number = self._upload(request), request.number("partNumber", 0)
        if not 1 <= number <= MOST_PARTS:
            raise ServiceError(
                "InvalidArgument",
                f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive",
            )
        copying = "x-amz-copy-source" in request.headers
        if copying:
            content, checksums = self._copied_part(request), {}
        else:
            body = Upload.of(request.environ)
            content = self._store.contents.write(body)
            checksums = body.checksums
        part = Part(content, content.path.stat().st_mtime, checksums)
        self._uploads.put_part(upload, number, part)
        facts = {"ETag": f'"{part.etag}"', "LastModified": timestamp(part.modified)}
        if copying:
            return document("CopyPartResult", elements(facts))
        headers = {f"x-amz-checksum-{name}": value for name, value in checksums.items()}
        return Response(headers=headers | {"ETag": facts["ETag"]})

    def list_parts(self, request: S3Request) -> Response:
        """ListParts."""
        upload = self._upload(request)
        after = request.number("part-number-marker", 0)
        limit = min(request.number("max-parts", PAGE), PAGE)
        found = sorted((number, part) for number, part in upload.parts.items() if number > after)
        parts = [
            elements(
                {
                    "PartNumber": number,
                    "LastModified": timestamp(part.modified),
                    "ETag": f'"{part.etag}"',
                    "Size": part.content.size,
                }
            )
            for number, part in found[:limit]
        ]
        more = len(found) > limit
        facts = {
            "Bucket": request.bucket,
            "Key": request.key,
            "UploadId": upload.id,
            "StorageClass": upload.state.get("storage", "STANDARD"),
            "PartNumberMarker": after,
            "NextPartNumberMarker": found[limit - 1][0] if more else None,
            "MaxParts": limit,
            "IsTruncated": more,
        }
        return document(
            "ListPartsResult",
            elements(facts),
            OWNER,
            *(f"<Part>{part}</Part>" for part in parts),
        )

    def complete_upload(self, request: S3Request) -> Response:
        """CompleteMultipartUpload; repeating it for a completed upload is not an error."""
        parts = []
        for part in parse(request.body()).findall("Part"):
            number, etag = part.findtext("PartNumber", ""), part.findtext("ETag", "")
            if not number.isdigit():
                raise malformed()
            parts.append((int(number), etag))
        upload_id = request.query["uploadId"]
        current = self._store.find(request.bucket, request.key)
        if current is not None and current.state.get("upload") == upload_id:
            return self._completed(request, current)
        upload = self._upload(request)
        with upload.completing:
            current = self._store.find(request.bucket, request.key)
            if current is not None and current.state.get("upload") == upload_id:
                return self._completed(request, current)
            content, state = self._uploads.join(upload, parts)
            version = self._add(request, content, state)
            self._uploads.end(upload)
        return self._completed(request, version)

    def abort_upload(self, request: S3Request) -> Response:
        """AbortMultipartUpload."""
        self._uploads.end(self._upload(request))
        return Response(status=204)

    def _add(self, request: S3Request, content: Content, state: dict[str, Any]) -> Version:
        """Store a file as the request's object, if its conditions hold."""
        return self._store.add(
            request.bucket,
            request.key,
            content,
            state,
            lambda now: check_write(request.headers, now),
        )

    def _completed(self, request: S3Request, version: Version) -> Response:
        facts = {
            "Location": f"http://{request.headers['host']}/{request.bucket}/{request.key}",
            "Bucket": request.bucket,
            "Key": request.key,
            "ETag": f'"{version.etag}"',
        }
        checksum = _checksum_elements(version.state)
        response = document("CompleteMultipartUploadResult", elements(facts), checksum)
        response.headers.update(_version_id(version))
        return response

    def _upload(self, request: S3Request) -> MultipartUpload:
        self._store.bucket(request.bucket)
        return self._uploads.find(request.bucket, request.key, request.query["uploadId"])

    def _find(self, request: S3Request) -> Version:
        return self._object(request.bucket, request.key, request.version)

    def _object(self, bucket: str, key: str, version: str | None) -> Version:
        """The object, or a version of it; an error for a delete marker."""
        self._store.bucket(bucket)
        found = self._store.find(bucket, key, version)
        if found is None and version is not None:
            raise ServiceError("NoSuchVersion", "The specified version does not exist.", 404)
        if found is not None and found.content is None and version is not None:
            raise ServiceError(
                "MethodNotAllowed", "The specified method is not allowed on a delete marker.", 405
            )
        if found is None or found.content is None:
            raise no_such_key()
        return found

    def _source(self, request: S3Request) -> Version:
        """The source of a copy."""
        source = self._object(*request.source())
        check_conditions(request.headers, source, "x-amz-copy-source-", copying=True)
        return source

    def _shared(self, request: S3Request, source: Version) -> Content:
        """A new file with the source's bytes; retry if the source is replaced in the meantime."""
        while True:
            assert source.content is not None  # noqa: S101 - for mypy
            try:
                return self._store.contents.share(source.content)
            except FileNotFoundError:
                before, source = source, self._source(request)
                if source == before:
                    raise

    def _copied_part(self, request: S3Request) -> Content:
        source = self._source(request)
        span = byte_range(request.headers.get("x-amz-copy-source-range", ""), source.size)
        if span is None or source.content is None:
            return self._shared(request, source)
        body = source.content.open(*span)
        try:
            return self._store.contents.write(body)
        finally:
            body.close()


def _selected(request: S3Request, version: Version) -> tuple[int, dict[str, str], int, int]:
    """The status and headers of a response with an object, and the range of its bytes."""
    headers = _headers(request.query, version)
    if not check_conditions(request.headers, version):
        return 304, headers, 0, 0
    span = byte_range(request.headers.get("range", ""), version.size)
    if number := request.query.get("partNumber"):
        sizes = version.state.get("parts") or [version.size]
        span = _part_range(sizes, number)
        headers["x-amz-mp-parts-count"] = str(len(sizes))
    begin, end = span or (0, version.size)
    headers["Content-Length"] = str(end - begin)
    verifying = request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    if verifying and (begin, end) == (0, version.size):
        headers |= _checksum(version)
    if span is None:
        return 200, headers, begin, end
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{version.size}"
    return 206, headers, begin, end


def _part_range(sizes: list[int], number: str) -> tuple[int, int]:
    if not number.isdigit() or not 1 <= int(number) <= len(sizes):
        raise ServiceError("InvalidPartNumber", "The requested partnumber is not satisfiable", 416)
    begin = sum(sizes[: int(number) - 1])
    return begin, begin + sizes[int(number) - 1]


def _headers(query: Mapping[str, str], version: Version) -> dict[str, str]:
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
        "ETag": f'"{version.etag}"',
        "Last-Modified": http_date(int(version.modified)),
        **_version_id(version),
    }
    if version.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = version.storage_class
    if tags := version.state.get("tags"):
        headers["x-amz-tagging-count"] = str(len(tags))
    kept: dict[str, str] = version.state.get("metadata", {})
    chosen = {
        name.removeprefix("response-"): value
        for name, value in query.items()
        if name.startswith("response-")
    }
    for name, value in (kept | chosen).items():
        proper = name if name.startswith("x-amz-") else name.title()
        headers[proper] = value
    return headers


def _version_id(version: Version) -> dict[str, str]:
    return {} if version.id == UNVERSIONED else {"x-amz-version-id": version.id}


def _checksum_value(state: Mapping[str, Any]) -> str:
    parts = state.get("checksum_parts")
    return f"{state['checksum_value']}-{parts}" if parts else str(state["checksum_value"])


def _checksum(version: Version) -> dict[str, str]:
    state = version.state
    if "checksum_value" not in state:
        return {}
    return {
        f"x-amz-checksum-{state['algorithm'].lower()}": _checksum_value(state),
        "x-amz-checksum-type": state.get("checksum_type", WHOLE),
    }


def _checksum_elements(state: Mapping[str, Any]) -> str:
    if "checksum_value" not in state:
        return ""
    name = f"Checksum{state['algorithm'].upper()}"
    return elements(
        {name: _checksum_value(state), "ChecksumType": state.get("checksum_type", WHOLE)}
    )
