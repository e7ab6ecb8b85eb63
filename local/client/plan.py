"""`--plan`: the exact requests, the permissions they need and the most they can cost.

Nothing is sent: what is printed is what would be.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from local.requests import permissions, prices

if TYPE_CHECKING:
    from local.client.target import Target


def show(
    target: "Target",
    requests: Sequence[tuple[str, Mapping[str, Any]]],
    console: Console | None = None,
) -> None:
    """Print what would be sent to `target`: (operation, request) in the order of sending."""
    out = console or Console()

    def say(text: str) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    local = target.where == "local"
    say(
        "plan: what would be sent to the local SageMaker"
        if local
        else f"plan: what would be sent to AWS, account {target.account}, {target.region}"
    )
    for operation, request in requests:
        say(f"\n{operation}")
        say(_json(request))
    scope = {"region": target.region, "account": target.account}
    on_aws = "on AWS, " if local else ""
    say(f"\nIAM policy: {on_aws}what whoever sends this needs")
    say(_json(permissions.caller(requests, **scope)))
    roles = permissions.role(requests, **scope)
    if roles["Statement"]:
        say(f"\nIAM policy: {on_aws}what the role {target.role} needs")
        say(_json(roles))
    for _, request in (each for each in requests if each[0] == "CreateSchedule"):
        say(f"the role {request['Target']['RoleArn']} must also trust scheduler.amazonaws.com")
    say(f"\ncost at most{': nothing on this machine; on AWS' if local else ''}")
    for line in prices.lines(prices.highest(requests), target.region):
        say(f"  {line}")
    say("\nnothing was sent, nothing was created")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)
