"""Check of an image's platform against the instances that will run it."""

from collections.abc import Iterable

from local import platforms
from local.client.target import Target
from local.engine import image_facts
from local.errors import UserError

ENGINE_TIMEOUT = 2.0
"""Seconds to wait for the Docker engine, which is optional here."""


def check_platform(target: Target, image_uri: str, instance_types: Iterable[str | None]) -> None:
    """Reject an image for the wrong platform before anything is created on AWS.

    Only an image that the Docker engine on this machine has under the same name is checked. The
    local SageMaker runs whatever its engine can run.

    Args:
        target: where requests go.
        image_uri: the image.
        instance_types: the instance types that will run it; None for serverless endpoints.

    Raises:
        UserError: one of them cannot run it.
    """
    if target.where == "local":
        return
    facts = image_facts(image_uri, ENGINE_TIMEOUT)
    for instance_type in instance_types if facts else ():
        problem = platforms.problem(facts or {}, instance_type)
        if problem:
            raise UserError(f"{image_uri}: {problem} and push it again")
