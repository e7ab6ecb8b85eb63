from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.errors import UserError
from tests.unit.local.command_runner import Commands
from tests.unit.local.fake_logs import FakeLogs


class Job:
    """A training job with two hosts; it ends after `asked` calls of Describe."""

    def __init__(self, lives: int = 0) -> None:
        self.logs, self.lives = FakeLogs(), lives
        self.logs.streams["first/algo-1-17"] = [(n, f"line {n}") for n in range(6)]
        self.logs.streams["first/algo-2-17"] = [(9, "the other host")]

    def client(self, service: str) -> Any:
        return self.logs if service == "logs" else self

    def describe_training_job(self, *, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803
        if TrainingJobName != "first":
            raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "Describe")
        self.lives -= 1
        if self.lives == 0:
            self.logs.streams["first/algo-1-17"].append((20, "the last line"))
        status = "InProgress" if self.lives > 0 else "Completed"
        return {"TrainingJobStatus": status, "ResourceConfig": {"InstanceCount": 2}}

    def describe_hyper_parameter_tuning_job(self, **arguments: str) -> dict[str, Any]:
        if arguments["HyperParameterTuningJobName"] == "search":
            return arguments
        raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "Describe")

    def describe_transform_job(self, **_arguments: str) -> None:
        raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "Describe")

    describe_endpoint = describe_transform_job


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.client.polling.Backoff.wait", lambda *_given, **_settings: None)


def shown(monkeypatch: pytest.MonkeyPatch, job: Job, *words: str) -> list[str]:
    done = Commands(job, monkeypatch).run("logs", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout.splitlines()


ALL = [*(f"algo-1 | line {n}" for n in range(6)), "algo-2 | the other host"]


def test_all_lines_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Job(), "first") == ALL


def test_the_log_is_followed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = shown(monkeypatch, Job(lives=5), "-f", "first")
    assert followed == [*ALL, "algo-1 | the last line"]


def test_the_last_lines_are_printed_and_then_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = shown(monkeypatch, Job(lives=5), "-f", "-n", "2", "first")
    assert followed == [*ALL[-2:], "algo-1 | the last line"]


def test_only_lines_of_one_host_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Job(), "--host", "algo-2", "first") == ["the other host"]
    assert shown(monkeypatch, Job(), "-n", "1", "--host", "algo-1", "first") == ["line 5"]


def test_a_tuning_job_has_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Commands(Job(), monkeypatch).run("logs", "search")
    assert isinstance(done.exception, UserError)
    assert "a tuning job has no log" in str(done.exception)
