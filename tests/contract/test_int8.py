"""int8 predictions over HTTP and of an endpoint, compared with what the training job recorded."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from container.artifact import Artifact
from local.emulator.credentials import credentials
from local.emulator.home import Home
from serve.inference.precision import has_instructions
from tests.contract.conftest import ONE_THREAD

pytestmark = pytest.mark.timeout(900)

SIDE = 32
JOB = "with-int8"
HYPERPARAMETERS = {
    "arch": "shufflenet_v2_x0_5",
    "weights": "none",
    "image_size": str(SIDE),
    "epochs": "15",
    "batch_size": "16",
    "learning_rate": "0.005",
    "workers": "0",
    "quantize": "int8",
    # Keep the int8 graph at any loss of accuracy; these tests check how it is served.
    "quantize_tolerance": "100",
}
SAME = 1e-3
"""Largest difference of one probability between endpoints of the same precision."""
ROUNDED = 0.1
"""The same between an endpoint and the job: larger batches round differently, in int8 by a whole
quantisation step, and rounding depends on the processor."""
CHANGED = 0.06
"""int8 must change some probability by more than this, a third of the measured change."""
IMAGES = 4.01
"""Number of held-out images whose label may differ between an endpoint and the job."""

READY = re.compile(r"ready after .*OpenVINO on \d+ CPU cores?(?: in (\w+))?$", re.MULTILINE)

Probabilities = np.ndarray[tuple[int, int], np.dtype[np.float64]]


@dataclass
class Job:
    """A training job with `quantize=int8` of a local SageMaker that has been stopped.

    Attributes:
        home: the home of that SageMaker.
        model: the unpacked artifact.
        held_out: the file contents and labels of the images that the job was evaluated on.
    """

    home: Path
    model: Path
    held_out: list[tuple[bytes, str]]

    @property
    def recorded(self) -> Artifact:
        return Artifact.read(self.model)


def write_photos(root: Path) -> None:
    """Write noisy images of three classes: stripes of two directions and a chequered pattern."""
    random = np.random.default_rng(3)
    wave = np.sin(np.arange(SIDE) * 0.8)
    patterns = {
        "across": np.broadcast_to(wave[None, :], (SIDE, SIDE)),
        "down": np.broadcast_to(wave[:, None], (SIDE, SIDE)),
        "squares": wave[None, :] * wave[:, None],
    }
    for split, count in (("train", 64), ("validation", 32)):
        for name, pattern in patterns.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                grey = 128 + 40 * pattern + random.normal(0, 40, (SIDE, SIDE))
                pixels = np.repeat(grey[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")


def berth(home: Path, preloaded: Mapping[str, str], *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "local.cli", *words],
        env=clean | {"BERTH_HOME": str(home), **ONE_THREAD, **preloaded},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def client(home: Path, service: str) -> Any:
    key = credentials(Home(home))
    return boto3.client(
        service,
        endpoint_url=json.loads((home / "server.json").read_text())["url"],
        region_name="us-east-1",
        aws_access_key_id=key.key_id,
        aws_secret_access_key=key.secret,
    )


@pytest.fixture(scope="session")
def job(once: Callable[[str, Callable[[Path], None]], Path], preloaded: Mapping[str, str]) -> Job:
    def train(folder: Path) -> None:
        home = folder / "home"
        write_photos(folder / "photos")
        given = [f"-p{name}={value}" for name, value in HYPERPARAMETERS.items()]
        berth(home, preloaded, "up", "--executor", "process", "--port", "0")
        try:
            upload = ("data", "upload", "photos", "--bucket", "photos", "--prefix", "stripes")
            berth(home, preloaded, *upload)
            data = "s3://photos/stripes"
            berth(home, preloaded, "train", data, "--bucket", "photos", "--name", JOB, *given)
            described = client(home, "sagemaker").describe_training_job(TrainingJobName=JOB)
            bucket, _, key = (
                described["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
            )
            archive = client(home, "s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        finally:
            berth(home, preloaded, "down")
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            opened.extractall(folder / "model")  # noqa: S202

    folder = once("quantised", train)
    files = sorted((folder / "photos" / "validation").glob("*/*.png"))
    held_out = [(file.read_bytes(), file.parent.name) for file in files]
    return Job(folder / "home", folder / "model", held_out)


def asked(job: Job, invoke: Callable[[bytes], Any]) -> Probabilities:
    """An endpoint's probabilities for the held-out images, (images, classes)."""
    rows = []
    for data, _ in job.held_out:
        (prediction,) = invoke(data)["predictions"]
        found = {each["label"]: each["probability"] for each in prediction["top"]}
        rows.append([found[name] for name in job.recorded.classes])
    return np.array(rows)


