"""A production variant: what to run, from an endpoint configuration and its model."""

from dataclasses import dataclass, field
from typing import Any

from local.emulator.context import Context
from local.emulator.errors import ServiceError, invalid
from local.emulator.hosting.model_data import VOLUME_GB, BadModelData, source_of
from local.emulator.store import Kind, Missing

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


def read_variants(context: Context, config: dict[str, Any]) -> list[Variant]:
    """The variants of an endpoint configuration, as DescribeEndpointConfig shows it.

    Raises:
        ServiceError: a model is missing, or needs what the local SageMaker cannot run.
    """
    name = config["EndpointConfigName"]
    for feature in ("ShadowProductionVariants", "ExplainerConfig"):
        if config.get(feature):
            raise invalid(f"Endpoint configuration {name}: {feature} cannot be run locally")
    return [
        _read_variant(context, one, bool(config.get("EnableNetworkIsolation")))
        for one in config["ProductionVariants"]
    ]


def _read_variant(context: Context, variant: dict[str, Any], isolated: bool) -> Variant:
    name = variant["VariantName"]
    if not variant.get("ModelName"):
        raise invalid(
            f"Variant {name} has no ModelName: inference components cannot be run locally"
        )
    serverless = variant.get("ServerlessConfig")
    instance_type = variant.get("InstanceType")
    return read_model(
        context,
        variant["ModelName"],
        name=name,
        count=1 if serverless else variant.get("InitialInstanceCount", 1),
        weight=float(variant.get("InitialVariantWeight", 1.0)),
        startup=variant.get(
            "ContainerStartupHealthCheckTimeoutInSeconds",
            SERVERLESS_STARTUP if serverless else STARTUP,
        ),
        volume_gb=variant.get("VolumeSizeInGB", VOLUME_GB),
        isolated=isolated,
        instance_type=instance_type,
        serverless=serverless,
    )


def read_model(context: Context, model: str, *, isolated: bool = False, **rest: Any) -> Variant:
    """What is run of a model, with a variant's own values.

    Raises:
        ServiceError: the model is missing, or needs what the local SageMaker cannot run.
    """
    container, model_isolated = _container_of(context, model)
    try:
        source = source_of(container)
    except BadModelData as error:
        raise invalid(f"Model {model}: {error}") from None
    return Variant(
        model=model,
        image=container["Image"],
        environment=dict(container.get("Environment", {})),
        source=source,
        isolated=isolated or model_isolated,
        gpus=has_gpus(rest.get("instance_type")),
        **rest,
    )


def has_gpus(instance_type: str | None) -> bool:
    """Whether an instance type has NVIDIA GPUs: the families g and p."""
    return (instance_type or "").removeprefix("ml.")[:1] in {"g", "p"}


def _container_of(context: Context, model: str) -> tuple[dict[str, Any], bool]:
    """A model's one container definition, and whether it is isolated from the network."""
    try:
        body = context.store.get(Kind.MODEL, model).body
    except Missing:
        raise _no_model(context, model) from None
    containers = body.get("Containers") or [body["PrimaryContainer"]]
    if len(containers) > 1:
        raise invalid(
            f"Model {model} has {len(containers)} containers: pipelines of several containers "
            "cannot be run locally; expected one"
        )
    container = containers[0]
    if container.get("Mode") == "MultiModel":
        raise invalid(f"Model {model}: Mode MultiModel cannot be run locally")
    if "Image" not in container:
        raise invalid(f"Model {model} has no Image: model packages cannot be run locally")
    if container.get("AdditionalModelDataSources"):
        raise invalid(f"Model {model}: AdditionalModelDataSources cannot be run locally")
    return container, bool(body.get("EnableNetworkIsolation"))


def _no_model(context: Context, model: str) -> ServiceError:
    return invalid(f'Could not find model "{context.arn(Kind.MODEL, model)}".')
