"""Errors in the shape each of AWS's protocols gives them."""

import json
import uuid
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from local.emulator.errors import ServiceError


def error(environ: dict[str, Any], service: str, problem: ServiceError) -> Response:
    """The answer that is this error, as the service's clients read it."""
    request_id = str(uuid.uuid4())
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": problem.code}
    if service == "s3":
        headers["x-amz-request-id"] = request_id
        body = "" if environ.get("REQUEST_METHOD") == "HEAD" else _element(problem)
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>'
        return Response(text, problem.status, headers, content_type="application/xml")
    form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    if form or service in ("iam", "sts"):
        kind = "Sender" if problem.status < 500 else "Receiver"
        text = (
            f"<ErrorResponse><Error><Type>{kind}</Type>{_element(problem)}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return Response(text, problem.status, headers, content_type="text/xml")
    content = {"__type": problem.code, "message": problem.message, **problem.extra}
    if "HTTP_SMITHY_PROTOCOL" in environ:
        headers["smithy-protocol"] = environ["HTTP_SMITHY_PROTOCOL"]
        return Response(_cbor(content), problem.status, headers, content_type="application/cbor")
    return Response(
        json.dumps(content), problem.status, headers, content_type="application/x-amz-json-1.1"
    )


def _element(problem: ServiceError) -> str:
    return f"<Code>{escape(problem.code)}</Code><Message>{escape(problem.message)}</Message>"


def _cbor(texts: dict[str, Any]) -> bytes:
    """A map of texts in CBOR (RFC 8949): all an error needs."""
    encoded = bytes([0xA0 | len(texts)])
    for text in (str(part) for pair in texts.items() for part in pair):
        octets = text.encode()
        encoded += b"\x79" + len(octets).to_bytes(2, "big") + octets
    return encoded
