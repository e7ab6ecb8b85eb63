"""The HTTP side of SageMaker's inference contract: /ping, /invocations, /execution-parameters.

Also /metrics for Prometheus, which SageMaker does not route.
"""

import atexit
from contextlib import nullcontext

from flask import Flask, Response

from serve.embedded_metrics import EmbeddedMetrics
from serve.http.invocations import BODY_BYTES, answer_invocation, echo_attributes
from serve.http.responses import json_response, register_error_handlers
from serve.inference.devices import gpus
from serve.inference.predictor import Predictor
from serve.metrics import Metrics, ModelDescription
from serve.models.registry import Registry
from serve.models.routes import create_models_app
from serve.payloads.body import Admission
from serve.settings import IN_FLIGHT, Settings

PATHS = "GET /ping, POST /invocations, GET /execution-parameters or GET /metrics"


def create_app(
    predictor: Predictor, settings: Settings, embedded: EmbeddedMetrics | None = None
) -> Flask:
    """The WSGI application for one predictor, which the caller starts."""
    app = Flask("serve", static_folder=None)
    admission = Admission(IN_FLIGHT, max(BODY_BYTES, settings.payload_bytes))

    @app.get("/ping")
    def ping() -> Response:
        status = predictor.status()
        return json_response(status, 200 if status["status"] == "READY" else 503)

    @app.get("/execution-parameters")
    def execution_parameters() -> Response:
        return json_response(
            {
                "MaxConcurrentTransforms": settings.transforms,
                "BatchStrategy": settings.strategy,
                "MaxPayloadInMB": settings.advertised_mb,
            }
        )

    @app.post("/invocations")
    def invocations() -> Response:
        return answer_invocation(
            admission, settings.payload_bytes, metrics, lambda _: nullcontext(predictor)
        )

    def models() -> list[ModelDescription]:
        described = predictor.description()
        return [] if described is None else [described]

    metrics = Metrics(models, lambda: predictor.waiting, embedded)
    metrics.register(app)

    echo_attributes(app)
    register_error_handlers(app, PATHS)
    return app


def application() -> Flask:
    """The application factory for gunicorn: reads the environment and starts loading the model."""
    settings = Settings.from_environment()
    embedded = None
    if settings.cloudwatch_namespace is not None:
        embedded = EmbeddedMetrics(settings.cloudwatch_namespace, settings.cloudwatch_dimensions)
        atexit.register(embedded.stop)
    if settings.models_dir is not None:
        from serve.gunicorn_conf import KNOWN_MODELS

        registry = Registry(
            settings.models_dir,
            cpus=settings.cpus,
            precision=settings.precision,
            most=settings.max_models,
            known=KNOWN_MODELS,
        )
        atexit.register(registry.stop)
        return create_models_app(registry, settings, embedded)
    predictor = Predictor(
        settings.model_dir, cpus=settings.cpus, gpu=bool(gpus()), precision=settings.precision
    )
    atexit.register(predictor.stop)
    predictor.start()
    return create_app(predictor, settings, embedded)
