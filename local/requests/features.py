"""Tuning jobs whose trials train on features that one training job computes for all of them.

extraction = extraction_job(search, job, "ml.g4dn.xlarge")
extraction.request("my-search-features")          # the CreateTrainingJob request
trials = with_features(job, features_uri(job, "my-search-features"), "ml.c5.xlarge")
"""

from collections.abc import Mapping
from dataclasses import replace

from container.hyperparameters import Hyperparameters
from local.requests.training import TrainingJobRequest, canonical, is_berth_image
from local.requests.tuning import Range, Search

CHANNEL = "features"
"""The trials' channel for the features."""
SUFFIX = "-features"
"""Suffix of the extraction job's name."""
GPU_INSTANCE = "ml.g4dn.xlarge"
"""Default instance type for training, and for computing features."""
CPU_INSTANCE = "ml.c5.xlarge"
"""Default instance type for trials that train on features."""
NO_FEATURES = "hyperparameter 'features_only': found true, but"
"""Start of the failure reason of an extraction job whose network has no features to share."""
KEYED = (
    "arch",
    "weights",
    "stem",
    "image_size",
    "augment",
    "augment_views",
    "seed",
    "validation_split",
    "on_bad_image",
)
"""Hyperparameters that features depend on: those of `container/features/key.py` and the split."""
NOT_EXTRACTED = ("profile", "profile_interval", "profile_steps", "feature_cache")
"""Hyperparameters of the trials that do not apply to the extraction job."""


def problem(search: Search, job: TrainingJobRequest) -> str | None:
    """One line on why the trials cannot share features; None if they can.

    Args:
        search: a search that has passed its check.
        job: the definition that the trials share.
    """
    if not is_berth_image(job.image_uri):
        return f"the image {job.image_uri} is not a berth image"
    if CHANNEL in job.channels:
        return f"there already is a channel {CHANNEL}"
    ranged = {canonical(each.name): each for each in search.ranges}
    fixed = Hyperparameters.parse(job.hyperparameters)
    if "freeze" in ranged:
        return f"the range {_shown(ranged['freeze'])} unfreezes the backbone; fix freeze=true"
    if not fixed.freeze:
        return "freeze=false trains the backbone in every trial; expected freeze=true"
    for name in KEYED:
        if name in ranged:
            return (
                f"the range {_shown(ranged[name])} changes the features in each trial; fix {name}"
            )
    if "cutmix" in ranged or fixed.cutmix:
        return "cutmix needs images, not features; expected cutmix=0"
    if "feature_cache" in ranged or fixed.feature_cache == "off":
        return "feature_cache=off runs the backbone in every trial; expected auto or on"
    if fixed.debug or "debug" in ranged:
        return "the debugger also saves the backbone's tensors; expected no debug"
    if fixed.features_only:
        return "features_only=true trains nothing"
    return None


def is_frozen(job: TrainingJobRequest) -> bool:
    """Whether the trials' shared definition freezes the backbone, in a berth image."""
    return is_berth_image(job.image_uri) and Hyperparameters.parse(job.hyperparameters).freeze


def extraction_job(search: Search, job: TrainingJobRequest, instance: str) -> TrainingJobRequest:
    """The training job that computes the features for all trials and saves them as its model.

    It has no checkpoints to resume from, so it does not run on spot capacity.

    Args:
        search: the search; its largest number of epochs determines the number of augmented views.
        job: the definition that the trials share.
        instance: the instance type; there is one instance.
    """
    values = {
        name: value
        for name, value in job.hyperparameters.items()
        if canonical(name) not in NOT_EXTRACTED
    }
    for each in search.ranges:
        if canonical(each.name) == "epochs":
            values["epochs"] = max(each.extremes, key=float)
    return replace(
        job,
        hyperparameters=values | {"features_only": "true"},
        metrics={},
        instance_type=instance,
        instance_count=1,
        spot=False,
        max_wait=None,
        checkpoints=None,
        debugger={},
    )


def features_uri(job: TrainingJobRequest, name: str) -> str:
    """The S3 URI of the features that the extraction job `name` writes."""
    return f"{job.output.rstrip('/')}/{name}/output/model.tar.gz"


def with_features(job: TrainingJobRequest, uri: str, instance: str) -> TrainingJobRequest:
    """The trials' shared definition with the channel for features, on another instance type."""
    channels: Mapping[str, str] = {**job.channels, CHANNEL: uri}
    return replace(job, channels=channels, instance_type=instance)


def required(job: TrainingJobRequest) -> TrainingJobRequest:
    """The trials' shared definition with feature_cache=on: a trial that cannot use it fails."""
    kept = {
        name: value
        for name, value in job.hyperparameters.items()
        if canonical(name) != "feature_cache"
    }
    return replace(job, hyperparameters=kept | {"feature_cache": "on"})


def _shown(each: Range) -> str:
    text = ",".join(each.values) if each.values else f"{each.low}:{each.high}"
    return f"{each.name}={text}"
