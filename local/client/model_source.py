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
    """The model of --job or --model-data; a job's description has its artifact and image.

    With `slim` the image is the matching serving image.

    Raises:
        UserError: both options are set or neither is, or the job has no model.
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
                f"--job: no such training job: {job}; list them with: "
                + target.command("jobs", "--kind", "training")
            ) from None
        raise
    artifact = described.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    status = described["TrainingJobStatus"]
    # A stopped job uploads its best model so far; a failed one has no usable model.
    if status not in ("Completed", "Stopped") or not artifact:
        raise UserError(
            f"--job: training job {job} is {status}, expected Completed with a model in S3"
        )
    return ModelSource(artifact, image_uri or described["AlgorithmSpecification"]["TrainingImage"])


def serving_image(uri: str) -> str:
    """The serving image that `berth push` pushed along with a training image.

    Raises:
        UserError: the training image is a reference by digest, so its tag is unknown.
    """
    if "@" in uri:
        raise UserError(
            f"--slim: found {uri} with a digest, expected a tag; specify the serving image with "
            "--image-uri"
        )
    path, slash, last = uri.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{path}{slash}{name}:{serving_tag(tag or 'latest')}"
