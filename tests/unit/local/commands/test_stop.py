from typing import Any

import pytest

from tests.unit.local.command_runner import Commands


class Running:
    """SageMaker with one running training job, and a finished tuning job of the same name."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    def client(self, service: str) -> "Running":
        assert service == "sagemaker"
        return self

    def describe_training_job(self, **arguments: str) -> dict[str, Any]:
        return {"TrainingJobStatus": "InProgress"} | arguments

    def describe_hyper_parameter_tuning_job(self, **arguments: str) -> dict[str, Any]:
        return {"HyperParameterTuningJobStatus": "Completed"} | arguments

    def describe_transform_job(self, **_arguments: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "DescribeTransformJob")

    def stop_training_job(self, *, TrainingJobName: str) -> None:  # noqa: N803
        self.stopped.append(TrainingJobName)


def test_a_running_job_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Running()
    done = Commands(target, monkeypatch).run("stop", "first", "second")
    assert done.exit_code == 0, (done.output, done.exception)
    assert target.stopped == ["first", "second"]
    assert done.stdout.splitlines() == [
        "training job first: stopping",
        "training job second: stopping",
    ]
