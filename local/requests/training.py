"""A training job's request, and what a tuning job's trials share with it.

job = TrainingJobRequest(image_uri=..., role=..., channels={"train": "s3://..."}, output="s3://...")
job.request("my-job")        # what CreateTrainingJob takes
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from container.hyperparameters import ALIASES, HyperparameterError, Hyperparameters
from local.errors import UserError
from local.requests.hosting import check_volume_key, check_vpc, tagged, vpc

METRICS = (
    "train:loss",
    "train:accuracy",
    "validation:loss",
    "validation:accuracy",
    "learning_rate",
    "test:accuracy",
    "test:top5",
)
"""What our image prints as `name=value;`, an epoch a line and once at the end."""
NUMBER = r"([-+0-9.eE]+)"
"""A finite number: a loss that is `nan` is no metric."""
IMAGE = "berth"
"""Last part of our image's repository: its hyperparameters are known and checked here."""
INTERRUPT_TAG = "berth:interrupt-after"
"""Tag by which the local SageMaker interrupts a managed spot job after so many seconds."""
DAY = 86400
MAX_RUN = 28 * DAY
"""Longest MaxRuntimeInSeconds (developer guide; the default is a day)."""
LIMIT_HYPERPARAMETERS = 100


def is_berth_image(image_uri: str) -> bool:
    """Whether the image is this project's, by its repository's name."""
    return image_uri.rpartition("/")[2].partition("@")[0].partition(":")[0] == IMAGE


def metric_definitions(metrics: Mapping[str, str]) -> list[dict[str, str]]:
    """Name and regular expression of each metric, as requests carry them."""
    return [{"Name": name, "Regex": regex} for name, regex in metrics.items()]


def berth_metrics() -> dict[str, str]:
    """The regular expressions that read our image's metric lines."""
    return {name: f"{re.escape(name)}={NUMBER};" for name in METRICS}


def canonical(name: str) -> str:
    """A hyperparameter's own name: `lr` and `learning-rate` are `learning_rate`."""
    name = name.strip().lower().replace("-", "_")
    return ALIASES.get(name, name)


def merge(*given: Mapping[str, str]) -> dict[str, str]:
    """Hyperparameters of which later ones replace earlier ones, by whatever name of theirs."""
    merged: dict[str, str] = {}
    for values in given:
        replaced = set(map(canonical, values))
        kept = {name: value for name, value in merged.items() if canonical(name) not in replaced}
        merged = kept | dict(values)
    return merged


def check_hyperparameters(given: Mapping[str, str], image_uri: str) -> None:
    """Refuse what the container would refuse, before anything is sent.

    Another image's hyperparameters are its own affair: only their number is checked.

    Raises:
        UserError: one line that names the hyperparameter, and the nearest known name.
    """
    if len(given) > LIMIT_HYPERPARAMETERS:
        raise UserError(
            f"hyperparameters: found {len(given)}, expected at most {LIMIT_HYPERPARAMETERS}"
        )
    if not is_berth_image(image_uri):
        return
    try:
        Hyperparameters.parse(given)
    except HyperparameterError as error:
        raise UserError(str(error)) from None


