"""Whether instances can run an image, where the engine on this machine has it."""

from collections.abc import Iterable

from local import platforms
from local.client.target import Target
from local.engine import image_facts
from local.errors import UserError

ENGINE_SECONDS = 2.0
"""How long an engine may take to show the image; nothing depends on one."""


def check_platform(target: Target, image_uri: str, instance_types: Iterable[str | None]) -> None:
    """Refuse an image of another platform before anything is made on AWS.

    An image that is on no engine here, or has another name there, is not looked at; the local
    SageMaker runs what its engine can run.

    Args:
        target: where requests go.
        image_uri: the image.
        instance_types: what will run it; None for serverless endpoints.

    Raises:
        UserError: one of them cannot run it.
    """
    if target.where == "local":
        return
    facts = image_facts(image_uri, ENGINE_SECONDS)
    for instance_type in instance_types if facts else ():
        problem = platforms.problem(facts or {}, instance_type)
        if problem:
            raise UserError(f"{image_uri}: {problem} and push it again")
