"""The options `train` and `tune` share: what a job runs on, with, and under which rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from local.client.inputs import find_channels
from local.client.target import Target
from local.commands.options.shared import pairs
from local.errors import UserError
from local.requests.hyperparameter_files import read_hyperparameters
from local.requests.training import DAY, TrainingJobRequest, berth_metrics, is_berth_image, merge

INSTANCES, RULES, NETWORK = "Instances", "Spot and limits", "Network and keys"

Values = Annotated[
    list[str] | None,
    typer.Option(
        "--hp",
        "-p",
        metavar="NAME=VALUE",
        help="a hyperparameter, repeatable; `python -m container.hyperparameters` lists them",
    ),
]
ValueFile = Annotated[
    Path | None,
    typer.Option("--hyperparameters", help="JSON or YAML file of hyperparameters; --hp wins"),
]
Channels = Annotated[
    list[str] | None,
    typer.Option("--channel", metavar="NAME=URI", help="a channel more, repeatable"),
]
WeightsUri = Annotated[
    str | None, typer.Option("--weights-from", help="S3 URI of pretrained weights: channel weights")
]
MetricRegexes = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", metavar="NAME=REGEX", help="a metric of another image's log, repeatable"
    ),
]


@dataclass(frozen=True)
class JobOptions:
    """The options as given; `job` makes a `TrainingJobRequest` of them."""

    hyperparameters: Mapping[str, str]
    file: Path | None
    channels: Mapping[str, str]
    weights: str | None
    metrics: Mapping[str, str]
    input_mode: str
    instance_type: str
    instance_count: int
    volume_gb: int
    max_run: int
    spot: bool
    max_wait: int | None
    checkpoints: str | None
    retries: int | None
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    isolated: bool
    encrypted_traffic: bool
    volume_kms_key: str | None
    output_kms_key: str | None
    environment: Mapping[str, str]

    def job(
        self,
        target: Target,
        name: str,
        data: str | None,
        base: Mapping[str, str],
        *,
        interrupt_after: int | None = None,
    ) -> TrainingJobRequest:
        """The job at `target`; `base` are hyperparameters that the file and --hp may replace.

        A spot job without --checkpoints keeps them under its own name, or an interruption would
        lose everything.

        Raises:
            UserError: the data or the file of hyperparameters is not there.
        """
        read = {} if self.file is None else read_hyperparameters(self.file)
        channels = {} if data is None else find_channels(target, data)
        channels |= self.channels
        if self.weights:
            channels["weights"] = self.weights
        checkpoints = self.checkpoints
        if self.spot and checkpoints is None:
            checkpoints = f"s3://{target.bucket}/checkpoints/{name}"
        return TrainingJobRequest(
            image_uri=target.image_uri,
            role=target.role,
            channels=channels,
            output=f"s3://{target.bucket}/jobs",
            hyperparameters=merge(base, read, self.hyperparameters),
            metrics=(berth_metrics() if is_berth_image(target.image_uri) else {})
            | dict(self.metrics),
            input_mode=self.input_mode,
            instance_type=self.instance_type,
            instance_count=self.instance_count,
            volume_gb=self.volume_gb,
            max_run=self.max_run,
            spot=self.spot,
            max_wait=self.max_wait,
            checkpoints=checkpoints,
            interrupt_after=interrupt_after,
            retries=self.retries,
            subnets=self.subnets,
            security_groups=self.security_groups,
            isolated=self.isolated,
            encrypted_traffic=self.encrypted_traffic,
            volume_kms_key=self.volume_kms_key,
            output_kms_key=self.output_kms_key,
            environment=self.environment,
            tags=target.tags,
        )


def job_options(
    *,
    hp: Values = None,
    hyperparameters: ValueFile = None,
    channel: Channels = None,
    weights_from: WeightsUri = None,
    metric: MetricRegexes = None,
    input_mode: Annotated[
        Literal["File", "FastFile"], typer.Option(help="copy the images first, or stream them")
    ] = "File",
    instance_type: Annotated[
        str, typer.Option(help="type of the instances", rich_help_panel=INSTANCES)
    ] = "ml.g4dn.xlarge",
    instance_count: Annotated[
        int, typer.Option(min=1, help="hosts that train together", rich_help_panel=INSTANCES)
    ] = 1,
    volume_gb: Annotated[
        int, typer.Option(min=1, help="size of a volume, GB", rich_help_panel=INSTANCES)
    ] = 30,
    max_run: Annotated[
        int, typer.Option(help="seconds a job may run", rich_help_panel=RULES)
    ] = DAY,
    spot: Annotated[
        bool, typer.Option("--spot", help="managed spot capacity", rich_help_panel=RULES)
    ] = False,
    max_wait: Annotated[
        int | None,
        typer.Option(
            help="seconds in all, waiting for spot included (default: twice --max-run)",
            rich_help_panel=RULES,
        ),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="S3 prefix of checkpoints (default with --spot: checkpoints/JOB in the bucket)",
            rich_help_panel=RULES,
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(min=1, max=30, help="starts after faults of AWS's", rich_help_panel=RULES),
    ] = None,
    subnet: Annotated[
        list[str] | None, typer.Option(help="of the VPC, repeatable", rich_help_panel=NETWORK)
    ] = None,
    security_group: Annotated[
        list[str] | None, typer.Option(help="of the VPC, repeatable", rich_help_panel=NETWORK)
    ] = None,
    network_isolation: Annotated[
        bool,
        typer.Option(
            "--network-isolation", help="no network for the container", rich_help_panel=NETWORK
        ),
    ] = False,
    encrypt_traffic: Annotated[
        bool,
        typer.Option("--encrypt-traffic", help="between the hosts", rich_help_panel=NETWORK),
    ] = False,
    volume_kms_key: Annotated[
        str | None, typer.Option(help="encrypts the volumes", rich_help_panel=NETWORK)
    ] = None,
    output_kms_key: Annotated[
        str | None, typer.Option(help="encrypts the results in S3", rich_help_panel=NETWORK)
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="an environment variable, repeatable"),
    ] = None,
) -> JobOptions:
    """The options as given."""
    for option, uri in (("--checkpoints", checkpoints), ("--weights-from", weights_from)):
        if uri is not None and not uri.startswith("s3://"):
            raise UserError(f"{option}: found {uri!r}, expected s3://bucket/prefix")
    return JobOptions(
        hyperparameters=pairs(hp or (), "--hp"),
        file=hyperparameters,
        channels=pairs(channel or (), "--channel"),
        weights=weights_from,
        metrics=pairs(metric or (), "--metric"),
        input_mode=input_mode,
        instance_type=instance_type,
        instance_count=instance_count,
        volume_gb=volume_gb,
        max_run=max_run,
        spot=spot,
        max_wait=max_wait,
        checkpoints=checkpoints,
        retries=retries,
        subnets=tuple(subnet or ()),
        security_groups=tuple(security_group or ()),
        isolated=network_isolation,
        encrypted_traffic=encrypt_traffic,
        volume_kms_key=volume_kms_key,
        output_kms_key=output_kms_key,
        environment=pairs(env or (), "--env"),
    )
