from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind

Refused = Callable[..., str]
ARN = "arn:aws:sagemaker:us-east-1:123456789012"
VARIANT = "ProductionVariants.0"
SERVERLESS = {
    f"{VARIANT}.InstanceType": ...,
    f"{VARIANT}.InitialInstanceCount": ...,
    f"{VARIANT}.ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
}


def error(client: Any, method: str, **request: Any) -> dict[str, str]:
    with pytest.raises(client.exceptions.ClientError) as caught:
        getattr(client, method)(**request)
    found: dict[str, str] = caught.value.response["Error"]
    return found


def test_a_model_is_created_described_and_deleted(client: Any, valid: Any) -> None:
    request = valid("create_model", Tags=[{"Key": "a", "Value": "b"}])
    arn = client.create_model(**request)["ModelArn"]
    assert arn == f"{ARN}:model/model"
    described = client.describe_model(ModelName="model")
    assert described["PrimaryContainer"].items() >= request["PrimaryContainer"].items()
    assert described["EnableNetworkIsolation"] is False
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    client.delete_model(ModelName="model")
    for method in ("describe_model", "delete_model"):
        assert error(client, method, ModelName="model") == {
            "Code": "ValidationException",
            "Message": f'Could not find model "{ARN}:model/model".',
        }


def test_an_endpoint_is_created_updated_and_deleted(
    served: Any, context: Services, valid: Any
) -> None:
    described = served.describe_endpoint_config(EndpointConfigName="config")
    assert described["ProductionVariants"][0]["InitialVariantWeight"] == 1
    assert served.describe_endpoint(EndpointName="endpoint")["EndpointStatus"] == "InService"
    served.create_endpoint_config(**valid("create_endpoint_config", EndpointConfigName="new"))
    served.update_endpoint(EndpointName="endpoint", EndpointConfigName="new")
    served.update_endpoint_weights_and_capacities(
        EndpointName="endpoint",
        DesiredWeightsAndCapacities=[{"VariantName": "all", "DesiredWeight": 2}],
    )
    runner: Any = context.endpoints
    assert [request["EndpointName"] for request in runner.updated] == ["endpoint"] * 2
    # As on AWS, an endpoint's configuration and model may be deleted while it is in service.
    served.delete_model(ModelName="model")
    served.delete_endpoint_config(EndpointConfigName="config")
    served.delete_endpoint(EndpointName="endpoint")
    config, endpoint = f"{ARN}:endpoint-config/config", f"{ARN}:endpoint/endpoint"
    for method in ("describe_endpoint_config", "delete_endpoint_config"):
        refusal = error(served, method, EndpointConfigName="config")
        assert refusal["Message"] == f'Could not find endpoint configuration "{config}".'
    for method in ("describe_endpoint", "delete_endpoint"):
        refusal = error(served, method, EndpointName="endpoint")
        assert refusal["Message"] == f'Could not find endpoint "{endpoint}".'
        assert refusal["Code"] == "ValidationException"
    for method, more in (
        ("update_endpoint", {"EndpointConfigName": "new"}),
        (
            "update_endpoint_weights_and_capacities",
            {"DesiredWeightsAndCapacities": [{"VariantName": "all"}]},
        ),
    ):
        refusal = error(served, method, EndpointName="endpoint", **more)
        assert refusal["Message"] == f'Could not find endpoint "{endpoint}".'


@pytest.mark.parametrize(
    ("method", "what", "arn"),
    [
        ("create_model", "model", "model/model"),
        ("create_endpoint_config", "endpoint configuration", "endpoint-config/config"),
        ("create_endpoint", "endpoint", "endpoint/endpoint"),
    ],
)
def test_a_name_can_be_used_once(
    served: Any, refused: Refused, method: str, what: str, arn: str
) -> None:
    assert refused(method) == f'Cannot create already existing {what} "{ARN}:{arn}".'


