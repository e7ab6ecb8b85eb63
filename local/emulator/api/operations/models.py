"""Models: an image and its artifact."""

from datetime import UTC, datetime

from local.emulator.api import defaults
from local.emulator.api.operations.answering import (
    Answer,
    Operation,
    Request,
    check_free,
    find,
    taken,
)
from local.emulator.api.operations.listing import Listing
from local.emulator.api.validation import check_model
from local.emulator.api.validation.tags import tags_of
from local.emulator.context import Context
from local.emulator.store import Exists, Kind, Missing

KIND = Kind.MODEL


def create(context: Context, request: Request) -> Answer:
    """CreateModel."""
    check_free(context, KIND, request["ModelName"])
    check_model(request, context)
    return {
        "ModelArn": keep(
            context,
            KIND,
            request["ModelName"],
            request,
            "ModelArn",
        )
    }


def keep(
    context: Context,
    kind: Kind,
    name: str,
    request: Request,
    arn_member: str,
) -> str:
    """Keep what was asked for as what Describe will say, with its tags; its ARN.

    Raises:
        ServiceError: the name is taken.
    """
    arn = context.arn(kind, name)
    body = {key: value for key, value in request.items() if key != "Tags"}
    body |= {arn_member: arn, "CreationTime": datetime.now(UTC)}
    try:
        context.store.add(kind, name, arn, body)
    except Exists:
        raise taken(context, kind, name) from None
    context.store.tag(arn, tags_of(request))
    return arn


def forget(context: Context, kind: Kind, name: str) -> None:
    """Delete a model or an endpoint configuration; what uses it goes on, as on AWS.

    Raises:
        ServiceError: it is not there.
    """
    find(context, kind, name)
    try:
        context.store.delete(kind, name)
    except Missing:
        find(context, kind, name)


def describe(context: Context, request: Request) -> Answer:
    """DescribeModel."""
    return defaults.model(find(context, KIND, request["ModelName"]).body)


def delete(context: Context, request: Request) -> Answer:
    """DeleteModel."""
    forget(context, KIND, request["ModelName"])
    return None


OPERATIONS: dict[str, Operation] = {
    "CreateModel": create,
    "DescribeModel": describe,
    "DeleteModel": delete,
    "ListModels": Listing(KIND, "Model", "Models", ("ModelName", "ModelArn", "CreationTime")),
}
