"""Tags of any resource."""

from local.emulator.api.operations.answering import Answer, Operation, Request
from local.emulator.api.pagination import page
from local.emulator.api.validation.tags import MOST_TAGS, check_tags, tags_of
from local.emulator.context import Context
from local.emulator.errors import invalid

PAGE = 50
"""Tags of a page: the least MaxResults of ListTags may ask for."""


def _existing(context: Context, request: Request) -> str:
    arn: str = request["ResourceArn"]
    if context.store.find(arn) is None:
        raise invalid(f'Could not find the resource with ResourceArn "{arn}".')
    return arn


def add(context: Context, request: Request) -> Answer:
    """AddTags."""
    arn = _existing(context, request)
    check_tags(request)
    together = context.store.tags(arn) | tags_of(request)
    if len(together) > MOST_TAGS:
        raise invalid(
            f"Tags would give {arn} {len(together)} tags; expected at most {MOST_TAGS} in all."
        )
    context.store.tag(arn, tags_of(request))
    return {"Tags": [{"Key": k, "Value": v} for k, v in context.store.tags(arn).items()]}


def remove(context: Context, request: Request) -> Answer:
    """DeleteTags."""
    context.store.untag(_existing(context, request), request["TagKeys"])
    return {}


def list_tags(context: Context, request: Request) -> Answer:
    """ListTags."""
    tags = list(context.store.tags(_existing(context, request)).items())
    chosen, token = page(tags, request, lambda tag: (tag[0], tag[0]), default=PAGE)
    return {"Tags": [{"Key": k, "Value": v} for k, v in chosen], "NextToken": token}


OPERATIONS: dict[str, Operation] = {
    "AddTags": add,
    "DeleteTags": remove,
    "ListTags": list_tags,
}