CONTAINER = "PrimaryContainer"
SOURCE = {
    f"{CONTAINER}.ModelDataUrl": ...,
    f"{CONTAINER}.ModelDataSource": {
        "S3DataSource": {
            "S3Uri": "s3://data/model/",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
    },
}

MANY = {f"{CONTAINER}.Mode": "MultiModel", f"{CONTAINER}.ModelDataUrl": "s3://data/model/"}
"""What makes a model that of a multi-model endpoint."""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ModelName": "a_b"}, "at 'modelName' failed to satisfy constraint"),
        ({CONTAINER: ...}, "PrimaryContainer or Containers is expected; found neither"),
        ({"Containers": [{"Image": "x"}]}, "found both"),
        (
            {CONTAINER: ..., "Containers": [{"Image": "x"}] * 2},
            "with 2 containers is not supported",
        ),
        ({f"{CONTAINER}.Image": ...}, "PrimaryContainer.Image is missing"),
        ({f"{CONTAINER}.Image": "no:where"}, "the image no:where is not on this machine"),
        (
            {f"{CONTAINER}.Mode": "MultiModel"},
            "ModelDataUrl is s3://data/model/model.tar.gz, an archive; Mode MultiModel expects",
        ),
        (MANY | {f"{CONTAINER}.ModelDataUrl": ...}, "ModelDataUrl is missing; Mode MultiModel"),
        (MANY | {f"{CONTAINER}.ModelDataUrl": "file:///x"}, "Mode MultiModel expects s3://"),
        (
            MANY | {f"{CONTAINER}.ModelDataUrl": "s3://data/none/"},
            "Could not access model data at s3://data/none/",
        ),
        (SOURCE | {f"{CONTAINER}.Mode": "MultiModel"}, "ModelDataSource cannot be used with Mode"),
        (
            MANY | {f"{CONTAINER}.MultiModelConfig": {"ModelCacheSetting": "Disabled"}},
            "ModelCacheSetting 'Disabled' is not supported",
        ),
        ({f"{CONTAINER}.ModelPackageName": "p"}, "ModelPackageName is not supported"),
        (
            {f"{CONTAINER}.ImageConfig": {"RepositoryAccessMode": "Vpc"}},
            "RepositoryAccessMode 'Vpc' is not supported",
        ),
        (
            {f"{CONTAINER}.ModelDataUrl": "s3://data/model/none.tar.gz"},
            "Could not access model data at s3://data/model/none.tar.gz. Please ensure that the "
            'role "arn:aws:iam::123456789012:role/berth" exists',
        ),
        ({f"{CONTAINER}.ModelDataUrl": "s3://data/model/mod"}, "no such object"),
        ({f"{CONTAINER}.ModelDataUrl": "s3://gone/x"}, "no such object"),
        ({f"{CONTAINER}.ModelDataUrl": "file:///no/such.tar.gz"}, "no such file or folder"),
        (
            {f"{CONTAINER}.ModelDataSource": SOURCE[f"{CONTAINER}.ModelDataSource"]},
            "has ModelDataUrl and ModelDataSource; expected one",
        ),
        (
            {**SOURCE, f"{CONTAINER}.ModelDataSource.S3DataSource.S3Uri": "s3://data/none/"},
            "Could not access model data at s3://data/none/",
        ),
        ({**SOURCE, f"{CONTAINER}.ModelDataSource": {}}, "S3DataSource is missing"),
        (
            {**SOURCE, f"{CONTAINER}.ModelDataSource.S3DataSource.CompressionType": "Gzip"},
            "CompressionType is Gzip with S3DataType S3Prefix; expected S3Object",
        ),
        ({"Tags": [{"Key": "aws:x", "Value": ""}]}, "without the prefix aws:"),
    ],
)
def test_models_that_are_refused(
    refused: Refused, context: Context, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused("create_model", changes)
    assert context.store.every(Kind.MODEL) == []


def test_allowed_locations_of_model_data(client: Any, valid: Any, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    archive.touch()
    changes: list[dict[str, Any]] = [
        SOURCE,
        {f"{CONTAINER}.ModelDataUrl": archive.as_uri()},
        {f"{CONTAINER}.ModelDataUrl": ...},
        MANY,
        {CONTAINER: ..., "Containers": [valid("create_model")[CONTAINER]]},
    ]
    for number, change in enumerate(changes):
        client.create_model(**valid("create_model", change, ModelName=f"model-{number}"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({f"{VARIANT}.ModelName": "none"}, f'Could not find model "{ARN}:model/none".'),
        ({f"{VARIANT}.ModelName": ...}, "ProductionVariants 'all': ModelName is missing"),
        ({f"{VARIANT}.InstanceType": ...}, "InstanceType is missing"),
        ({f"{VARIANT}.InitialInstanceCount": ...}, "InitialInstanceCount is missing"),
        ({f"{VARIANT}.InitialVariantWeight": 0}, "every InitialVariantWeight is 0"),
        ({f"{VARIANT}.InitialVariantWeight": -1}, "greater than or equal to 0"),
        (
            {**SERVERLESS, f"{VARIANT}.ServerlessConfig.MemorySizeInMB": 1500},
            "MemorySizeInMB is 1500; expected one of 1024, 2048",
        ),
        (
            {**SERVERLESS, f"{VARIANT}.ServerlessConfig.ProvisionedConcurrency": 6},
            "ProvisionedConcurrency is 6; expected at most MaxConcurrency, 5",
        ),
        (
            {**SERVERLESS, f"{VARIANT}.InstanceType": "ml.m5.large"},
            "InstanceType was given with a ServerlessConfig",
        ),
        (
            {
                **SERVERLESS,
                "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://out/a"}},
            },
            "AsyncInferenceConfig was given for ProductionVariants",
        ),
        (
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://gone/a"}}},
            "AsyncInferenceConfig.OutputConfig.S3OutputPath is 's3://gone/a'",
        ),
        (
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 100,
                    "DestinationS3Uri": "s3://gone/a",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "DataCaptureConfig.DestinationS3Uri is 's3://gone/a'",
        ),
        (
            {
                "ExplainerConfig": {
                    "ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {}}}
                }
            },
            "ExplainerConfig is not supported",
        ),
        (
            {f"{VARIANT}.InstancePools": [{"InstanceType": "ml.m5.large", "Priority": 1}]},
            "InstancePools is not supported",
        ),
        (
            {f"{VARIANT}.AcceleratorType": "ml.eia2.medium"},
            "ProductionVariants 'all': AcceleratorType is not supported",
        ),
        (
            {f"{VARIANT}.RoutingConfig": {"RoutingStrategy": "PREFIX_AWARE"}},
            "RoutingStrategy 'PREFIX_AWARE' is not supported",
        ),
        (
            {"AsyncInferenceConfig": {"OutputConfig": {}}},
            "AsyncInferenceConfig.OutputConfig.S3OutputPath is missing",
        ),
    ],
)
def test_configurations_that_are_refused(
    client: Any, refused: Refused, valid: Any, changes: dict[str, Any], expected: str
) -> None:
    client.create_model(**valid("create_model"))
    assert expected in refused("create_endpoint_config", changes)


