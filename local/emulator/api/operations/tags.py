"""Tags of any resource."""

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
"""Tags of a page: the least `MaxResults` that ListTags accepts."""


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags in the API's shape."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _find(context: Context, request: Request) -> Record:
    arn: str = request["ResourceArn"]
    record = context.store.find(arn)
    if record is None:
        raise invalid(f'Could not find the resource with ResourceArn "{arn}".')
    return record


def _look_again(services: Services, record: Record) -> None:
    if record.kind == Kind.TRAINING_JOB:
        services.training.retag(record.name)


def add_tags(services: Services, request: Request) -> Response:
    """AddTags; a spot rehearsal may be asked for while the job runs."""
    record, store = _find(services, request), services.store
    check_tags(request)
    if record.kind == Kind.TRAINING_JOB:
        spot = record.private["request"].get("EnableManagedSpotTraining", False)
        check_rehearsal(request, spot=spot)
    tags = store.tags(record.arn) | tags_of(request)
    if len(tags) > MAX_TAGS:
        raise invalid(
            f"Tags would give {record.arn} {len(tags)} tags; expected at most {MAX_TAGS} in all."
        )
    store.tag(record.arn, tags_of(request))
    _look_again(services, record)
    return {"Tags": tag_list(store.tags(record.arn))}


def delete_tags(services: Services, request: Request) -> Response:
    """DeleteTags."""
    record = _find(services, request)
    services.store.untag(record.arn, request["TagKeys"])
    _look_again(services, record)
    return {}


def list_tags(context: Context, request: Request) -> Response:
    """ListTags."""
    tags = list(context.store.tags(_find(context, request).arn).items())
    chosen, token = page(tags, request, lambda tag: (tag[0], tag[0]), default=PAGE)
    return {"Tags": tag_list(dict(chosen)), "NextToken": token}
