"""The HTTP side of SageMaker's contract for multi-model endpoints.

https://docs.aws.amazon.com/sagemaker/latest/dg/mms-container-apis.html
"""

import json
from bisect import bisect_right
from time import monotonic

from flask import Flask, Response, request

from serve.embedded_metrics import EmbeddedMetrics
from serve.errors import BadRequest, one_line
from serve.http.invocations import (
    BODY_BYTES,
    INVOCATION_SECONDS,
    answer_invocation,
    echo_attributes,
)
from serve.http.responses import json_response, register_error_handlers
from serve.metrics import Metrics
from serve.models.registry import Registry
from serve.payloads.body import Admission, Admitted, read_body
from serve.settings import IN_FLIGHT, Settings

PAGE = 100
"""Models in one page of the list."""

MAX_NAME = 1024
MAX_BODY = 64 * 1024
MANAGED = 16
"""Concurrent loads and unloads: each blocks a thread that invocations need."""


def create_models_app(
    registry: Registry, settings: Settings, embedded: EmbeddedMetrics | None = None
) -> Flask:
    """The WSGI application for a registry of models, which the caller stops."""
    app = Flask("serve", static_folder=None)
    admission = Admission(IN_FLIGHT, max(BODY_BYTES, settings.payload_bytes))
    managing = Admission(MANAGED, MANAGED * MAX_BODY)

    @app.get("/ping")
    def ping() -> Response:
        status = registry.status()
        return json_response(status, 200 if status["status"] == "READY" else 503)

    @app.post("/models")
    def load() -> Response:
        with managing.admit() as admitted:
            name, url = _name_and_url(_read_description(admitted))
            registry.load(name, url)
        return json_response(_described(name, url))

    @app.get("/models")
    def models() -> Response:
        found = registry.names()
        token = request.args.get("next_page_token", "")
        start = bisect_right(found, token, key=lambda each: each[0]) if token else 0
        page = found[start : start + PAGE]
        answer: dict[str, object] = {"models": [_described(name, url) for name, url in page]}
        if start + PAGE < len(found):
            answer["nextPageToken"] = page[-1][0]
        return json_response(answer)

    @app.get("/models/<name>")
    def model(name: str) -> Response:
        return json_response(_described(name, registry.url_of(name)))

    @app.delete("/models/<name>")
    def unload(name: str) -> Response:
        with managing.admit():
            registry.unload(name)
        return json_response({"modelName": name})

    @app.post("/models/<name>/invoke")
    def invoke(name: str) -> Response:
        return answer_invocation(
            admission,
            settings.payload_bytes,
            metrics,
            lambda deadline: registry.use(name, deadline),
        )

    metrics = Metrics(registry.descriptions, lambda: registry.waiting, embedded)
    metrics.register(app)

    echo_attributes(app)
    register_error_handlers(
        app,
        "GET /ping, GET or POST /models, GET or DELETE /models/NAME, POST /models/NAME/invoke or "
        "GET /metrics",
    )
    return app


def _described(name: str, url: str) -> dict[str, str]:
    return {"modelName": name, "modelUrl": url}


def _read_description(admitted: Admitted) -> bytes:
    try:
        return read_body(request.environ, MAX_BODY, monotonic() + INVOCATION_SECONDS, admitted.add)
    except BadRequest as error:
        if error.status != 413:
            raise
        raise BadRequest(f"request body: expected at most {MAX_BODY:,} bytes", 413) from None


def _name_and_url(body: bytes) -> tuple[str, str]:
    """`model_name` and `url` of a request to load a model. Raises BadRequest naming the field."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise BadRequest('request body: expected a JSON object {"model_name": …, "url": …}')
    name, url = given.get("model_name"), given.get("url")
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
        raise BadRequest(f"model_name: found {_shown(name)}, expected the model's name")
    if "/" in name:
        raise BadRequest(f"model_name: found {_shown(name)}, expected a name without a slash")
    if not isinstance(url, str) or not url:
        raise BadRequest(f"url: found {_shown(url)}, expected the path of the model's folder")
    return name, url


def _shown(value: object) -> str:
    return one_line(json.dumps(value))[:80]
