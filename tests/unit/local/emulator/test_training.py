"""Training jobs, from CreateTrainingJob to what S3 holds in the end."""

from pathlib import Path

import pytest

from local.emulator.executors import Executor
from tests.unit.local.emulator.parts import build

toy = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@toy
def test_a_job_runs_from_its_request_to_its_archives(
    toy_executor: Executor, tmp_path: Path
) -> None:
    shop = build(tmp_path, toy_executor)
    body = shop.run()
    assert body["TrainingJobStatus"] == body["SecondaryStatus"] == "Completed"
    assert shop.statuses() == [
        "Starting",
        "Pending",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert shop.objects.names() == ["out/job/output/model.tar.gz", "out/job/output/output.tar.gz"]
    assert body["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model.tar.gz"}
    assert [(one["MetricName"], one["Value"]) for one in body["FinalMetricDataList"]] == [
        ("score", 0.833333)
    ]
    assert shop.logs.lines()[0] == "toy: job job on algo-1"
