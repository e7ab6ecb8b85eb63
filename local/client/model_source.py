"""The model of --job or --model-data: an artifact in S3 and the image that serves it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.errors import UserError, code

if TYPE_CHECKING:
    from local.client.target import Target


@dataclass(frozen=True)
class ModelSource:
    """An artifact and the image that serves it."""

    model_data: str
    image_uri: str


def find_model(
    target: "Target", *, job: str | None, model_data: str | None, image_uri: str | None
) -> ModelSource:
    """The model of the options; a job's artifact and image come from its description.

    Raises:
        UserError: none or two are named, or the job left no model.
    """
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
