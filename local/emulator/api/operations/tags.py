"""AddTags, DeleteTags and ListTags."""

from local.emulator.api.pagination import page
from local.emulator.api.serializer import Response
from local.emulator.api.validation.tags import (
    MAX_TAGS,
    check_rehearsal,
    check_tags,
    tags_of,
)
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.services import Services
from local.emulator.shapes.parser import Request
from local.emulator.store import Kind, Record

PAGE = 50
"""Default page size: the smallest `MaxResults` that ListTags accepts."""


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags in the API's shape."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _find(context: Context, request: Request) -> Record:
    arn: str = request["ResourceArn"]
    record = context.store.find(arn)
    if record is None:
        raise invalid(f'Could not find the resource with ResourceArn "{arn}".')
    return record


def _apply_tags(services: Services, record: Record) -> None:
    """Let a running training job react to its new tags."""
    if record.kind == Kind.TRAINING_JOB:
        services.training.retag(record.name)


def add_tags(services: Services, request: Request) -> Response:
    """AddTags; the tag for a simulated spot interruption may be added while the job runs."""
    record, store = _find(services, request), services.store
    check_tags(request)
    if record.kind == Kind.TRAINING_JOB:
        spot = record.private["request"].get("EnableManagedSpotTraining", False)
        check_rehearsal(request, spot=spot)
    tags = store.tags(record.arn) | tags_of(request)
    if len(tags) > MAX_TAGS:
        raise invalid(f"{record.arn} would have {len(tags)} tags; expected at most {MAX_TAGS}.")
    store.tag(record.arn, tags_of(request))
    _apply_tags(services, record)
    return {"Tags": tag_list(store.tags(record.arn))}


def delete_tags(services: Services, request: Request) -> Response:
    """DeleteTags."""
    record = _find(services, request)
    services.store.untag(record.arn, request["TagKeys"])
    _apply_tags(services, record)
    return {}


def list_tags(context: Context, request: Request) -> Response:
    """ListTags."""
    tags = list(context.store.tags(_find(context, request).arn).items())
    chosen, token = page(tags, request, lambda tag: (tag[0], tag[0]), default=PAGE)
    return {"Tags": tag_list(dict(chosen)), "NextToken": token}
