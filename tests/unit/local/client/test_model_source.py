from typing import Any

import pytest

from local.client.model_source import ModelSource, find_model, serving_image
from local.client.target import Target
from local.errors import UserError

DATA = "s3://bucket/job/output/model.tar.gz"


class Told(Target):
    """A target with a given training job."""

    def client(self, *_: Any, **__: Any) -> Any:
        return self

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803
        status, _, data = TrainingJobName.partition("-")
        return {
            "TrainingJobStatus": status,
            "ModelArtifacts": {"S3ModelArtifacts": data} if data else {},
            "AlgorithmSpecification": {"TrainingImage": "trained-with"},
        }


PLACE = Told("local", "http://127.0.0.1:9", "us-east-1", "1", "", "", "berth:latest")


def test_a_jobs_artifact_and_image() -> None:
    found = find_model(PLACE, job=f"Completed-{DATA}", model_data=None, image_uri=None)
    assert found == ModelSource(DATA, "trained-with")
    found = find_model(PLACE, job=f"Stopped-{DATA}", model_data=None, image_uri="mine")
    assert found == ModelSource(DATA, "mine")


def test_an_artifact_by_its_uri() -> None:
    found = find_model(PLACE, job=None, model_data=DATA, image_uri=None)
    assert found == ModelSource(DATA, "berth:latest")


def test_slim_chooses_the_serving_image() -> None:
    found = find_model(PLACE, job=None, model_data=DATA, image_uri=None, slim=True)
    assert found == ModelSource(DATA, "berth:serve")
    with pytest.raises(UserError, match="--slim: found --image-uri as well"):
        find_model(PLACE, job=None, model_data=DATA, image_uri="mine", slim=True)


@pytest.mark.parametrize(
    ("trains", "serves"),
    [
        ("berth", "berth:serve"),
        ("berth:latest", "berth:serve"),
        ("berth:v1", "berth:v1-serve"),
        ("localhost:5000/team/berth", "localhost:5000/team/berth:serve"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com/berth:v1", None),
    ],
)
def test_the_serving_image_has_the_training_images_name(trains: str, serves: str | None) -> None:
    assert serving_image(trains) == (serves or f"{trains}-serve")


def test_slim_refuses_an_image_named_by_digest() -> None:
    with pytest.raises(UserError, match=r"--slim: found berth@sha256:1 .*--image-uri"):
        serving_image("berth@sha256:1")


@pytest.mark.parametrize("job", [f"Failed-{DATA}", f"InProgress-{DATA}", "Completed"])
def test_a_job_without_a_model_is_refused(job: str) -> None:
    with pytest.raises(UserError, match="expected Completed with a model in S3"):
        find_model(PLACE, job=job, model_data=None, image_uri=None)


def test_either_a_job_or_model_data_is_required() -> None:
    with pytest.raises(UserError, match="found neither"):
        find_model(PLACE, job=None, model_data=None, image_uri=None)
    with pytest.raises(UserError, match="found both"):
        find_model(PLACE, job="j", model_data=DATA, image_uri=None)


def test_a_missing_job(moto_target: Target) -> None:
    with pytest.raises(
        UserError, match="--job: no such training job: nobody; list them with: berth jobs"
    ):
        find_model(moto_target, job="nobody", model_data=None, image_uri=None)
