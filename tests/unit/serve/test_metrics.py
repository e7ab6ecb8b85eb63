import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flask import request
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from serve.metrics import Metrics, ModelDescription
from serve.records import RECORD, InvocationRecord
from tests.unit.serve.artifacts import CLASSES, picture

MODEL = ModelDescription("", "resnet18", 'OpenVINO "on" 2\nCPU cores', 3)
TWO_WORKERS = """
import os
import threading
from pathlib import Path
from serve.metrics import Metrics, ModelDescription
from serve.records import InvocationRecord

def count(times, waiting):
    metrics = Metrics(lambda: [ModelDescription("", "resnet18", "GPU", 3)], lambda: waiting)
    for _ in range(times):
        metrics.observe(InvocationRecord(images=2, decode=0.003), 200, 0.5)
    return metrics

child = os.fork()
if child == 0:
    count(3, 5)
    os._exit(0)
os.waitpid(child, 0)
metrics = count(4, 6)
# A third worker has made its file, and not yet filled it.
empty = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], "counter_999999999.db")
empty.touch()
threading.Timer(0.2, empty.write_bytes, (bytes(65536),)).start()
print(metrics.text().decode())
"""


def samples(text: bytes | str) -> dict[str, float]:
    """Return every sample by its name and labels, as read by Prometheus' own parser."""
    text = text.decode() if isinstance(text, bytes) else text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = (f" {name}={value}" for name, value in sorted(sample.labels.items()))
            found[sample.name + "".join(labels)] = sample.value
    return found


def test_invocations_are_counted_by_status_and_timed_by_stage() -> None:
    metrics = Metrics(lambda: [MODEL], lambda: 7)
    made = InvocationRecord(received=1000, images=4, decode=0.003, compute=0.04)
    made.waited_for_engine(0.2)
    metrics.observe(made, 200, 0.3)
    metrics.observe(InvocationRecord(received=10, images=9), 400, 0.001)
    found = samples(metrics.text())
    assert found["berth_invocations_total status=200"] == 1
    assert found["berth_invocations_total status=400"] == 1
    assert found["berth_images_total"] == 4, "those that were predicted"
    assert found["berth_received_bytes_total"] == 1010
    assert found["berth_queue_images"] == 7
    assert found["berth_invocation_seconds_count"] == 2
    assert found["berth_invocation_seconds_sum"] == pytest.approx(0.301)
    for stage, seconds in (("decode", 0.003), ("queue", 0.2), ("compute", 0.04)):
        assert found[f"berth_stage_seconds_count stage={stage}"] == 1
        assert found[f"berth_stage_seconds_sum stage={stage}"] == pytest.approx(seconds)
    assert found["berth_stage_seconds_bucket le=0.0025 stage=decode"] == 0
    assert found["berth_stage_seconds_bucket le=0.005 stage=decode"] == 1
    (model,) = (name for name in found if name.startswith("berth_model_info"))
    assert model == f"berth_model_info arch=resnet18 classes=3 engine={MODEL.engine} model="


def test_an_unloaded_model_is_no_longer_listed() -> None:
    models = [MODEL]
    metrics = Metrics(lambda: models, lambda: 0)
    assert b"berth_model_info{" in metrics.text()
    models.clear()
    assert b"berth_model_info{" not in metrics.text()


def test_the_server_shows_its_model(client: FlaskClient) -> None:
    assert client.post("/invocations", data=picture(), content_type="image/png").status_code == 200
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=0.0.4")
    (line,) = re.findall(r"^berth_model_info\{.*", response.text, re.MULTILINE)
    assert f'classes="{len(CLASSES)}"' in line
    assert 'arch="resnet18"' in line
    assert client.post("/metrics").status_code == 405


def test_an_invocation_records_the_time_of_each_stage(client: FlaskClient) -> None:
    with client:
        client.post("/invocations", data=picture(), content_type="image/png")
        made = request.environ[RECORD]
    assert isinstance(made, InvocationRecord)
    assert (made.received, made.images) == (len(picture()), 1)
    assert made.decode > 0
    assert made.compute > 0
    assert made.queue >= 0
    with client:
        client.post("/invocations", data=b"junk", content_type="image/png")
        assert request.environ[RECORD].received == 4


def test_metrics_of_several_workers_are_added_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_WORKERS],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = samples(done.stdout)
    assert found["berth_invocations_total status=200"] == 7
    assert found["berth_images_total"] == 14
    assert found["berth_stage_seconds_count stage=decode"] == 7
    assert found["berth_queue_images"] == 11
    assert sum(value for name, value in found.items() if name.startswith("berth_model_info")) == 1
