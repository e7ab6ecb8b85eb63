"""Search and GetSearchSuggestions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.emulator.api.operations.resources import (
    ENDPOINT,
    MODEL,
    TRAINING_JOB,
    TUNING_JOB,
    Resource,
)
from local.emulator.api.operations.tags import tag_list
from local.emulator.api.pagination import page
from local.emulator.api.search.expression import compile_expression
from local.emulator.api.search.properties import METRICS, Property, find, suggestions
from local.emulator.api.serializer import Response
from local.emulator.api.validation.fields import refuse_present, unsupported
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.services import Services
from local.emulator.shapes.parser import Request
from local.emulator.shapes.service_model import service_model
from local.emulator.store import Kind, Record

MAX_SUGGESTIONS = 50
"""Property names in a response of GetSearchSuggestions."""

Entity = dict[str, Any]


@dataclass(frozen=True)
class Searchable:
    """A kind of resource that can be searched.

    Attributes:
        resource: the resource.
        shape: its shape in the API's `SearchRecord`.
        order: default SortBy.
    """

    resource: Resource
    shape: str
    order: str = "LastModifiedTime"


SEARCHABLE = {
    "TrainingJob": Searchable(TRAINING_JOB, "TrainingJob"),
    "HyperParameterTuningJob": Searchable(TUNING_JOB, "HyperParameterTuningJobSearchEntity"),
    "Endpoint": Searchable(ENDPOINT, "Endpoint"),
    "Model": Searchable(MODEL, "Model", "CreationTime"),
}

ENDPOINT_MEMBERS = (
    "EndpointName",
    "EndpointArn",
    "CreationTime",
    "LastModifiedTime",
    "EndpointStatus",
)
"""The members of each endpoint in a model's result."""
UNSUPPORTED = {"VisibilityConditions": "leave it out"}


def search(services: Services, request: Request) -> Response:
    """Search."""
    refuse_present(request, UNSUPPORTED)
    if request.get("CrossAccountFilterOption", "SameAccount") != "SameAccount":
        raise unsupported("CrossAccountFilterOption 'CrossAccount'", "there is one account")
    searchable = _searchable(request)
    order = find(searchable.shape, request.get("SortBy", searchable.order))
    if order.sort in ("list", "structure"):
        raise invalid(f"SortBy is '{order.name}', a {order.sort}; expected a single value.")
    found = _entities(services, searchable)
    if "SearchExpression" in request:
        matches = compile_expression(request["SearchExpression"], searchable.shape)
        found = [entity for entity in found if matches(entity)]
    descending = request.get("SortOrder", "Descending") == "Descending"
    name = f"{searchable.resource.prefix}Name"
    chosen, token = page(
        found,
        request,
        lambda entity: (_sort_value(entity, order, descending=descending), entity[name]),
        descending=descending,
    )
    return {
        "Results": [_result(services, request["Resource"], each) for each in chosen],
        "NextToken": token,
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
    }


def get_search_suggestions(services: Services, request: Request) -> Response:
    """GetSearchSuggestions: names of properties, tags, hyperparameters and metrics."""
    searchable = _searchable(request)
    hint = request.get("SuggestionQuery", {}).get("PropertyNameQuery", {}).get("PropertyNameHint")
    names = set(suggestions(searchable.shape))
    for each in _entities(services, searchable):
        names |= {f"Tags.{tag['Key']}" for tag in each["Tags"]}
        names |= {f"HyperParameters.{name}" for name in each.get("HyperParameters", {})}
        names |= {f"Metrics.{one['MetricName']}" for one in each.get(METRICS, [])}
    found = sorted(name for name in names if (hint or "").lower() in name.lower())
    return {"PropertyNameSuggestions": [{"PropertyName": name} for name in found[:MAX_SUGGESTIONS]]}


def _searchable(request: Request) -> Searchable:
    name = request["Resource"]
    if name not in SEARCHABLE:
        raise unsupported(f"Resource '{name}'", f"expected {', '.join(SEARCHABLE)}")
    return SEARCHABLE[name]


def _entities(services: Services, searchable: Searchable) -> list[Entity]:
    """The Describe response of every resource of a kind, with its tags, in the shape of Search."""
    members = service_model().shape_for(searchable.shape).members
    found = []
    for record in services.store.every(searchable.resource.kind):
        body = searchable.resource.describe(services, record)
        entity = {name: value for name, value in body.items() if name in members}
        entity.setdefault("CreationTime", record.created)
        entity["Tags"] = tag_list(services.store.tags(record.arn))
        found.append(entity)
    return found


def _sort_value(entity: Entity, order: Property, *, descending: bool) -> list[Any]:
    """The sort key of a resource; resources without the property are last in both orders."""
    values = order.values(entity)
    if not values:
        return [-1 if descending else 1, 0]
    value = values[0]
    if isinstance(value, datetime):
        value = value.timestamp()
    return _loose_key(value) if order.sort == "loose" else [0, value]


def _loose_key(value: str) -> list[Any]:
    """Sort numbers by value, before text."""
    try:
        return [0, 0, float(value.strip('"')), ""]
    except ValueError:
        return [0, 1, 0.0, value]


def _result(context: Context, name: str, entity: Entity) -> dict[str, Any]:
    if name != "Model":
        return {name: entity}
    model = entity["ModelName"]
    served = [
        {member: record.body[member] for member in ENDPOINT_MEMBERS}
        for record in context.store.every(Kind.ENDPOINT)
        if model in _models_of(context, record)
    ]
    return {"Model": {"Model": entity, "Endpoints": served}}


def _models_of(context: Context, endpoint: Record) -> set[str]:
    """The models in an endpoint's configuration, if that still exists."""
    name = endpoint.body.get("EndpointConfigName")
    for record in context.store.every(Kind.ENDPOINT_CONFIG):
        if record.name == name:
            return {each["ModelName"] for each in record.body["ProductionVariants"]}
    return set()
