"""A production variant: what to run, from an endpoint configuration and its model."""

from dataclasses import dataclass, field
from typing import Any

from local.emulator.context import Context
from local.emulator.hosting.model_data import VOLUME_GB, source_of
from local.emulator.store import Kind

STARTUP = 480
"""Seconds a container may take to answer /ping: AWS's 8 minutes."""
SERVERLESS_STARTUP = 180
"""The same of a serverless one."""


@dataclass(frozen=True)
class Variant:
    """What is run of one variant. Plain values: `vars(variant)` can be kept as JSON.

    Attributes:
        name: the variant's name.
        model: its model's name.
        image: the image's URI.
        environment: the model's environment.
        count: how many containers.
        weight: its share of the traffic, against the other variants' weights.
        source: where its model data lies (`model_data.source_of`).
        startup: seconds until /ping must answer.
        volume_gb: what its model may unpack to.
        isolated: its model has network isolation.
        gpus: its instance type has GPUs.
        instance_type: as configured; None for a serverless variant.
        serverless: its ServerlessConfig.
    """

    name: str
    model: str
    image: str
    environment: dict[str, str] = field(default_factory=dict)
    count: int = 1
    weight: float = 1.0
    source: dict[str, str] | None = None
    startup: float = STARTUP
    volume_gb: int = VOLUME_GB
    isolated: bool = False
    gpus: bool = False
    instance_type: str | None = None
    serverless: dict[str, int] | None = None

    @property
    def multi_model(self) -> bool:
        """Whether requests name one of several models."""
        return self.source is not None and self.source["type"] == "models"


def read_variants(context: Context, config: dict[str, Any]) -> list[Variant]:
    """The variants of an endpoint configuration, which was checked when it was made.

    Raises:
        ServiceError: a model is missing.
    """
    isolated = bool(config.get("EnableNetworkIsolation"))
    return [_read_variant(context, one, isolated) for one in config["ProductionVariants"]]


def _read_variant(context: Context, variant: dict[str, Any], isolated: bool) -> Variant:
    serverless = variant.get("ServerlessConfig")
    return read_model(
        context,
        variant["ModelName"],
        name=variant["VariantName"],
        count=1 if serverless else variant.get("InitialInstanceCount", 1),
        weight=float(variant.get("InitialVariantWeight", 1.0)),
        startup=variant.get(
            "ContainerStartupHealthCheckTimeoutInSeconds",
            SERVERLESS_STARTUP if serverless else STARTUP,
        ),
        volume_gb=variant.get("VolumeSizeInGB", VOLUME_GB),
        isolated=isolated,
        instance_type=variant.get("InstanceType"),
        serverless=serverless,
    )


def read_model(context: Context, model: str, *, isolated: bool = False, **rest: Any) -> Variant:
    """What is run of a model, which has one container, with a variant's own values.

    Raises:
        ServiceError: the model is missing.
    """
    body = context.hosted(Kind.MODEL, model).body
    [container] = body.get("Containers") or [body["PrimaryContainer"]]
    return Variant(
        model=model,
        image=container["Image"],
        environment=dict(container.get("Environment", {})),
        source=source_of(container),
        isolated=isolated or bool(body.get("EnableNetworkIsolation")),
        gpus=has_gpus(rest.get("instance_type")),
        **rest,
    )


def has_gpus(instance_type: str | None) -> bool:
    """Whether an instance type has NVIDIA GPUs: the families g and p."""
    return (instance_type or "").removeprefix("ml.")[:1] in {"g", "p"}
