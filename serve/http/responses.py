"""JSON responses, and the status of every error.

Every error is `{"error": one line with what was found and what was expected}`.
"""

import json
import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from serve.errors import BadRequest, EngineFailed, NotReady, OutOfMemory, Overloaded, TimedOut

LOG = logging.getLogger("gunicorn.error")


def json_response(value: object, status: int = 200) -> Response:
    """A response with `value` as one line of JSON."""
    text = json.dumps(value, allow_nan=False) + "\n"
    return Response(text, status, content_type="application/json")


def register_error_handlers(app: Flask, paths: str) -> None:
    """Answer exceptions with their status; `paths` lists the valid paths for status 404."""

    @app.errorhandler(BadRequest)
    def bad_request(error: BadRequest) -> Response:
        response = _error(str(error), error.status)
        response.headers.update(error.headers)
        return response

    @app.errorhandler(NotReady)
    @app.errorhandler(TimedOut)
    def unavailable(error: Exception) -> Response:
        return _error(str(error), 503)

    @app.errorhandler(Overloaded)
    def overloaded(error: Overloaded) -> Response:
        response = _error(f"overloaded: {error}, try again in a second", 503)
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(OutOfMemory)
    def no_room(error: OutOfMemory) -> Response:
        return _error(str(error), 507)

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
            response = _error(f"found {requested}, expected {paths}", code)
            if allow := error.get_response().headers.get("Allow"):
                response.headers["Allow"] = allow
            return response
        return _error(f"{requested}: {error.description or error.name}", code)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        LOG.exception("%s %r", request.method, request.path)
        return _error(f"the server failed ({type(error).__name__}); its log has the traceback", 500)


def _error(message: str, status: int) -> Response:
    return json_response({"error": message}, status)
