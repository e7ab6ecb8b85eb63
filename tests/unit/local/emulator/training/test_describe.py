"""The response of DescribeTrainingJob."""

from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore import validate

from local.emulator.training.describe import end, enter, model_location, new_body, seconds_in
from local.s3_location import BadLocation
from tests.unit.local.emulator.training_harness import request

START = datetime(2026, 1, 1, tzinfo=UTC)
ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def body(*statuses: str, **changes: Any) -> dict[str, Any]:
    """Return a body that entered each status ten seconds after the previous one."""
    made = new_body(request(**changes), ARN, None, START)
    for number, status in enumerate(statuses, start=1):
        enter(made, status, at(10 * number))
    return made


def test_the_response_has_the_apis_shape() -> None:
    made = body("Pending", "Downloading", "Training", "Uploading")
    end(made, "Failed", "Failed", at(50), "AlgorithmError: no, exit code: 1")
    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.shape_for("DescribeTrainingJobResponse")
    assert validate.ParamValidator().validate(made, shape).generate_report() == ""
    assert set(made) <= set(shape.members)


def test_a_transition_ends_when_the_next_begins() -> None:
    first, second = body("Pending")["SecondaryStatusTransitions"]
    assert first["EndTime"] == second["StartTime"] == at(10)
    assert "EndTime" not in second


def test_entering_the_same_status_again_only_changes_its_message() -> None:
    made = body("Pending")
    enter(made, "Pending", at(20), "Preparing the instances for training")
    last = made["SecondaryStatusTransitions"][-1]
    assert last == {
        "Status": "Pending",
        "StartTime": at(10),
        "StatusMessage": "Preparing the instances for training",
    }


def test_stopping_is_both_a_primary_and_a_secondary_status() -> None:
    made = body("Pending", "Stopping")
    assert (made["TrainingJobStatus"], made["SecondaryStatus"]) == ("Stopping", "Stopping")


def test_training_time_starts_with_the_download() -> None:
    made = body("Pending", "Downloading", "Training", "Uploading")
    end(made, "Completed", "Completed", at(50.5))
    assert made["TrainingStartTime"] == at(20)
    assert made["TrainingEndTime"] == at(50.5)
    assert made["TrainingTimeInSeconds"] == made["BillableTimeInSeconds"] == 31


def test_time_without_an_instance_is_not_billed() -> None:
    made = body("Pending", "Downloading", "Training", "Interrupted", "Starting", "Downloading")
    end(made, "Completed", "Completed", at(80))
    assert made["TrainingTimeInSeconds"] == 60
    assert made["BillableTimeInSeconds"] == 40


def test_a_job_that_never_started_has_no_training_time() -> None:
    made = body("Pending", "Stopping")
    end(made, "Stopped", "Stopped", at(30))
    assert "TrainingStartTime" not in made
    assert "BillableTimeInSeconds" not in made


def test_time_in_a_status_adds_up_over_its_visits() -> None:
    made = body("Training", "Interrupted", "Training")
    assert seconds_in(made, "Training", at(35)) == 15
    assert seconds_in(made, "Uploading", at(35)) == 0


def test_a_failure_reason_is_truncated_to_the_apis_limit() -> None:
    made = body("Pending")
    end(made, "Failed", "Failed", at(20), "x" * 2000)
    assert len(made["FailureReason"]) == 1024


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ({"S3OutputPath": "s3://bucket"}, "s3://bucket/job/output/model.tar.gz"),
        ({"S3OutputPath": "s3://bucket/a/"}, "s3://bucket/a/job/output/model.tar.gz"),
        (
            {"S3OutputPath": "s3://bucket/a", "CompressionType": "GZIP"},
            "s3://bucket/a/job/output/model.tar.gz",
        ),
        (
            {"S3OutputPath": "s3://bucket/a", "CompressionType": "NONE"},
            "s3://bucket/a/job/output/model/",
        ),
    ],
)
def test_the_location_of_the_model(output: dict[str, str], place: str) -> None:
    assert str(model_location(request(OutputDataConfig=output))) == place


def test_an_output_path_elsewhere_is_refused() -> None:
    with pytest.raises(BadLocation, match="expected s3://bucket/prefix"):
        model_location(request(OutputDataConfig={"S3OutputPath": "/tmp/out"}))


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (None, "Disabled"),
        ({"DisableProfiler": True}, "Disabled"),
        ({"S3OutputPath": "s3://bucket/p"}, "Enabled"),
    ],
)
def test_the_profiler_is_enabled_if_requested(config: dict[str, Any] | None, status: str) -> None:
    assert body(ProfilerConfig=config)["ProfilingStatus"] == status
