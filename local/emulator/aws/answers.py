"""Error responses, and CloudWatch's responses, in each of AWS's protocols."""

import json
import uuid
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from local.emulator.errors import ServiceError

CLOUDWATCH = "http://monitoring.amazonaws.com/doc/2010-08-01/"
"""The namespace of CloudWatch's XML."""


def error(environ: dict[str, Any], service: str, problem: ServiceError) -> Response:
    """The error response in the protocol of the request."""
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


def success(headers: Mapping[str, str], operation: str, content: dict[str, Any]) -> Response:
    """The response of a CloudWatch operation, with strings, lists and maps.

    Args:
        headers: the request's headers by WSGI name, which determine the protocol.
        operation: the operation's name.
        content: the members of its output shape.
    """
    request_id = str(uuid.uuid4())
    named = {"x-amzn-RequestId": request_id}
    if headers.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        text = (
            f'<{operation}Response xmlns="{CLOUDWATCH}">'
            f"<{operation}Result>{_elements(content)}</{operation}Result>"
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
            f"</{operation}Response>"
        )
        return Response(text, 200, named, content_type="text/xml")
    if "HTTP_SMITHY_PROTOCOL" in headers:
        named["smithy-protocol"] = headers["HTTP_SMITHY_PROTOCOL"]
        return Response(_cbor(content), 200, named, content_type="application/cbor")
    return Response(json.dumps(content), 200, named, content_type="application/x-amz-json-1.0")


def _elements(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_elements(each)}</{name}>" for name, each in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_elements(each)}</member>" for each in value)
    return escape(str(value))


def _cbor(value: Any) -> bytes:
    """Encode strings, lists and maps in CBOR (RFC 8949)."""
    if isinstance(value, dict):
        pairs = (_cbor(str(name)) + _cbor(each) for name, each in value.items())
        return _head(5, len(value)) + b"".join(pairs)
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(_cbor, value))
    octets = str(value).encode()
    return _head(3, len(octets)) + octets


def _head(kind: int, length: int) -> bytes:
    """The head of a CBOR item: a major type and a 32-bit length."""
    return bytes([kind << 5 | 26]) + length.to_bytes(4, "big")
