"""An invocation: a request's body, its images, their predictions and the response."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from time import monotonic

from flask import Flask, Response, request

from serve.errors import BadRequest
from serve.explanations.heat_map import draw
from serve.metrics import Metrics
from serve.payloads import codec
from serve.payloads.accept import negotiate
from serve.payloads.body import Admission, declared_length, read_body
from serve.payloads.images import Pixels
from serve.predictor import Predictor
from serve.records import RECORD, InvocationRecord

INVOCATION_SECONDS = 55.0
"""Seconds an invocation may take; SageMaker's own timeout of 60 would give no reason."""

BODY_BYTES = 512 * 1024 * 1024
"""Bytes of request bodies in memory at once, or one body of the largest size if that is more."""

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def answer_invocation(
    admission: Admission,
    limit: int,
    metrics: Metrics,
    use: Callable[[float], AbstractContextManager[Predictor]],
) -> Response:
    """Answer the current request with predictions for its images.

    Args:
        admission: bounds the invocations handled at once, and their bodies.
        limit: bytes a body may have.
        metrics: what counts the invocation.
        use: given the deadline on the monotonic clock, the predictor, which is held until the
            response is made; called once the body is read.
    """
    deadline = monotonic() + INVOCATION_SECONDS
    record = request.environ[RECORD] = InvocationRecord(metrics.observe)
    announced = declared_length(request.environ) or 0
    with admission.admit(announced=min(announced, limit)) as admitted:
        body = read_body(request.environ, limit, deadline, admitted.add)
        record.received = len(body)
        with use(deadline) as predictor:
            artifact = predictor.artifact
            attributes = codec.check_attributes(request.headers.get(ATTRIBUTES, ""))
            top_k = codec.read_top_k(attributes)
            accepted = negotiate(request.headers.get("Accept", ""))
            _check_transfer_encoding()
            # Parsing a large document holds the GIL and blocks all other threads.
            with predictor.decoder_slot(deadline, record):
                images = codec.read_images(request.headers.get("Content-Type", ""), body, artifact)
            del body
            record.images = images.count
            explained = codec.read_explain(attributes, accepted, images.count)
            kept: list[Pixels] = []
            rows = predictor.predict(_keeping(images.pixels, kept, explained), deadline, record)
            drawing = monotonic()
            heat_maps = [
                draw(image, predictor.explain(image, int(row.argmax()), deadline))
                for image, row in zip(kept, rows, strict=False)
            ]
            record.compute += monotonic() - drawing
    text = codec.write_predictions(accepted, rows, artifact.classes, top_k, heat_maps)
    return Response(text, content_type=f"{accepted}; charset=utf-8")


def _keeping(pixels: Iterator[Pixels], kept: list[Pixels], keep: bool) -> Iterator[Pixels]:
    for image in pixels:
        if keep:
            kept.append(image)
        yield image


def echo_attributes(app: Flask) -> None:
    """Let every response of the application carry the request's custom attributes."""

    @app.after_request
    def echo(response: Response) -> Response:
        attributes = request.headers.get(ATTRIBUTES, "")
        if attributes and codec.are_attributes(attributes):
            response.headers[ATTRIBUTES] = attributes
        return response


def _check_transfer_encoding() -> None:
    encoding = request.headers.get("Transfer-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "chunked"):
        raise BadRequest(
            f"Transfer-Encoding: found {encoding[:100]}, expected chunked or none; "
            "Content-Encoding may say gzip or deflate",
            415,
        )
