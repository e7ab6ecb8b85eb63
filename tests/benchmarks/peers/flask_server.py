"""The server most people write first: Flask, gunicorn and eager PyTorch, one worker a core.

It has the shape of SageMaker's own examples: the model is loaded by the first ping of each worker,
and a request is answered by itself.

    MODEL_DIR=... gunicorn --workers 2 --chdir tests/benchmarks/peers flask_server:app
"""

import functools

from classifier import EagerClassifier
from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@functools.cache
def model() -> EagerClassifier:
    return EagerClassifier()


@app.get("/ping")
def ping() -> Response:
    model()
    return Response("\n", mimetype="application/json")


@app.post("/invocations")
def invocations() -> Response:
    classifier = model()
    batch = classifier.decode(request.get_data()).unsqueeze(0)
    return jsonify(predictions=[classifier.best(classifier.predict(batch)[0])])
