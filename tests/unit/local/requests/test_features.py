from dataclasses import replace
from typing import Any

import pytest

from container.features.key import NAMES
from container.hyperparameters import Hyperparameters
from local.requests.features import (
    KEYED,
    NOT_EXTRACTED,
    extraction_job,
    features_uri,
    problem,
    required,
    with_features,
)
from local.requests.training import TrainingJobRequest
from local.requests.tuning import Range, Search

JOB = TrainingJobRequest(
    image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:latest",
    role="arn:aws:iam::123456789012:role/berth",
    channels={"train": "s3://bucket/pets/"},
    output="s3://bucket/jobs",
    hyperparameters={"arch": "resnet50", "freeze": "true"},
    metrics={"validation:accuracy": "x"},
    instance_count=2,
    spot=True,
    max_wait=200000,
    checkpoints="s3://bucket/checkpoints/search",
    environment={"LOG_LEVEL": "debug"},
    tags={"a": "b"},
)


def search(*ranges: str) -> Search:
    return Search(tuple(Range.parse(each) for each in ranges))


def given(**hyperparameters: str) -> TrainingJobRequest:
    return replace(JOB, hyperparameters={**JOB.hyperparameters, **hyperparameters})


def test_features_of_a_frozen_backbone_are_shared() -> None:
    whole = search("lr=0.001:0.1:log", "epochs=2:4", "dropout=0:0.5", "head_hidden=16,32")
    assert problem(whole, JOB) is None
    assert problem(whole, given(feature_cache="on", batch_size="8", mixup="0.2")) is None


@pytest.mark.parametrize(
    ("ranges", "fixed", "line"),
    [
        (("freeze=true,false",), {}, r"the range freeze=true,false unfreezes the backbone"),
        (("lr=0.1:1",), {"freeze": "false"}, "freeze=false trains the backbone"),
        (("image-size=64,128",), {}, "the range image-size=64,128 changes the features"),
        (("arch=resnet18,resnet50",), {}, "the range arch=resnet18,resnet50 changes"),
        (("seed=1:5",), {}, "the range seed=1:5 changes the features in each trial; fix seed"),
        (("cutmix=0:1",), {}, "cutmix needs images"),
        (("lr=0.1:1",), {"cutmix": "0.5"}, "cutmix needs images"),
        (("lr=0.1:1",), {"feature_cache": "off"}, "feature_cache=off runs the backbone"),
        (("feature_cache=on,off",), {}, "feature_cache=off runs the backbone"),
        (("lr=0.1:1",), {"debug": "true"}, "the debugger also saves"),
        (("lr=0.1:1",), {"features_only": "true"}, "features_only=true trains nothing"),
    ],
)
def test_reasons_against_sharing_are_one_line(
    ranges: tuple[str, ...], fixed: dict[str, str], line: str
) -> None:
    found = problem(search(*ranges), given(**fixed))
    assert found is not None
    assert line in found
    assert "\n" not in found


def test_another_image_and_an_existing_features_channel() -> None:
    whole = search("lr=0.1:1")
    assert "theirs:1" in str(problem(whole, replace(JOB, image_uri="host/theirs:1")))
    channels = {**JOB.channels, "features": "s3://bucket/features"}
    assert "channel features" in str(problem(whole, replace(JOB, channels=channels)))


def test_every_hyperparameter_that_features_depend_on_is_known() -> None:
    """No hyperparameter that is part of the features' cache key may be searched."""
    fields = set(Hyperparameters.model_fields)
    assert fields & set(NAMES) <= set(KEYED) <= fields
    assert set(NOT_EXTRACTED) <= fields


def test_the_job_that_computes_features() -> None:
    whole = search("lr=0.001:0.1:log", "epochs=2:10")
    job = extraction_job(whole, given(profile="true", feature_cache="on"), "ml.g5.xlarge")
    job.check()
    request = job.request("search-features")
    assert request["HyperParameters"] == {
        "arch": "resnet50",
        "freeze": "true",
        "epochs": "10",
        "features_only": "true",
    }
    assert request["ResourceConfig"]["InstanceType"] == "ml.g5.xlarge"
    assert request["ResourceConfig"]["InstanceCount"] == 1
    assert request["EnableManagedSpotTraining"] is False
    assert request["Environment"] == {"LOG_LEVEL": "debug"}
    assert "CheckpointConfig" not in request
    assert "MetricDefinitions" not in request["AlgorithmSpecification"]


def test_the_largest_number_of_epochs_sets_the_number_of_views() -> None:
    job = extraction_job(search("epochs=2,16,4"), JOB, "ml.g5.xlarge")
    assert job.hyperparameters["epochs"] == "16"
    fixed = extraction_job(search("lr=0.1:1"), given(epochs="7"), "ml.g5.xlarge")
    assert fixed.hyperparameters["epochs"] == "7"


def test_trials_receive_the_features_on_their_own_instances() -> None:
    uri = features_uri(JOB, "search-features")
    assert uri == "s3://bucket/jobs/search-features/output/model.tar.gz"
    trials = with_features(JOB, uri, "ml.c5.xlarge")
    request: dict[str, Any] = trials.request("trial")
    channels = {
        each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"]
        for each in request["InputDataConfig"]
    }
    assert channels == {"train": "s3://bucket/pets/", "features": uri}
    assert request["ResourceConfig"]["InstanceType"] == "ml.c5.xlarge"
    assert request["ResourceConfig"]["InstanceCount"] == 2


def test_trials_may_be_required_to_use_features() -> None:
    given_twice = required(given(**{"feature-cache": "auto"}))
    assert given_twice.hyperparameters == {**JOB.hyperparameters, "feature_cache": "on"}
