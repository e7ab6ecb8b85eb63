"""The request of a training job, and the definition that a tuning job's trials share.

job = TrainingJobRequest(image_uri=..., role=..., channels={"train": "s3://..."}, output="s3://...")
job.request("my-job")        # the CreateTrainingJob request
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
"""Metrics that berth's image prints as `name=value;`, once per epoch and at the end."""
NUMBER = r"([-+0-9.eE]+)"
"""Matches finite numbers only, so a loss of `nan` is not a metric."""
IMAGE = "berth"
"""Repository name of berth's image, whose hyperparameters are checked here."""
INTERRUPT_TAG = "berth:interrupt-after"
"""Tag of a managed spot job: seconds after which the local SageMaker interrupts it."""
DAY = 86400
MAX_RUN = 28 * DAY
"""Largest MaxRuntimeInSeconds (developer guide; the default is a day)."""
LIMIT_HYPERPARAMETERS = 100


def is_berth_image(image_uri: str) -> bool:
    """Whether the image is berth's, by the name of its repository."""
    return image_uri.rpartition("/")[2].partition("@")[0].partition(":")[0] == IMAGE


def metric_definitions(metrics: Mapping[str, str]) -> list[dict[str, str]]:
    """The `MetricDefinitions` of regular expressions by metric name."""
    return [{"Name": name, "Regex": regex} for name, regex in metrics.items()]


def berth_metrics() -> dict[str, str]:
    """The regular expressions for the metrics of berth's image, by metric name."""
    return {name: f"{re.escape(name)}={NUMBER};" for name in METRICS}


def canonical(name: str) -> str:
    """A hyperparameter's canonical name: `learning_rate` for `lr` and `learning-rate`."""
    name = name.strip().lower().replace("-", "_")
    return ALIASES.get(name, name)


def merge(*given: Mapping[str, str]) -> dict[str, str]:
    """Merge hyperparameters; later ones override earlier ones, also under another alias."""
    merged: dict[str, str] = {}
    for values in given:
        replaced = set(map(canonical, values))
        kept = {name: value for name, value in merged.items() if canonical(name) not in replaced}
        merged = kept | dict(values)
    return merged


def check_hyperparameters(given: Mapping[str, str], image_uri: str) -> None:
    """Reject hyperparameters that the container would reject.

    For another image, only their number is checked.

    Raises:
        UserError: one is invalid; the message names it, and the most similar known name.
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
        channels: the `s3://` (locally also `file://`) URI of each channel.
        output: S3 prefix for `<job>/output/{model,output}.tar.gz`.
        hyperparameters: values as text.
        metrics: the regular expression of each metric.
        input_mode: `File` (downloaded before the start) or `FastFile` (streamed).
        instance_type: the instance type.
        instance_count: number of instances.
        volume_gb: volume size per instance.
        max_run: longest runtime in seconds.
        spot: use managed spot training.
        max_wait: longest time in seconds including waits for spot capacity; None for `2 * max_run`.
        checkpoints: S3 URI that /opt/ml/checkpoints is synced to; None for no checkpoints.
        interrupt_after: seconds after which the local SageMaker simulates a spot interruption.
        retries: retries after internal errors; None for AWS's default.
        subnets, security_groups: the VPC, both or neither.
        isolated: network isolation.
        encrypted_traffic: encrypt inter-container traffic.
        volume_kms_key, output_kms_key: KMS keys of the volumes and of the results in S3.
        debugger: request members for Amazon SageMaker Debugger.
        environment: environment variables.
        tags: tags of the job.
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
        """Reject invalid values and combinations.

        Raises:
            UserError: one is invalid; the message names the option.
        """
        check_hyperparameters(self.hyperparameters, self.image_uri)
        if not self.channels:
            raise UserError("channels: found none, expected images to train on")
        if not 1 <= self.max_run <= MAX_RUN:
            raise UserError(f"--max-run: found {self.max_run}, expected 1 to {MAX_RUN} seconds")
        if self.max_wait is not None and not self.spot:
            raise UserError("--max-wait: needs --spot, as only a spot job waits for capacity")
        if self.max_wait is not None and self.max_wait < self.max_run:
            raise UserError(
                f"--max-wait: found {self.max_wait}, expected at least --max-run ({self.max_run})"
            )
        if self.interrupt_after is not None and not self.spot:
            raise UserError("--interrupt-after: needs --spot, as only a spot job is interrupted")
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
        """The members that CreateTrainingJob and a tuning job's TrainingJobDefinition share."""
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
