"""Validation of a runtime request's headers with botocore's service model."""

from collections.abc import Iterator
from typing import Any

from werkzeug.datastructures import Headers

from local.emulator.errors import ServiceError
from local.emulator.shapes.constraints import shown, text_constraints
from local.emulator.shapes.service_model import service_model

PREFIX = "X-Amzn-SageMaker-"
OPERATIONS = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
}
"""Operations by the last part of the URL."""
REFUSED_HEADERS = {
    "Target-Container-Hostname": "endpoints of several containers",
    "Inference-Component": "inference components",
    "Enable-Explanations": "endpoints with an ExplainerConfig",
    "Prefix-Aware-Id": "routing by prefixes",
}
"""Unsupported features, by the header that requests them."""


def check_headers(operation: str, endpoint: str, headers: Headers) -> None:
    """Check the endpoint's name and every header that the operation has a member for.

    Args:
        operation: the last part of the URL.
        endpoint: the endpoint's name in the URL.
        headers: the request's headers.

    Raises:
        ServiceError: `ValidationError` with every member that violates a constraint, or with the
            header of an unsupported feature.
    """
    shape = service_model("sagemaker-runtime").operation_model(OPERATIONS[operation]).input_shape
    problems = []
    for name, member in shape.members.items():
        where = member.serialization.get("location")
        text = endpoint if where == "uri" else headers.get(member.serialization.get("name", ""))
        if where in ("uri", "header") and text is not None:
            path = name[:1].lower() + name[1:]
            problems += [
                f"Value '{shown(text)}' at '{path}' failed to satisfy constraint: {one}"
                for one in _broken(member, text)
            ]
    if problems:
        count = len(problems)
        raise ServiceError(
            "ValidationError",
            f"{count} validation error{'s' * (count > 1)} detected: " + "; ".join(problems),
        )
    for header, what in REFUSED_HEADERS.items():
        if PREFIX + header in headers:
            raise ServiceError("ValidationError", f"{PREFIX}{header}: {what} cannot be run locally")


def number(headers: Headers, name: str) -> float | None:
    """The value of a header that `check_headers` has validated; None if it is missing."""
    text = headers.get(PREFIX + name)
    return None if text is None else float(text)


def _broken(member: Any, text: str) -> Iterator[str]:
    if member.type_name == "string":
        yield from text_constraints(member, text)
        return
    low, high = member.metadata["min"], member.metadata["max"]
    if not (text.isascii() and text.isdecimal() and low <= int(text[:20]) <= high):
        yield f"Member must be a whole number from {low} to {high}"
