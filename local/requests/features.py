"""A search whose trials train on features that one job computes for all of them.

extraction = extraction_job(search, job, "ml.g4dn.xlarge")
extraction.request("my-search-features")          # what CreateTrainingJob takes
trials = with_features(job, features_uri(job, "my-search-features"))
"""

from collections.abc import Mapping
from dataclasses import replace

from container.hyperparameters import Hyperparameters
from local.requests.training import TrainingJobRequest, canonical, is_berth_image
from local.requests.tuning import Range, Search

CHANNEL = "features"
"""The trials' channel with the features."""
SUFFIX = "-features"
"""What the name of the job that computes them ends with."""
GPU_INSTANCE = "ml.g4dn.xlarge"
CPU_INSTANCE = "ml.c5.xlarge"
"""What computes features, and what trains heads on them, by default."""
NO_FEATURES = "hyperparameter 'features_only': found true, but"
"""How the reason begins with which a job ends whose network has no features to share."""
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
"""Hyperparameters that features depend on: `container/features/key.py` and the split."""
NOT_EXTRACTED = ("profile", "profile_interval", "profile_steps", "feature_cache")
"""Hyperparameters of the trials that a job without training has no use for."""


def problem(search: Search, job: TrainingJobRequest) -> str | None:
    """Why the trials cannot share features, in a line; None where they can.

    Args:
        search: checked already.
        job: what the trials share.
    """
    if not is_berth_image(job.image_uri):
        return f"the image {job.image_uri} is not this project's"
    if CHANNEL in job.channels:
        return f"a channel {CHANNEL} is given already"
    ranged = {canonical(each.name): each for each in search.ranges}
    fixed = Hyperparameters.parse(job.hyperparameters)
    if "freeze" in ranged:
        return f"the range {_shown(ranged['freeze'])} unfreezes the backbone; fix freeze=true"
    if not fixed.freeze:
        return "freeze=false trains the backbone in every trial; expected freeze=true"
    for name in KEYED:
        if name in ranged:
            return (
                f"the range {_shown(ranged[name])} gives trials features of their own; fix {name}"
            )
    if "cutmix" in ranged or fixed.cutmix:
        return "cutmix cuts images, which features no longer are; expected cutmix=0"
    if "feature_cache" in ranged or fixed.feature_cache == "off":
        return "feature_cache=off trains through the backbone; expected auto or on"
    if fixed.debug or "debug" in ranged:
        return "the debugger keeps the backbone's tensors too; expected no debug"
    if fixed.features_only:
        return "features_only=true trains nothing"
    return None


def is_frozen(job: TrainingJobRequest) -> bool:
    """Whether what the trials share freezes the backbone of a network of this project's."""
    return is_berth_image(job.image_uri) and Hyperparameters.parse(job.hyperparameters).freeze


def extraction_job(search: Search, job: TrainingJobRequest, instance: str) -> TrainingJobRequest:
    """The job that computes the features of all trials and leaves them as its model.

    It is on demand and without checkpoints: what an interruption would lose is computed again.

    Args:
        search: whose trials they are; the most epochs need the most augmented views.
        job: what the trials share.
        instance: the type of the one instance.
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
    """Where the extraction job of that name leaves the features."""
    return f"{job.output.rstrip('/')}/{name}/output/model.tar.gz"


def with_features(job: TrainingJobRequest, uri: str, instance: str) -> TrainingJobRequest:
    """What the trials share, with the channel of the features, on another type of instance."""
    channels: Mapping[str, str] = {**job.channels, CHANNEL: uri}
    return replace(job, channels=channels, instance_type=instance)


def required(job: TrainingJobRequest) -> TrainingJobRequest:
    """What the trials share, so that one that cannot train on features fails and says why."""
    kept = {
        name: value
        for name, value in job.hyperparameters.items()
        if canonical(name) != "feature_cache"
    }
    return replace(job, hyperparameters=kept | {"feature_cache": "on"})


def _shown(each: Range) -> str:
    text = ",".join(each.values) if each.values else f"{each.low}:{each.high}"
    return f"{each.name}={text}"
