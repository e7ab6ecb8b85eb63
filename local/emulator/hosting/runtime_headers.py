"""What is in the headers of a request to the runtime, checked with botocore's model of it."""

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
"""Operations by the last part of their URL."""
REFUSED_HEADERS = {
    "Target-Container-Hostname": "endpoints of several containers",
    "Inference-Component": "inference components",
    "Enable-Explanations": "endpoints with an ExplainerConfig",
    "Prefix-Aware-Id": "routing by prefixes",
}
"""Features that are refused, by the header that requests them."""


def check_headers(operation: str, endpoint: str, headers: Headers) -> None:
    """Check the endpoint's name and every header that the operation has a member for.

    Args:
        operation: the last part of its URL.
        endpoint: the name in the URL.
        headers: the request's, names in any case.

    Raises:
        ServiceError: `ValidationError` that names every member that breaks a constraint, or the
            header of what cannot be run locally.
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
    """A header's number, which was checked; None without it."""
    text = headers.get(PREFIX + name)
    return None if text is None else float(text)


def _broken(member: Any, text: str) -> Iterator[str]:
    if member.type_name == "string":
        yield from text_constraints(member, text)
        return
    low, high = member.metadata["min"], member.metadata["max"]
    if not (text.isascii() and text.isdecimal() and low <= int(text[:20]) <= high):
        yield f"Member must be a whole number from {low} to {high}"
