"""Search and GetSearchSuggestions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.emulator.api.operations import endpoints, models, training, tuning
from local.emulator.api.operations.answering import Answer, Operation, Request
from local.emulator.api.pagination import Key, page
from local.emulator.api.search.expression import compile_expression
from local.emulator.api.search.properties import METRICS, Property, find, suggestions
from local.emulator.api.service_model import service_model
from local.emulator.api.validation.fields import refuse_present, unsupported
from local.emulator.context import Context
from local.emulator.errors import ServiceError, invalid
from local.emulator.services import Services
from local.emulator.store import Kind, Record

MOST_SUGGESTIONS = 50
"""Property names an answer of GetSearchSuggestions has at most here."""

Entity = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A kind of resource that can be searched.

    Attributes:
        kind: in the store.
        shape: of what is searched.
        describe: answers the Describe operation, with `member` as its only parameter.
        member: the name's.
        order: what results are sorted by unless the request says.
    """

    kind: Kind
    shape: str
    describe: Operation
    member: str
    order: str = "LastModifiedTime"


RESOURCES = {
    "TrainingJob": Resource(Kind.TRAINING_JOB, "TrainingJob", training.describe, "TrainingJobName"),
    "HyperParameterTuningJob": Resource(
        Kind.TUNING_JOB,
        "HyperParameterTuningJobSearchEntity",
        tuning.describe,
        "HyperParameterTuningJobName",
    ),
    "Endpoint": Resource(Kind.ENDPOINT, "Endpoint", endpoints.describe, "EndpointName"),
    "Model": Resource(Kind.MODEL, "Model", models.describe, "ModelName", "CreationTime"),
}

NOT_HERE = {"VisibilityConditions": "leave it out"}


def search(services: Services, request: Request) -> Answer:
    """Search."""
    refuse_present(request, NOT_HERE)
    if request.get("CrossAccountFilterOption", "SameAccount") != "SameAccount":
        raise unsupported("CrossAccountFilterOption 'CrossAccount'", "there is one account")
    resource = _resource(request)
    order = find(resource.shape, _plain_name(request.get("SortBy", resource.order), resource))
    if order.sort in ("list", "structure"):
        raise invalid(f"SortBy is '{order.name}', a {order.sort}; expected a single value.")
    wanted: Callable[[Entity], bool] = bool
    if "SearchExpression" in request:
        expression = _plain(request["SearchExpression"], resource)
        wanted = compile_expression(expression, resource.shape)
    found = [each for each in _entities(services, resource) if wanted(each)]
    descending = request.get("SortOrder", "Descending") == "Descending"
    chosen, token = page(
        found,
        request,
        lambda each: _key(each, order, resource, descending=descending),
        descending=descending,
    )
    return {
        "Results": [_result(services, request["Resource"], each) for each in chosen],
        "NextToken": token,
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
    }


def suggest(services: Services, request: Request) -> Answer:
    """GetSearchSuggestions: names of properties, tags, hyperparameters and metrics."""
    resource = _resource(request)
    hint = request.get("SuggestionQuery", {}).get("PropertyNameQuery", {}).get("PropertyNameHint")
    names = set(suggestions(resource.shape))
    for each in _entities(services, resource):
        names |= {f"Tags.{tag['Key']}" for tag in each["Tags"]}
        names |= {f"HyperParameters.{name}" for name in each.get("HyperParameters", {})}
        names |= {f"Metrics.{one['MetricName']}" for one in each.get(METRICS, [])}
    found = sorted(name for name in names if (hint or "").lower() in name.lower())
    return {
        "PropertyNameSuggestions": [{"PropertyName": name} for name in found[:MOST_SUGGESTIONS]]
    }


def _resource(request: Request) -> Resource:
    name = request["Resource"]
    if name not in RESOURCES:
        raise unsupported(f"Resource '{name}'", f"expected {', '.join(RESOURCES)}")
    return RESOURCES[name]


def _plain_name(name: str, resource: Resource) -> str:
    """A property's name; a model's may be given as the dashboard's, `Model.ModelName`."""
    return name.removeprefix("Model.") if resource.kind is Kind.MODEL else name


def _plain(expression: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """The expression with plain names of properties."""

    def filters(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**each, "Name": _plain_name(each["Name"], resource)} for each in given]

    if resource.kind is not Kind.MODEL:
        return expression
    found = {**expression}
    if "Filters" in found:
        found["Filters"] = filters(found["Filters"])
    if "NestedFilters" in found:
        found["NestedFilters"] = [
            {
                "NestedPropertyName": _plain_name(each["NestedPropertyName"], resource),
                "Filters": filters(each["Filters"]),
            }
            for each in found["NestedFilters"]
        ]
    if "SubExpressions" in found:
        found["SubExpressions"] = [_plain(each, resource) for each in found["SubExpressions"]]
    return found


def _entities(services: Services, resource: Resource) -> list[Entity]:
    """What Describe says of every resource of a kind, with its tags, in the shape of Search."""
    members = service_model().shape_for(resource.shape).members
    found = []
    for record in services.store.every(resource.kind):
        try:
            body = resource.describe(services, {resource.member: record.name}) or {}
        except ServiceError:  # deleted meanwhile
            continue
        entity = {name: value for name, value in body.items() if name in members}
        entity.setdefault("CreationTime", record.created)
        entity["Tags"] = _tags(services, record)
        found.append(entity)
    return found


def _tags(context: Context, record: Record) -> list[dict[str, str]]:
    return [{"Key": k, "Value": v} for k, v in context.store.tags(record.arn).items()]


def _key(entity: Entity, order: Property, resource: Resource, *, descending: bool) -> Key:
    """What a resource is ordered by; one without the property comes last either way."""
    values = order.values(entity)
    if not values:
        return [-1 if descending else 1, 0], entity[resource.member]
    value = values[0]
    if isinstance(value, datetime):
        value = value.timestamp()
    if order.sort == "loose":
        return _loose_key(value), entity[resource.member]
    return [0, value], entity[resource.member]


def _loose_key(value: str) -> list[Any]:
    """Numbers by their size, before text."""
    try:
        return [0, 0, float(value.strip('"')), ""]
    except ValueError:
        return [0, 1, 0.0, value]


def _result(context: Context, name: str, entity: Entity) -> dict[str, Any]:
    if name != "Model":
        return {name: entity}
    model = entity["ModelName"]
    served = [
        {
            member: record.body[member]
            for member in ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime")
        }
        | {"EndpointStatus": record.body["EndpointStatus"]}
        for record in context.store.every(Kind.ENDPOINT)
        if model in _models_of(context, record)
    ]
    return {"Model": {"Model": entity, "Endpoints": served}}


def _models_of(context: Context, endpoint: Record) -> set[str]:
    """The models of the endpoint configuration an endpoint runs, if that is still there."""
    name = endpoint.body.get("EndpointConfigName")
    for record in context.store.every(Kind.ENDPOINT_CONFIG):
        if record.name == name:
            return {each["ModelName"] for each in record.body["ProductionVariants"]}
    return set()


OPERATIONS: dict[str, Operation] = {"Search": search, "GetSearchSuggestions": suggest}
