"""Validation of models, endpoint configurations and endpoints."""

from typing import Any

from local.emulator.api.validation.data import bucket_and_key, check_output, path_of
from local.emulator.api.validation.fields import check_unique, refuse_present, unsupported
from local.emulator.api.validation.tags import check_tags
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.store import Kind

SERVERLESS_MEMORY = (1024, 2048, 3072, 4096, 5120, 6144)
"""Allowed MemorySizeInMB of a serverless variant (API reference)."""

UNSUPPORTED_CONTAINER = {
    "ModelPackageName": "give Image and ModelDataUrl",
    "AdditionalModelDataSources": "put everything into the model's one archive",
    "InferenceSpecificationName": "leave it out",
}

ROUTING = ("LEAST_OUTSTANDING_REQUESTS", "RANDOM")
"""How a variant may choose the container of a request; here it is always the first of the two."""

UNSUPPORTED_CONFIG = {
    "ShadowProductionVariants": "leave it out",
    "ExplainerConfig": "leave it out",
    "CrossRegionTrafficConfig": "leave it out",
}

UNSUPPORTED_VARIANT = {
    "InstancePools": "give InstanceType and InitialInstanceCount",
    "CapacityReservationConfig": "leave it out",
    "AcceleratorPartitionLayouts": "leave it out",
    "AcceleratorType": "leave it out: Elastic Inference has ended",
    "CoreDumpConfig": "leave it out",
}


def check_model(request: dict[str, Any], context: Context) -> None:
    """Check a CreateModel request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
        ExecutorError: the executor cannot run the image, or does not answer.
    """
    check_tags(request)
    primary, containers = request.get("PrimaryContainer"), request.get("Containers", [])
    if (primary is None) == (not containers):
        found = "both" if primary else "neither"
        raise invalid(f"PrimaryContainer or Containers is expected; found {found}.")
    if len(containers) > 1:
        raise unsupported(
            f"Containers with {len(containers)} containers", "expected a single container"
        )
    container = primary or containers[0]
    refuse_present(container, UNSUPPORTED_CONTAINER, "PrimaryContainer.")
    multi_model = container.get("Mode") == "MultiModel"
    if container.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled") != "Enabled":
        raise unsupported(
            "PrimaryContainer.MultiModelConfig.ModelCacheSetting 'Disabled'", "expected Enabled"
        )
    if "Image" not in container:
        raise invalid("PrimaryContainer.Image is missing; expected an image's URI.")
    if container.get("ImageConfig", {}).get("RepositoryAccessMode") == "Vpc":
        raise unsupported(
            "PrimaryContainer.ImageConfig.RepositoryAccessMode 'Vpc'", "expected Platform"
        )
    context.executor.check_image(container["Image"])
    if multi_model:
        _check_models(container)
    _check_artifact(container, request, context, prefix=multi_model)


def _check_models(container: dict[str, Any]) -> None:
    """Check the location of a multi-model endpoint's archives."""
    field, url = "PrimaryContainer.ModelDataUrl", container.get("ModelDataUrl")
    if "ModelDataSource" in container:
        raise invalid(
            "PrimaryContainer.ModelDataSource cannot be used with Mode MultiModel; expected "
            "ModelDataUrl."
        )
    if url is None:
        raise invalid(f"{field} is missing; Mode MultiModel expects the S3 prefix of its models.")
    if not url.startswith("s3://"):
        raise invalid(f"{field} is {url}; Mode MultiModel expects s3://bucket/prefix/.")
    if url.endswith((".tar.gz", ".tgz")):
        raise invalid(
            f"{field} is {url}, an archive; Mode MultiModel expects the S3 prefix of the archives."
        )


def _check_artifact(
    container: dict[str, Any], request: dict[str, Any], context: Context, *, prefix: bool
) -> None:
    url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
    if url is not None and source is not None:
        raise invalid("PrimaryContainer has ModelDataUrl and ModelDataSource; expected one.")
    field = "PrimaryContainer.ModelDataUrl"
    if source is not None:
        field = "PrimaryContainer.ModelDataSource.S3DataSource"
        if "S3DataSource" not in source:
            raise invalid(f"{field} is missing; expected one.")
        source = source["S3DataSource"]
        refuse_present(
            source,
            {"HubAccessConfig": "leave it out", "ManifestS3Uri": "leave it out"},
            f"{field}.",
        )
        url, prefix = source["S3Uri"], source["S3DataType"] == "S3Prefix"
        if prefix and source["CompressionType"] == "Gzip":
            raise invalid(
                f"{field}: CompressionType is Gzip with S3DataType S3Prefix; expected S3Object, an "
                "archive."
            )
    if url is None:
        return
    if url.startswith("file://"):
        path_of(url, field)
        return
    bucket, key = bucket_and_key(url, field)
    found = context.objects.keys(bucket, key)
    if not found or not (prefix or any(stored.key == key for stored in found)):
        role = request.get("ExecutionRoleArn", "of the model")
        raise invalid(
            f'Could not access model data at {url}. Please ensure that the role "{role}" exists '
            'and has "s3:GetObject" permissions and that the object is located in '
            f"{context.region}. ({field}: no such object in the local S3.)"
        )


