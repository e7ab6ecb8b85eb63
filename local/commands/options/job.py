"""The options of a training job, for `train`, `fit` and `tune`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import typer

from local.client.image_platform import check_platform
from local.client.inputs import find_channels
from local.client.target import Target
from local.commands.options.shared import pairs
from local.errors import UserError
from local.requests.features import CPU_INSTANCE, GPU_INSTANCE
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
    typer.Option("--channel", metavar="NAME=URI", help="an additional channel, repeatable"),
]
WeightsUri = Annotated[
    str | None,
    typer.Option("--weights-from", help="S3 URI of pretrained weights, for the channel weights"),
]
MetricRegexes = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", metavar="NAME=REGEX", help="a metric to read from the log, repeatable"
    ),
]


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The parsed options; `job` builds a `TrainingJobRequest` from them.

    Raises:
        UserError: --checkpoints or --weights-from is not an S3 URI.
    """

    hp: Values = None
    hyperparameters: ValueFile = None
    channel: Channels = None
    weights_from: WeightsUri = None
    metric: MetricRegexes = None
    input_mode: Annotated[
        Literal["File", "FastFile"], typer.Option(help="copy the images first, or stream them")
    ] = "File"
    instance_type: Annotated[
        str | None,
        typer.Option(
            help=f"instance type (default: {GPU_INSTANCE}; {CPU_INSTANCE} for trials on features)",
            rich_help_panel=INSTANCES,
        ),
    ] = None
    instance_count: Annotated[
        int, typer.Option(min=1, help="number of instances", rich_help_panel=INSTANCES)
    ] = 1
    volume_gb: Annotated[
        int, typer.Option(min=1, help="volume size in GB", rich_help_panel=INSTANCES)
    ] = 30
    max_run: Annotated[
        int, typer.Option(help="longest runtime in seconds", rich_help_panel=RULES)
    ] = DAY
    spot: Annotated[
        bool, typer.Option("--spot", help="managed spot training", rich_help_panel=RULES)
    ] = False
    max_wait: Annotated[
        int | None,
        typer.Option(
            help="longest time in seconds including waits for spot capacity (default: twice "
            "--max-run)",
            rich_help_panel=RULES,
        ),
    ] = None
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="S3 URI for checkpoints (default with --spot: checkpoints/JOB in the bucket)",
            rich_help_panel=RULES,
        ),
    ] = None
    retries: Annotated[
        int | None,
        typer.Option(min=1, max=30, help="retries after internal errors", rich_help_panel=RULES),
    ] = None
    subnet: Annotated[
        list[str] | None, typer.Option(help="VPC subnet, repeatable", rich_help_panel=NETWORK)
    ] = None
    security_group: Annotated[
        list[str] | None,
        typer.Option(help="VPC security group, repeatable", rich_help_panel=NETWORK),
    ] = None
    network_isolation: Annotated[
        bool,
        typer.Option(
            "--network-isolation", help="no network for the container", rich_help_panel=NETWORK
        ),
    ] = False
    encrypt_traffic: Annotated[
        bool,
        typer.Option(
            "--encrypt-traffic", help="encrypt inter-container traffic", rich_help_panel=NETWORK
        ),
    ] = False
    volume_kms_key: Annotated[
        str | None, typer.Option(help="KMS key of the volumes", rich_help_panel=NETWORK)
    ] = None
    output_kms_key: Annotated[
        str | None, typer.Option(help="KMS key of the results in S3", rich_help_panel=NETWORK)
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="an environment variable, repeatable"),
    ] = None

    def __post_init__(self) -> None:
        """Reject values that are not S3 URIs."""
        given = (("--checkpoints", self.checkpoints), ("--weights-from", self.weights_from))
        for option, uri in given:
            if uri is not None and not uri.startswith("s3://"):
                raise UserError(f"{option}: found {uri!r}, expected s3://bucket/prefix")

    @cached_property
    def given(self) -> dict[str, str]:
        """The hyperparameters from --hp."""
        return pairs(self.hp or (), "--hp")

    @cached_property
    def channels(self) -> dict[str, str]:
        """The channels from --channel."""
        return pairs(self.channel or (), "--channel")

    def about(self, data: str | None) -> str:
        """The training data, for the job's name: `data`, or else the first channel.

        Raises:
            UserError: there is neither.
        """
        if data is None and not self.channels:
            raise UserError(
                "data: found none, expected s3://bucket/prefix or a folder (or --channel)"
            )
        return data or next(iter(self.channels.values()))

    def job(
        self,
        target: Target,
        name: str,
        data: str | None,
        base: Mapping[str, str],
        *,
        interrupt_after: int | None = None,
    ) -> TrainingJobRequest:
        """The request for `target`; the hyperparameter file and --hp override `base`.

        A spot job without --checkpoints gets an S3 prefix under its own name, because an
        interruption would otherwise lose everything.

        Raises:
            UserError: the data or the hyperparameter file does not exist, or the instances cannot
                run the image.
        """
        instance_type = self.instance_type or GPU_INSTANCE
        check_platform(target, target.image_uri, [instance_type])
        from_file = (
            {} if self.hyperparameters is None else read_hyperparameters(self.hyperparameters)
        )
        channels = {} if data is None else find_channels(target, data)
        channels |= self.channels
        if self.weights_from:
            channels["weights"] = self.weights_from
        checkpoints = self.checkpoints
        if self.spot and checkpoints is None:
            checkpoints = f"s3://{target.bucket}/checkpoints/{name}"
        return TrainingJobRequest(
            image_uri=target.image_uri,
            role=target.role,
            channels=channels,
            output=f"s3://{target.bucket}/jobs",
            hyperparameters=merge(base, from_file, self.given),
            metrics=(berth_metrics() if is_berth_image(target.image_uri) else {})
            | pairs(self.metric or (), "--metric"),
            input_mode=self.input_mode,
            instance_type=instance_type,
            instance_count=self.instance_count,
            volume_gb=self.volume_gb,
            max_run=self.max_run,
            spot=self.spot,
            max_wait=self.max_wait,
            checkpoints=checkpoints,
            interrupt_after=interrupt_after,
            retries=self.retries,
            subnets=tuple(self.subnet or ()),
            security_groups=tuple(self.security_group or ()),
            isolated=self.network_isolation,
            encrypted_traffic=self.encrypt_traffic,
            volume_kms_key=self.volume_kms_key,
            output_kms_key=self.output_kms_key,
            environment=pairs(self.env or (), "--env"),
            tags=target.tags,
        )
