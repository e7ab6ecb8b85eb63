"""The HTTP side of SageMaker's inference contract: /ping, /invocations, /execution-parameters.

Every error is JSON, `{"error": one line saying what was found and what was expected}`.
"""

import atexit
import json
import logging
from time import monotonic

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from serve.devices import gpus
from serve.errors import BadRequest, EngineFailed, NotReady, Overloaded, TimedOut
from serve.payloads import codec
from serve.payloads.accept import negotiate
from serve.payloads.body import Admission, declared_length, read_body
from serve.predictor import Predictor
from serve.settings import IN_FLIGHT, Settings

LOG = logging.getLogger("gunicorn.error")

INVOCATION_SECONDS = 55.0
"""Seconds an invocation may take; SageMaker's own timeout of 60 would give no reason."""

BODY_BYTES = 512 * 1024 * 1024
"""Bytes of request bodies in memory at once, or one body of the largest size if that is more."""

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def create_app(predictor: Predictor, settings: Settings) -> Flask:
    """The WSGI application around a predictor, which the caller starts."""
    app = Flask("serve", static_folder=None)
    admission = Admission(IN_FLIGHT, max(BODY_BYTES, settings.payload_bytes))

    @app.get("/ping")
    def ping() -> Response:
        status = predictor.status()
        return _json(status, 200 if status["status"] == "READY" else 503)

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        return _json(
            {
                "MaxConcurrentTransforms": settings.transforms,
                "BatchStrategy": settings.strategy,
                "MaxPayloadInMB": settings.advertised_mb,
            }
        )

    @app.post("/invocations")
    def invocations() -> Response:
        deadline = monotonic() + INVOCATION_SECONDS
        limit = settings.payload_bytes
        announced = declared_length(request.environ) or 0
        with admission.admit(announced=min(announced, limit)) as admitted:
            body = read_body(request.environ, limit, deadline, admitted.add)
            artifact = predictor.artifact
            attributes = codec.check_attributes(request.headers.get(ATTRIBUTES, ""))
            top_k = codec.read_top_k(attributes)
            accepted = negotiate(request.headers.get("Accept", ""))
            _check_encoding()
            # Parsing a large document holds the GIL and blocks all other threads.
            with predictor.decoder_slot(deadline):
                images = codec.read_images(request.headers.get("Content-Type", ""), body, artifact)
            del body
            request.environ["serve.payloads.instances"] = images.count
            rows = predictor.predict(images.pixels, deadline)
        text = codec.write_predictions(accepted, rows, artifact.classes, top_k)
        return Response(text, content_type=f"{accepted}; charset=utf-8")

    @app.after_request
    def echo_attributes(response: Response) -> Response:
        attributes = request.headers.get(ATTRIBUTES, "")
        if attributes and codec.are_attributes(attributes):
            response.headers[ATTRIBUTES] = attributes
        return response

    _register_error_handlers(app)
    return app


def application() -> Flask:
    """The application factory for gunicorn: configured by the environment, loading its model."""
    settings = Settings.from_environment()
    predictor = Predictor(
        settings.model_dir, cpus=settings.cpus, gpu=bool(gpus()), precision=settings.precision
    )
    atexit.register(predictor.stop)
    predictor.start()
    return create_app(predictor, settings)


def _check_encoding() -> None:
    for name in ("Content-Encoding", "Transfer-Encoding"):
        encoding = request.headers.get(name, "").strip().lower()
        if encoding not in ("", "identity", "chunked"):
            raise BadRequest(
                f"{name}: found {encoding[:100]}, expected none: send the body as it is", 415
            )


def _register_error_handlers(app: Flask) -> None:
    @app.errorhandler(BadRequest)
    def bad_request(error: BadRequest) -> Response:
        return _error(str(error), error.status)

    @app.errorhandler(NotReady)
    @app.errorhandler(TimedOut)
    def unavailable(error: Exception) -> Response:
        return _error(str(error), 503)

    @app.errorhandler(Overloaded)
    def overloaded(error: Overloaded) -> Response:
        response = _error(f"overloaded: {error}, try again in a second", 503)
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(MemoryError)
    def out_of_memory(_: MemoryError) -> Response:
        response = _error("overloaded: out of memory, try again in a second", 503)
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(EngineFailed)
    def engine_failed(error: EngineFailed) -> Response:
        return _error(f"the forward pass failed: {error}", 500)

    @app.errorhandler(HTTPException)
    def other(error: HTTPException) -> Response:
        code = error.code or 500
        requested = f"{request.method} {request.path[:100]}"
        if code in (404, 405):
            expected = "expected GET /ping, POST /invocations or GET /execution-parameters"
            response = _error(f"found {requested}, {expected}", code)
            if allow := error.get_response().headers.get("Allow"):
                response.headers["Allow"] = allow
            return response
        return _error(f"{requested}: {error.description or error.name}", code)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        LOG.exception("%s %r", request.method, request.path)
        return _error(f"the server failed ({type(error).__name__}); its log has the traceback", 500)


def _error(message: str, status: int) -> Response:
    return _json({"error": message}, status)


def _json(value: object, status: int = 200) -> Response:
    text = json.dumps(value, allow_nan=False) + "\n"
    return Response(text, status, content_type="application/json")
