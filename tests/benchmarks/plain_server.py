"""The server most people write first: Flask, gunicorn and eager PyTorch, one worker a core.

What `serving.py` compares with. It has the shape of SageMaker's own examples: the model is loaded
by the first ping of each worker, a request is decoded with Pillow, prepared with torchvision's
transforms, and answered by itself.

    MODEL_DIR=... gunicorn --workers 2 --chdir tests/benchmarks plain_server:app

With BFLOAT16=1 the forward pass is autocast to it.
"""

import functools
import io
import os
from pathlib import Path
from typing import Any

import torch
from flask import Flask, Response, jsonify, request
from PIL import Image
from torchvision import transforms

from container.artifact import Artifact
from container.models import Classifier, load_classifier

BFLOAT16 = os.environ.get("BFLOAT16") == "1"

app = Flask(__name__)


@functools.cache
def model() -> tuple[Artifact, Classifier, Any]:
    artifact = Artifact.read(Path(os.environ["MODEL_DIR"]))
    prepare = transforms.Compose(
        [
            transforms.Resize(artifact.geometry.resize),
            transforms.CenterCrop(artifact.geometry.crop),
            transforms.ToTensor(),
            transforms.Normalize(artifact.mean, artifact.std),
        ]
    )
    return artifact, load_classifier(artifact), prepare


@app.get("/ping")
def ping() -> Response:
    model()
    return Response("\n", mimetype="application/json")


@app.post("/invocations")
def invocations() -> Response:
    artifact, classifier, prepare = model()
    image = Image.open(io.BytesIO(request.get_data())).convert("RGB")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16):
        logits = classifier.network(prepare(image).unsqueeze(0))
        probabilities = torch.softmax(logits.float(), dim=1)[0]
    best = probabilities.topk(min(5, len(artifact.classes)))
    labels = [artifact.classes[index] for index in best.indices.tolist()]
    return jsonify(predictions=[dict(zip(labels, best.values.tolist(), strict=True))])