def check_endpoint_config(request: dict[str, Any], context: Context) -> None:
    """Check a CreateEndpointConfig request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    check_tags(request)
    refuse_present(request, UNSUPPORTED_CONFIG)
    variants = request["ProductionVariants"]
    check_unique("ProductionVariants", (variant["VariantName"] for variant in variants))
    for variant in variants:
        _check_variant(variant, request, context)
    if len(variants) > 1 and any("ServerlessConfig" in variant for variant in variants):
        raise invalid(
            f"ProductionVariants has {len(variants)} variants and a ServerlessConfig; expected a "
            "single variant for a serverless endpoint."
        )
    if not sum(variant.get("InitialVariantWeight", 1) for variant in variants):
        raise invalid(
            "ProductionVariants: every InitialVariantWeight is 0; expected at least one above 0."
        )
    capture = request.get("DataCaptureConfig")
    if capture is not None:
        check_output(capture["DestinationS3Uri"], "DataCaptureConfig.DestinationS3Uri", context)
    output = request.get("AsyncInferenceConfig", {}).get("OutputConfig")
    if output is not None and "S3OutputPath" not in output:
        raise invalid(
            "AsyncInferenceConfig.OutputConfig.S3OutputPath is missing; expected the S3 place of "
            "the answers, as s3://bucket/prefix."
        )
    for member in ("S3OutputPath", "S3FailurePath"):
        if output and member in output:
            check_output(output[member], f"AsyncInferenceConfig.OutputConfig.{member}", context)


def _check_variant(variant: dict[str, Any], request: dict[str, Any], context: Context) -> None:
    field = f"ProductionVariants '{variant['VariantName']}'"
    refuse_present(variant, UNSUPPORTED_VARIANT, f"{field}: ")
    routing = variant.get("RoutingConfig", {}).get("RoutingStrategy", ROUTING[0])
    if routing not in ROUTING:
        raise unsupported(
            f"{field}: RoutingConfig.RoutingStrategy '{routing}'",
            f"expected {' or '.join(ROUTING)}",
        )
    if "ModelName" not in variant:
        raise invalid(f"{field}: ModelName is missing; expected a model's name.")
    model = context.hosted(Kind.MODEL, variant["ModelName"]).body
    serverless = variant.get("ServerlessConfig")
    if is_multi_model(model):
        for member, found in (
            ("ServerlessConfig", serverless),
            ("AsyncInferenceConfig", request.get("AsyncInferenceConfig")),
        ):
            if found is not None:
                raise invalid(
                    f"{member} was given for the model {variant['ModelName']}, whose Mode is "
                    f"MultiModel ({field}); expected a real-time endpoint with instances."
                )
    if serverless is None:
        for member in ("InstanceType", "InitialInstanceCount"):
            if member not in variant:
                raise invalid(f"{field}: {member} is missing; expected it, or a ServerlessConfig.")
        return
    for member in ("InstanceType", "InitialInstanceCount"):
        if member in variant:
            raise invalid(f"{field}: {member} was given with a ServerlessConfig; expected one.")
    if serverless["MemorySizeInMB"] not in SERVERLESS_MEMORY:
        raise invalid(
            f"{field}: ServerlessConfig.MemorySizeInMB is {serverless['MemorySizeInMB']}; expected "
            f"one of {', '.join(map(str, SERVERLESS_MEMORY))}."
        )
    if serverless.get("ProvisionedConcurrency", 0) > serverless["MaxConcurrency"]:
        raise invalid(
            f"{field}: ServerlessConfig.ProvisionedConcurrency is "
            f"{serverless['ProvisionedConcurrency']}; expected at most MaxConcurrency, "
            f"{serverless['MaxConcurrency']}."
        )
    for member in ("AsyncInferenceConfig", "DataCaptureConfig", "VpcConfig"):
        if member in request:
            raise invalid(f"{member} was given for {field}, which is serverless; expected none.")


def is_multi_model(model: dict[str, Any]) -> bool:
    """Whether a model has Mode MultiModel."""
    [container] = model.get("Containers") or [model["PrimaryContainer"]]
    return bool(container.get("Mode") == "MultiModel")


def check_endpoint(request: dict[str, Any], context: Context) -> None:
    """Check a CreateEndpoint request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    check_tags(request)
    _check_config(request["EndpointConfigName"], context)


def check_endpoint_update(request: dict[str, Any], context: Context) -> None:
    """Check an UpdateEndpoint request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    if request.get("ExcludeRetainedVariantProperties") and not request.get(
        "RetainAllVariantProperties"
    ):
        raise invalid(
            "ExcludeRetainedVariantProperties was given without RetainAllVariantProperties; "
            "expected it to be true."
        )
    _check_config(request["EndpointConfigName"], context)


def check_weights(request: dict[str, Any], _context: Context) -> None:
    """Check an UpdateEndpointWeightsAndCapacities request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    changes = request["DesiredWeightsAndCapacities"]
    check_unique("DesiredWeightsAndCapacities", (change["VariantName"] for change in changes))
    for change in changes:
        refuse_present(
            change,
            {"ServerlessUpdateConfig": "make another endpoint configuration"},
            f"DesiredWeightsAndCapacities '{change['VariantName']}': ",
        )


def _check_config(name: str, context: Context) -> None:
    config = context.hosted(Kind.ENDPOINT_CONFIG, name)
    for variant in config.body["ProductionVariants"]:
        context.hosted(Kind.MODEL, variant["ModelName"])
