"""Endpoint configurations and endpoints."""

from local.emulator.api import defaults
from local.emulator.api.operations.answering import (
    Answer,
    Operation,
    Request,
    check_free,
    find,
)
from local.emulator.api.operations.listing import Listing
from local.emulator.api.operations.models import forget, keep
from local.emulator.api.validation import (
    check_endpoint,
    check_endpoint_config,
    check_endpoint_update,
    check_weights,
)
from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind

CONFIG, ENDPOINT = Kind.ENDPOINT_CONFIG, Kind.ENDPOINT


def create_config(context: Context, request: Request) -> Answer:
    """CreateEndpointConfig."""
    check_free(context, CONFIG, request["EndpointConfigName"])
    check_endpoint_config(request, context)
    arn = keep(context, CONFIG, request["EndpointConfigName"], request, "EndpointConfigArn")
    return {"EndpointConfigArn": arn}


def describe_config(context: Context, request: Request) -> Answer:
    """DescribeEndpointConfig."""
    return defaults.endpoint_config(find(context, CONFIG, request["EndpointConfigName"]).body)


def delete_config(context: Context, request: Request) -> Answer:
    """DeleteEndpointConfig."""
    forget(context, CONFIG, request["EndpointConfigName"])
    return None


def create(services: Services, request: Request) -> Answer:
    """CreateEndpoint."""
    name = request["EndpointName"]
    check_free(services, ENDPOINT, name)
    check_endpoint(request, services)
    return {"EndpointArn": services.endpoints.create(request).arn}


def describe(context: Context, request: Request) -> Answer:
    """DescribeEndpoint."""
    return defaults.endpoint(find(context, ENDPOINT, request["EndpointName"]).body)


def update(services: Services, request: Request) -> Answer:
    """UpdateEndpoint."""
    endpoint = find(services, ENDPOINT, request["EndpointName"])
    check_endpoint_update(request, services)
    services.endpoints.update(request)
    return {"EndpointArn": endpoint.arn}


def update_weights(services: Services, request: Request) -> Answer:
    """UpdateEndpointWeightsAndCapacities."""
    endpoint = find(services, ENDPOINT, request["EndpointName"])
    check_weights(request)
    services.endpoints.update_weights(request)
    return {"EndpointArn": endpoint.arn}


def delete(services: Services, request: Request) -> Answer:
    """DeleteEndpoint."""
    services.endpoints.delete(find(services, ENDPOINT, request["EndpointName"]).name)
    return None


OPERATIONS: dict[str, Operation] = {
    "CreateEndpointConfig": create_config,
    "DescribeEndpointConfig": describe_config,
    "DeleteEndpointConfig": delete_config,
    "ListEndpointConfigs": Listing(
        CONFIG,
        "EndpointConfig",
        "EndpointConfigs",
        ("EndpointConfigName", "EndpointConfigArn", "CreationTime"),
    ),
    "CreateEndpoint": create,
    "DescribeEndpoint": describe,
    "UpdateEndpoint": update,
    "UpdateEndpointWeightsAndCapacities": update_weights,
    "DeleteEndpoint": delete,
    "ListEndpoints": Listing(
        ENDPOINT,
        "Endpoint",
        "Endpoints",
        ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus"),
    ),
}
