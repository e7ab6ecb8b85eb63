"""Training jobs in real containers: a network of hosts, network isolation, and file ownership."""

import os

import pytest

from tests.training_requests import channel
from tests.unit.local.emulator.fakes import BUCKET
from tests.unit.local.emulator.training_harness import TrainingHarness, request

pytestmark = [
    pytest.mark.docker,
    pytest.mark.parametrize("toy_executor", ["docker"], indirect=True),
]


def test_two_isolated_hosts_train_and_are_removed(harness: TrainingHarness) -> None:
    harness.objects.add("data/a", "1")
    harness.objects.add("data/b", "22")
    body = harness.run(
        InputDataConfig=[
            channel("train", "s3://bucket/data", S3DataDistributionType="ShardedByS3Key")
        ],
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2},
        EnableNetworkIsolation=True,
        CheckpointConfig={"S3Uri": "s3://bucket/saved"},
    )
    assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    lines = harness.logs.lines()
    assert "toy: job job on algo-1" in lines
    assert "toy: job job on algo-2" in lines
    assert sorted(line for line in lines if "input" in line) == [
        "toy: input train/a 1 bytes",
        "toy: input train/b 2 bytes",
    ]
    assert harness.objects.read(BUCKET, "saved/epoch.txt") == b"2"
    folder = harness.context.home.job("training-job", "job")
    assert {path.stat().st_uid for path in folder.rglob("*")} == {os.getuid()}
    assert harness.context.executor.reap() == []


def test_jobs_share_the_warm_pool_cache(harness: TrainingHarness) -> None:
    for name in ("one", "two"):
        body = harness.run(TrainingJobName=name, HyperParameters={"epochs": "1", "keep": name})
        assert body["TrainingJobStatus"] == "Completed", body.get("FailureReason")
    assert "toy: kept ['one']" in harness.logs.lines()
    kept = list(harness.context.home.warm_pool_cache.iterdir())
    assert sorted(path.name for path in kept) == ["one", "two"]
    assert {path.stat().st_uid for path in kept} == {os.getuid()}
    assert not list(harness.context.home.path.glob("jobs/*/*/*/sagemaker"))


def test_two_failing_hosts_are_removed(harness: TrainingHarness) -> None:
    body = harness.run(
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2},
        HyperParameters={"fail": "no such class: cat"},
    )
    assert body["FailureReason"] == "AlgorithmError: no such class: cat, exit code: 1"
    assert harness.context.executor.reap() == []


def test_a_command_missing_from_the_image_fails_the_job(harness: TrainingHarness) -> None:
    algorithm = {**request()["AlgorithmSpecification"], "ContainerEntrypoint": ["no-such-command"]}
    body = harness.run(AlgorithmSpecification=algorithm)
    assert body["TrainingJobStatus"] == "Failed"
    assert body["FailureReason"].startswith("ClientError: the container cannot be started: ")
    assert "no-such-command" in body["FailureReason"]
    assert harness.context.executor.reap() == []


def test_an_interrupted_job_resumes_in_another_container(harness: TrainingHarness) -> None:
    harness.jobs.create(request(hyperparameters={"epochs": "8", "seconds": "0.3"}))
    harness.wait_for_metrics(1)
    harness.jobs.shutdown()
    assert harness.body()["SecondaryStatus"] == "Interrupted"
    again = harness.restart()
    assert again.wait()["TrainingJobStatus"] == "Completed"
    assert any(line.startswith("toy: resuming after epoch") for line in again.logs.lines())
    again.context.store.close()