def accuracy(job: Job, probabilities: Probabilities) -> float:
    labels = [job.recorded.classes.index(label) for _, label in job.held_out]
    return float((probabilities.argmax(axis=1) == labels).mean())


def check_int8(job: Job, int8: Probabilities, float32: Probabilities) -> None:
    """Check that int8 loses as much accuracy as the job recorded, up to IMAGES images."""
    if not has_instructions("int8"):
        np.testing.assert_allclose(int8, float32, atol=SAME)
        return
    recorded = job.recorded.int8
    assert recorded is not None
    assert recorded.images == len(job.held_out)
    assert accuracy(job, int8) == pytest.approx(recorded.accuracy, abs=IMAGES / recorded.images)
    assert accuracy(job, float32) == pytest.approx(
        recorded.float32_accuracy, abs=IMAGES / recorded.images
    )
    difference = float(np.abs(int8 - float32).max())
    assert difference > CHANGED, "that is float32"
    assert difference == pytest.approx(recorded.max_difference, abs=ROUNDED)
    same = float((int8.argmax(axis=1) == float32.argmax(axis=1)).mean())
    assert same == pytest.approx(recorded.same_label, abs=IMAGES / recorded.images)


def served(platform: Any, job: Job, precision: str) -> tuple[Probabilities, str]:
    """The probabilities in a precision, and the server's log."""
    with platform.serve(job.model, {"BERTH_PRECISION": precision}) as endpoint:
        endpoint.until_ready()

        def invoke(data: bytes) -> Any:
            every = {"X-Amzn-SageMaker-Custom-Attributes": "top_k=3"}
            return endpoint.invoke(data, "image/png", **every).json()

        return asked(job, invoke), endpoint.running.logs()


@pytest.mark.parametrize(
    "platform", ["process", pytest.param("slim", marks=pytest.mark.docker)], indirect=True
)
def test_int8_predictions_are_as_accurate_as_the_job_recorded(platform: Any, job: Job) -> None:
    float32, _ = served(platform, job, "float32")
    int8, log = served(platform, job, "int8")
    check_int8(job, int8, float32)
    assert "in int8" in log or not has_instructions("int8")
    fastest, log = served(platform, job, "fastest")
    (chosen,) = READY.findall(log)
    if chosen == "int8":
        np.testing.assert_allclose(fastest, int8, atol=SAME)
    elif not chosen:
        np.testing.assert_allclose(fastest, float32, atol=SAME)
    else:
        assert chosen == "bfloat16"
        recorded = job.recorded.bfloat16
        assert recorded is not None
        assert accuracy(job, fastest) == pytest.approx(
            recorded.accuracy, abs=IMAGES / recorded.images
        )


def test_deploy_with_precision_int8_serves_the_jobs_int8_model(
    job: Job, preloaded: Mapping[str, str]
) -> None:
    berth(job.home, preloaded, "up", "--executor", "process", "--port", "0")
    try:
        runtime = client(job.home, "sagemaker-runtime")
        answers = {}
        for precision in ("float32", "int8"):
            names = ("deploy", precision, "--job", JOB, "--precision", precision)
            berth(job.home, preloaded, *names)

            def invoke(data: bytes, name: str = precision) -> Any:
                answer = runtime.invoke_endpoint(
                    EndpointName=name,
                    ContentType="image/png",
                    CustomAttributes="top_k=3",
                    Body=data,
                )
                return json.loads(answer["Body"].read())

            answers[precision] = asked(job, invoke)
            berth(job.home, preloaded, "delete", precision, "--yes")
    finally:
        berth(job.home, preloaded, "down")
    check_int8(job, answers["int8"], answers["float32"])
