"""Answers an invocation: reads the body, decodes and predicts images, writes the response."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from time import monotonic

from flask import Flask, Response, current_app, request, stream_with_context

from serve.errors import BadRequest
from serve.explanations.heat_map import draw
from serve.inference.predictor import Predictor
from serve.metrics import Metrics
from serve.payloads import codec
from serve.payloads.accept import negotiate
from serve.payloads.body import Admission, declared_length, read_body
from serve.payloads.images import Pixels, Probabilities
from serve.records import RECEIVED_AT, RECORD, InvocationRecord

INVOCATION_SECONDS = 55.0
"""Seconds an invocation may take; SageMaker's timeout of 60 s would give the client no reason."""

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
        admission: limits the number of concurrent invocations and the bytes of their bodies.
        limit: largest body in bytes.
        metrics: counts the invocation.
        use: takes the deadline on the monotonic clock and returns a context with the predictor,
            entered once the body is read and left when the response is complete.
    """
    deadline = RECEIVED_AT.get(monotonic()) + INVOCATION_SECONDS
    record = request.environ[RECORD] = InvocationRecord(metrics.observe)
    announced = declared_length(request.environ) or 0
    with ExitStack() as held:
        admitted = held.enter_context(admission.admit(announced=min(announced, limit)))
        body = read_body(request.environ, limit, deadline, admitted.add)
        record.received = len(body)
        predictor = held.enter_context(use(deadline))
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
        streamed = codec.read_stream(attributes, accepted)
        kept: deque[Pixels] | None = deque() if explained else None
        rows = predictor.stream(_keeping(images.pixels, kept), deadline, record, in_order=streamed)
        predictions = _explain(rows, kept, predictor, deadline, record)
        content_type = f"{accepted}; charset=utf-8"
        if streamed:
            first = next(predictions)  # Its errors can still set the response's status.
            lines = _lines(chain([first], predictions), artifact.classes, top_k)
            response = Response(stream_with_context(lines), content_type=content_type)
            response.call_on_close(held.pop_all().close)
            return response
        text = codec.write_predictions(accepted, list(predictions), artifact.classes, top_k)
    return Response(text, content_type=content_type)


def _keeping(pixels: Iterator[Pixels], kept: deque[Pixels] | None) -> Iterator[Pixels]:
    for image in pixels:
        if kept is not None:
            kept.append(image)
        yield image


def _explain(
    rows: Iterator[Probabilities],
    images: deque[Pixels] | None,
    predictor: Predictor,
    deadline: float,
    record: InvocationRecord,
) -> Iterator[codec.Prediction]:
    """The predictions, with heat maps if the images were kept."""
    for row in rows:
        heat_map = None
        if images is not None:
            began, image = monotonic(), images.popleft()
            heat_map = draw(image, predictor.explain(image, int(row.argmax()), deadline))
            record.compute += monotonic() - began
        yield codec.Prediction(row, heat_map)


def _lines(
    predictions: Iterable[codec.Prediction], classes: Sequence[str], top_k: int
) -> Iterator[str]:
    """A line for each prediction; an error becomes the last line."""
    try:
        for prediction in predictions:
            yield codec.write_predictions("application/jsonlines", [prediction], classes, top_k)
    except Exception as error:
        answer = current_app.make_response(current_app.handle_user_exception(error))
        yield answer.get_data(as_text=True)


def echo_attributes(app: Flask) -> None:
    """Copy the request's custom attributes to every response of the application."""

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
            "Content-Encoding may be gzip or deflate",
            415,
        )
