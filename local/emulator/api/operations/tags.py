"""Tags of any resource."""

from local.emulator.api.pagination import page
from local.emulator.api.parser import Request
from local.emulator.api.serializer import Response
from local.emulator.api.validation.tags import MAX_TAGS, check_tags, tags_of
from local.emulator.context import Context
from local.emulator.errors import invalid

PAGE = 50
"""Tags of a page: the least `MaxResults` that ListTags accepts."""


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags in the API's shape."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _find(context: Context, request: Request) -> str:
    arn: str = request["ResourceArn"]
    if context.store.find(arn) is None:
        raise invalid(f'Could not find the resource with ResourceArn "{arn}".')
    return arn


def add_tags(context: Context, request: Request) -> Response:
    """AddTags."""
    arn = _find(context, request)
    check_tags(request)
    tags = context.store.tags(arn) | tags_of(request)
    if len(tags) > MAX_TAGS:
        raise invalid(
            f"Tags would give {arn} {len(tags)} tags; expected at most {MAX_TAGS} in all."
        )
    context.store.tag(arn, tags_of(request))
    return {"Tags": tag_list(context.store.tags(arn))}


def delete_tags(context: Context, request: Request) -> Response:
    """DeleteTags."""
    context.store.untag(_find(context, request), request["TagKeys"])
    return {}


def list_tags(context: Context, request: Request) -> Response:
    """ListTags."""
    tags = list(context.store.tags(_find(context, request)).items())
    chosen, token = page(tags, request, lambda tag: (tag[0], tag[0]), default=PAGE)
    return {"Tags": tag_list(dict(chosen)), "NextToken": token}
