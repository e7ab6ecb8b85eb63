"""The model of --job or --model-data: an artifact in S3 and the image that serves it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from local.errors import UserError, code
from local.image import serving_tag

if TYPE_CHECKING:
    from local.client.target import Target


@dataclass(frozen=True)
class ModelSource:
    """An artifact and the image that serves it."""

    model_data: str
    image_uri: str


def find_model(
    target: "Target",
    *,
    job: str | None,
    model_data: str | None,
    image_uri: str | None,
    slim: bool = False,
) -> ModelSource:
    """The model of the options; a job's artifact and image come from its description.

    With `slim`, the image is the one that `serving_image` names.

    Raises:
        UserError: none or two are named, or the job left no model.
    """
    if slim:
        if image_uri:
            raise UserError("--slim: found --image-uri as well, expected one of them")
        trained = find_model(target, job=job, model_data=model_data, image_uri=None)
        return replace(trained, image_uri=serving_image(trained.image_uri))
    if (job is None) == (model_data is None):
        found = "both" if job else "neither"
        raise UserError(f"--job and --model-data: found {found}, expected one of them")
    if model_data is not None:
        return ModelSource(model_data, image_uri or target.image_uri)
    try:
        described = target.client("sagemaker").describe_training_job(TrainingJobName=job)
    except Exception as error:
        if code(error) in ("ResourceNotFound", "ValidationException"):
            raise UserError(
                f"--job: there is no training job {job}; see them with: "
                + target.command("jobs", "--kind", "training")
            ) from None
        raise
    artifact = described.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    status = described["TrainingJobStatus"]
    # A stopped job leaves the best model it had; one that failed leaves none to rely on.
    if status not in ("Completed", "Stopped") or not artifact:
        raise UserError(
            f"--job: training job {job} is {status}, expected Completed with a model in S3"
        )
    return ModelSource(artifact, image_uri or described["AlgorithmSpecification"]["TrainingImage"])


def serving_image(uri: str) -> str:
    """The image that serves only, beside one that trains: `berth push` pushes both.

    Raises:
        UserError: the image that trains is named by digest, which tells no tag.
    """
    if "@" in uri:
        raise UserError(
            f"--slim: found {uri}, named by digest, expected a tag; name the other image with "
            "--image-uri"
        )
    path, slash, last = uri.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{path}{slash}{name}:{serving_tag(tag or 'latest')}"
