"""S3's REST API: selects the operation by a request's method, path and query."""

from collections.abc import Callable
from functools import partial

from werkzeug.wrappers import Response

from local.emulator.aws.s3.buckets import Buckets
from local.emulator.aws.s3.multipart import Uploads
from local.emulator.aws.s3.objects import S3Objects
from local.emulator.aws.s3.requests import Environ, S3Request
from local.emulator.aws.s3.settings import SETTINGS, cors_headers
from local.emulator.aws.s3.store import ObjectStore
from local.emulator.errors import ServiceError

Operations = dict[tuple[str, str], Callable[[S3Request], Response]]
"""Operations by method and subresource, which is a query parameter, or empty."""
OTHERS = {
    "analytics",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "object-lock",
    "renameObject",
    "restore",
    "retention",
    "select",
    "session",
    "torrent",
}
"""Subresources that are not implemented."""


class S3App:
    """Answers requests to S3."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        uploads = Uploads(store.contents)
        buckets, objects = Buckets(store, uploads), S3Objects(store, uploads)
        self._list_buckets = buckets.list_buckets
        self._buckets: Operations = {
            ("GET", ""): buckets.list_objects,
            ("HEAD", ""): buckets.head,
            ("PUT", ""): buckets.create,
            ("DELETE", ""): buckets.delete,
            ("POST", ""): buckets.post_form,
            ("POST", "delete"): buckets.delete_objects,
            ("GET", "versions"): buckets.list_versions,
            ("GET", "uploads"): buckets.list_uploads,
            ("GET", "location"): buckets.location,
            ("GET", "policyStatus"): buckets.policy_status,
            ("GET", "acl"): buckets.get_acl,
            ("PUT", "acl"): buckets.put_acl,
        }
        for name in SETTINGS:
            self._buckets["GET", name] = partial(buckets.get_setting, subresource=name)
            self._buckets["PUT", name] = partial(buckets.put_setting, subresource=name)
            self._buckets["DELETE", name] = partial(buckets.delete_setting, subresource=name)
        self._objects: Operations = {
            ("GET", ""): objects.get,
            ("HEAD", ""): objects.head,
            ("PUT", ""): objects.put,
            ("DELETE", ""): objects.delete,
            ("GET", "attributes"): objects.attributes,
            ("GET", "tagging"): objects.get_tags,
            ("PUT", "tagging"): objects.put_tags,
            ("DELETE", "tagging"): objects.delete_tags,
            ("GET", "acl"): objects.get_acl,
            ("PUT", "acl"): objects.put_acl,
            ("POST", "uploads"): objects.create_upload,
            ("PUT", "uploadId"): objects.put_part,
            ("GET", "uploadId"): objects.list_parts,
            ("POST", "uploadId"): objects.complete_upload,
            ("DELETE", "uploadId"): objects.abort_upload,
        }
        self._bucket_words = {word for _, word in self._buckets if word} | OTHERS
        self._object_words = {word for _, word in self._objects if word} | OTHERS

    def answer(self, environ: Environ, region: str) -> Response:
        """Answer one request.

        Raises:
            ServiceError: it is rejected, or not implemented.
            OSError: the disk is full.
        """
        request = S3Request.of(environ, region)
        if request.method == "OPTIONS":
            return self._preflight(request)
        response = self._operation(request)(request)
        if origin := request.headers.get("origin"):
            response.headers.update(self._cors(request, origin, request.method) or {})
        return response

    def _operation(self, request: S3Request) -> Callable[[S3Request], Response]:
        if not request.bucket:
            if request.method == "GET":
                return self._list_buckets
            raise _not_implemented(request.method)
        operations = self._objects if request.key else self._buckets
        words = self._object_words if request.key else self._bucket_words
        word = next((word for word in request.query if word in words), "")
        try:
            return operations[request.method, word]
        except KeyError:
            raise _not_implemented(
                f"{request.method} ?{word}" if word else request.method
            ) from None

    def _preflight(self, request: S3Request) -> Response:
        """The response to a browser's CORS preflight request."""
        method = request.headers.get("access-control-request-method", "")
        wanted = request.headers.get("access-control-request-headers")
        headers = self._cors(request, request.headers.get("origin", ""), method, wanted)
        if headers is None:
            raise ServiceError(
                "AccessForbidden", "CORSResponse: This CORS request is not allowed.", 403
            )
        return Response(headers=headers)

    def _cors(
        self, request: S3Request, origin: str, method: str, wanted: str | None = None
    ) -> dict[str, str] | None:
        if not request.bucket or not self._store.bucket_exists(request.bucket):
            return None
        return cors_headers(self._store.bucket(request.bucket), origin, method, wanted)


def _not_implemented(what: str) -> ServiceError:
    return ServiceError("NotImplemented", f"The local S3 has no operation for {what}.", 501)
