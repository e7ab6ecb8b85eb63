"""Production variants, read from an endpoint configuration and its models."""

from dataclasses import dataclass, field
from typing import Any

from local.emulator.context import Context
from local.emulator.hosting.model_data import VOLUME_GB, source_of
from local.emulator.store import Kind

STARTUP = 480
"""Seconds for a container to pass the /ping health check: AWS's 8 minutes."""
SERVERLESS_STARTUP = 180
"""The same for a serverless variant."""


@dataclass(frozen=True)
class Variant:
    """A production variant; `vars(variant)` can be stored as JSON.

    Attributes:
        name: the variant's name.
        model: the model's name.
        image: the image's URI.
        environment: the model's environment variables.
        count: number of containers.
        weight: its weight, relative to the other variants' weights.
        source: the location of its model data (`model_data.source_of`).
        startup: seconds until /ping must return 200.
        volume_gb: volume size, the limit for its unpacked model data.
        isolated: whether it has network isolation.
        gpus: whether its instance type has GPUs.
        instance_type: as configured; None for a serverless variant.
        serverless: its ServerlessConfig; None for other variants.
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
        """Whether its container serves several models (TargetModel)."""
        return self.source is not None and self.source["type"] == "models"


def read_variants(context: Context, config: dict[str, Any]) -> list[Variant]:
    """Read the variants of a valid endpoint configuration.

    Raises:
        ServiceError: a model does not exist.
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
    """Create a variant from a model with one container; `rest` sets the other attributes.

    Raises:
        ServiceError: the model does not exist.
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
    """Whether an instance type has NVIDIA GPUs (families g and p)."""
    return (instance_type or "").removeprefix("ml.")[:1] in {"g", "p"}