def test_several_variants(client: Any, refused: Refused, valid: Any) -> None:
    client.create_model(**valid("create_model"))
    variant = valid("create_endpoint_config")["ProductionVariants"][0]
    both = [variant, {**variant, "VariantName": "other", "InitialVariantWeight": 0}]
    message = refused("create_endpoint_config", ProductionVariants=[variant, variant])
    assert message == "ProductionVariants has 'all' more than once; expected unique names."
    client.create_endpoint_config(**valid("create_endpoint_config", ProductionVariants=both))
    serverless = valid("create_endpoint_config", SERVERLESS)["ProductionVariants"]
    message = refused(
        "create_endpoint_config",
        ProductionVariants=[*serverless, both[1]],
        EndpointConfigName="other",
    )
    assert "expected a single variant for a serverless endpoint" in message
    message = refused(
        "create_endpoint_config", ShadowProductionVariants=[both[1]], EndpointConfigName="other"
    )
    assert "ShadowProductionVariants is not supported" in message
    client.create_endpoint_config(
        **valid("create_endpoint_config", {**SERVERLESS, "EndpointConfigName": "small"})
    )


def test_endpoints_that_are_refused(served: Any, refused: Refused) -> None:
    more = {"EndpointName": "other"}
    message = refused("create_endpoint", more, EndpointConfigName="none")
    assert message == f'Could not find endpoint configuration "{ARN}:endpoint-config/none".'
    refusal = error(served, "update_endpoint", EndpointName="endpoint", EndpointConfigName="none")
    assert "endpoint-config/none" in refusal["Message"]
    refusal = error(
        served,
        "update_endpoint",
        EndpointName="endpoint",
        EndpointConfigName="config",
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    assert "without RetainAllVariantProperties" in refusal["Message"]
    change = {"VariantName": "all"}
    refusal = error(
        served,
        "update_endpoint_weights_and_capacities",
        EndpointName="endpoint",
        DesiredWeightsAndCapacities=[change, change],
    )
    assert "'all' more than once" in refusal["Message"]
    served.delete_model(ModelName="model")
    assert refused("create_endpoint", more) == f'Could not find model "{ARN}:model/model".'


@pytest.mark.parametrize(
    "changes",
    [
        {**SERVERLESS},
        {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://out/a"}}},
    ],
)
def test_multi_model_containers_need_a_real_time_endpoint_on_instances(
    client: Any, valid: Any, changes: dict[str, Any]
) -> None:
    client.create_model(**valid("create_model", MANY))
    config = valid("create_endpoint_config", changes)
    with pytest.raises(client.exceptions.ClientError, match="whose Mode is MultiModel"):
        client.create_endpoint_config(**config)
    client.create_endpoint_config(**valid("create_endpoint_config"))
