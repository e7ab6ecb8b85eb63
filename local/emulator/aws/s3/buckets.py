"""S3's operations on buckets."""

import contextlib
import json
import re
from urllib.parse import urlencode

from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Response

from local.emulator.aws.s3 import acl, listing
from local.emulator.aws.s3.contents import BLOCK
from local.emulator.aws.s3.multipart import Uploads
from local.emulator.aws.s3.requests import S3Request, object_state
from local.emulator.aws.s3.settings import SETTINGS, missing
from local.emulator.aws.s3.store import ObjectStore
from local.emulator.aws.s3.xml import (
    CONTENT_TYPE,
    OWNER,
    document,
    element,
    elements,
    malformed,
    parse,
    tag_set,
    texts,
    timestamp,
)
from local.emulator.errors import ServiceError

NAME = re.compile("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
DEFAULT_REGION = "us-east-1"
PAGE = 10_000
"""Default page size (API reference)."""


class Buckets:
    """Answers requests about buckets.

    Every operation raises ServiceError with S3's code if it rejects the request.
    """

    def __init__(self, store: ObjectStore, uploads: Uploads) -> None:
        self._store, self._uploads = store, uploads

    def list_buckets(self, request: S3Request) -> Response:
        """ListBuckets."""
        prefix, after = request.query.get("prefix", ""), request.query.get("continuation-token", "")
        limit = request.number("max-buckets", PAGE)
        region = request.query.get("bucket-region")
        found = [
            bucket
            for bucket in self._store.buckets()
            if bucket.name.startswith(prefix)
            and bucket.name > after
            and region in (None, bucket.region)
        ]
        shown = [
            {
                "Name": bucket.name,
                "CreationDate": timestamp(bucket.created),
                "BucketRegion": bucket.region,
            }
            for bucket in found[:limit]
        ]
        return document(
            "ListAllMyBucketsResult",
            OWNER,
            "<Buckets>",
            *(f"<Bucket>{elements(bucket)}</Bucket>" for bucket in shown),
            "</Buckets>",
            element("ContinuationToken", found[limit - 1].name if len(found) > limit else None),
        )

    def create(self, request: S3Request) -> Response:
        """CreateBucket."""
        name = request.bucket
        if not NAME.fullmatch(name) or ".." in name or ADDRESS.fullmatch(name):
            raise ServiceError(
                "InvalidBucketName",
                f"The specified bucket is not valid: found {name!r}, expected 3 to 63 lower-case "
                "letters, digits, hyphens and dots, with a letter or digit at both ends.",
            )
        region = _location(request)
        if self._store.bucket_exists(name):
            # Not an error in this region only ("Errors" of CreateBucket in the API reference).
            if not region == self._store.bucket(name).region == DEFAULT_REGION:
                raise ServiceError(
                    "BucketAlreadyOwnedByYou",
                    "Your previous request to create the named bucket succeeded and you already "
                    "own it.",
                    409,
                )
        else:
            grants = acl.from_headers(request.headers)
            settings = {"acl": json.dumps(grants)} if grants else {}
            self._store.create_bucket(name, region, settings)
        return Response(headers={"Location": f"/{name}"})

    def head(self, request: S3Request) -> Response:
        """HeadBucket."""
        region = self._store.bucket(request.bucket).region
        return Response(headers={"x-amz-bucket-region": region}, content_type=CONTENT_TYPE)

    def delete(self, request: S3Request) -> Response:
        """DeleteBucket."""
        self._store.delete_bucket(request.bucket)
        for upload in self._uploads.in_bucket(request.bucket):
            self._uploads.end(upload)
        return Response(status=204)

    def location(self, request: S3Request) -> Response:
        """GetBucketLocation."""
        region = self._store.bucket(request.bucket).region
        return document("LocationConstraint", "" if region == DEFAULT_REGION else region)

    def list_objects(self, request: S3Request) -> Response:
        """ListObjects, in both versions."""
        self._store.bucket(request.bucket)
        newer = request.query.get("list-type") == "2"
        answer = listing.list_objects_v2 if newer else listing.list_objects
        return answer(self._store, request.bucket, request.query)

    def list_versions(self, request: S3Request) -> Response:
        """ListObjectVersions."""
        self._store.bucket(request.bucket)
        return listing.list_versions(self._store, request.bucket, request.query)

    def list_uploads(self, request: S3Request) -> Response:
        """ListMultipartUploads: all of them in one page."""
        self._store.bucket(request.bucket)
        prefix = request.query.get("prefix", "")
        uploads = [
            upload
            for upload in self._uploads.in_bucket(request.bucket)
            if upload.key.startswith(prefix)
        ]
        facts = [
            {
                "Key": upload.key,
                "UploadId": upload.id,
                "Initiated": timestamp(upload.started),
                "StorageClass": upload.state.get("storage", "STANDARD"),
            }
            for upload in uploads
        ]
        return document(
            "ListMultipartUploadsResult",
            elements({"Bucket": request.bucket, "Prefix": prefix, "IsTruncated": False}),
            *(f"<Upload>{elements(upload)}{OWNER}</Upload>" for upload in facts),
        )

    def delete_objects(self, request: S3Request) -> Response:
        """DeleteObjects."""
        wanted = parse(request.body())
        objects = wanted.findall("Object")
        if not objects:
            raise malformed()
        self._store.bucket(request.bucket)
        deleted = []
        for one in objects:
            key, version = one.findtext("Key", ""), one.findtext("VersionId")
            removed = self._store.remove(request.bucket, key, version)
            marker = removed is not None and removed.content is None
            deleted.append(
                {
                    "Key": key,
                    "VersionId": version,
                    "DeleteMarker": True if marker else None,
                    "DeleteMarkerVersionId": removed.id if removed and marker else None,
                }
            )
        quiet = texts(wanted, "Quiet") == ["true"]
        shown = [] if quiet else [f"<Deleted>{elements(one)}</Deleted>" for one in deleted]
        return document("DeleteResult", *shown)

    def post_form(self, request: S3Request) -> Response:
        """PostObject: a form's upload, whose policy has been checked."""
        self._store.bucket(request.bucket)
        _, form, files = FormDataParser(silent=True).parse_from_environ(request.environ)
        # Headers hold bytes as Latin-1, forms are UTF-8.
        fields = {name.lower(): value.encode().decode("latin-1") for name, value in form.items()}
        key, file = form.get("key", ""), files.get("file")
        if not key or (file is None and "file" not in form):
            raise ServiceError("InvalidArgument", "Bucket POST must contain a key and a file")
        if file is None:
            content = self._store.contents.write([form["file"].encode()])
        else:
            key = key.replace("${filename}", file.filename or "")
            with contextlib.closing(file):
                content = self._store.contents.write(iter(lambda: file.stream.read(BLOCK), b""))
        if "acl" in fields:
            fields["x-amz-acl"] = fields["acl"]
        state = object_state(fields)
        if "tagging" in form:
            state["tags"] = tag_set(parse(form["tagging"].encode()))
        version = self._store.add(request.bucket, key, content, state)
        headers = {"ETag": f'"{version.etag}"', "Location": f"/{request.bucket}/{key}"}
        facts = {"Bucket": request.bucket, "Key": key, "ETag": headers["ETag"]}
        if target := fields.get("success_action_redirect") or fields.get("redirect"):
            return Response(status=303, headers=headers | {"Location": _redirect(target, facts)})
        if fields.get("success_action_status") == "201":
            response = document("PostResponse", elements(facts))
            response.headers.update(headers)
            response.status_code = 201
            return response
        status = 200 if fields.get("success_action_status") == "200" else 204
        return Response(status=status, headers=headers)

    def get_acl(self, request: S3Request) -> Response:
        """GetBucketAcl."""
        kept = self._store.bucket(request.bucket).settings.get("acl")
        return acl.to_document(json.loads(kept) if kept else None)

    def put_acl(self, request: S3Request) -> Response:
        """PutBucketAcl."""
        grants = acl.from_headers(request.headers) or acl.from_body(request.body())
        self._store.change_setting(request.bucket, "acl", json.dumps(grants))
        return Response()

    def policy_status(self, request: S3Request) -> Response:
        """GetBucketPolicyStatus: no local bucket is public."""
        self._store.bucket(request.bucket)
        return document("PolicyStatus", element("IsPublic", False))

    def get_setting(self, request: S3Request, subresource: str) -> Response:
        """GetBucketTagging and similar operations."""
        setting = SETTINGS[subresource]
        kept = self._store.bucket(request.bucket).settings.get(subresource)
        if kept is None and not setting.default:
            raise missing(subresource)
        if kept is None:
            return document(setting.default)
        return Response(kept, content_type="application/json" if setting.json else CONTENT_TYPE)

    def put_setting(self, request: S3Request, subresource: str) -> Response:
        """PutBucketTagging and similar operations."""
        body = request.body()
        if SETTINGS[subresource].json:
            try:
                json.loads(body)
            except ValueError:
                raise ServiceError("MalformedPolicy", "Policies must be valid JSON") from None
        else:
            parse(body)
        self._store.change_setting(request.bucket, subresource, body.decode())
        return Response()

    def delete_setting(self, request: S3Request, subresource: str) -> Response:
        """DeleteBucketTagging and similar operations."""
        self._store.change_setting(request.bucket, subresource, None)
        return Response(status=204)


def _location(request: S3Request) -> str:
    """The region to create a bucket in.

    Raises:
        ServiceError: the endpoint's region is different.
    """
    body = request.body()
    wanted = parse(body).findtext("LocationConstraint") if body else None
    if (wanted or DEFAULT_REGION) != request.region and request.region != DEFAULT_REGION:
        raise ServiceError(
            "IllegalLocationConstraintException",
            f"The {wanted or 'unspecified'} location constraint is incompatible for the region "
            f"specific endpoint this request was sent to ({request.region}).",
        )
    return wanted or DEFAULT_REGION


def _redirect(target: str, facts: dict[str, str]) -> str:
    query = urlencode({name.lower(): value for name, value in facts.items()})
    return f"{target}{'&' if '?' in target else '?'}{query}"