@dataclass(frozen=True)
class TrainingJobRequest:
    """A training job's request; a tuning job's trials share all but the searched hyperparameters.

    Attributes:
        image_uri: the image.
        role: ARN of the role the job assumes.
        channels: a channel's name to its `s3://` (or, locally, `file://`) URI.
        output: S3 prefix for `<job>/output/{model,output}.tar.gz`.
        hyperparameters: as strings.
        metrics: a metric's name to the regular expression that finds its value in a log line.
        input_mode: `File` (copied before the start) or `FastFile` (streamed).
        instance_type, instance_count: of what.
        volume_gb: size of the instances' volumes.
        max_run: seconds the job may run.
        spot: use managed spot capacity.
        max_wait: seconds to wait for spot capacity and run in all; `2 * max_run` when None.
        checkpoints: S3 prefix kept in step with /opt/ml/checkpoints; None keeps none.
        interrupt_after: rehearse a spot interruption so many seconds into the job.
        retries: how often AWS starts again after a fault of its own; None is AWS's default.
        subnets, security_groups: the VPC, both or none.
        isolated: no network for the container.
        encrypted_traffic: encrypt what the hosts send each other.
        volume_kms_key, output_kms_key: encrypt the volumes, and what is written to S3.
        debugger: members of the request that set AWS's own debugger and profiler to work.
        environment: environment variables.
        tags: on the job.
    """

    image_uri: str
    role: str
    channels: Mapping[str, str]
    output: str
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    input_mode: str = "File"
    instance_type: str = "ml.g4dn.xlarge"
    instance_count: int = 1
    volume_gb: int = 30
    max_run: int = DAY
    spot: bool = False
    max_wait: int | None = None
    checkpoints: str | None = None
    interrupt_after: int | None = None
    retries: int | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    isolated: bool = False
    encrypted_traffic: bool = False
    volume_kms_key: str | None = None
    output_kms_key: str | None = None
    debugger: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            UserError: the line names the option, what was found and what was expected.
        """
        check_hyperparameters(self.hyperparameters, self.image_uri)
        if not self.channels:
            raise UserError("channels: found none, expected images to train on")
        if not 1 <= self.max_run <= MAX_RUN:
            raise UserError(f"--max-run: found {self.max_run}, expected 1 to {MAX_RUN} seconds")
        if self.max_wait is not None and not self.spot:
            raise UserError("--max-wait: only a --spot job waits for capacity")
        if self.max_wait is not None and self.max_wait < self.max_run:
            raise UserError(
                f"--max-wait: found {self.max_wait}, expected at least --max-run ({self.max_run})"
            )
        if self.interrupt_after is not None and not self.spot:
            raise UserError("--interrupt-after: only a --spot job can be interrupted")
        check_vpc(self.subnets, self.security_groups)
        if self.volume_kms_key:
            check_volume_key(self.instance_type, "--volume-kms-key")

    def request(self, name: str) -> dict[str, Any]:
        """The CreateTrainingJob request."""
        tags = dict(self.tags)
        if self.interrupt_after is not None:
            tags[INTERRUPT_TAG] = str(self.interrupt_after)
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "HyperParameters": dict(self.hyperparameters),
        }
        request |= self.definition()
        request |= self.debugger
        if self.environment:
            request["Environment"] = dict(self.environment)
        return request | tagged(tags)

    def definition(self) -> dict[str, Any]:
        """What CreateTrainingJob and a tuning job's TrainingJobDefinition have in common."""
        stopping = {"MaxRuntimeInSeconds": self.max_run}
        if self.spot:
            stopping["MaxWaitTimeInSeconds"] = self.max_wait or 2 * self.max_run
        output = {"S3OutputPath": self.output}
        if self.output_kms_key:
            output["KmsKeyId"] = self.output_kms_key
        algorithm: dict[str, Any] = {
            "TrainingImage": self.image_uri,
            "TrainingInputMode": self.input_mode,
        }
        if self.metrics:
            algorithm["MetricDefinitions"] = metric_definitions(self.metrics)
        parts: dict[str, Any] = {
            "AlgorithmSpecification": algorithm,
            "RoleArn": self.role,
            "InputDataConfig": [_channel(name, uri) for name, uri in self.channels.items()],
            "OutputDataConfig": output,
            "ResourceConfig": self._resources(),
            "StoppingCondition": stopping,
            "EnableManagedSpotTraining": self.spot,
            "EnableNetworkIsolation": self.isolated,
            "EnableInterContainerTrafficEncryption": self.encrypted_traffic,
        }
        if self.checkpoints:
            parts["CheckpointConfig"] = {"S3Uri": self.checkpoints}
        if self.retries is not None:
            parts["RetryStrategy"] = {"MaximumRetryAttempts": self.retries}
        return parts | vpc(self.subnets, self.security_groups)

    def _resources(self) -> dict[str, Any]:
        resources: dict[str, Any] = {
            "InstanceType": self.instance_type,
            "InstanceCount": self.instance_count,
            "VolumeSizeInGB": self.volume_gb,
        }
        if self.volume_kms_key:
            resources["VolumeKmsKeyId"] = self.volume_kms_key
        return resources


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": uri,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
