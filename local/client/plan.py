"""`--plan`: print the exact requests, their permissions and their maximum cost; send nothing."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from local.client.console import print_line
from local.requests import permissions, prices

if TYPE_CHECKING:
    from local.client.target import Target


def show(
    target: "Target",
    requests: Sequence[tuple[str, Mapping[str, Any]]],
    console: Console | None = None,
) -> None:
    """Print the (operation, request) pairs that would be sent to `target`, in order."""
    out = console or Console()

    def write(text: str) -> None:
        print_line(out, text)

    local = target.where == "local"
    write(
        "plan: requests to the local SageMaker"
        if local
        else f"plan: requests to AWS, account {target.account}, {target.region}"
    )
    for operation, request in requests:
        write(f"\n{operation}")
        write(_json(request))
    scope = {"region": target.region, "account": target.account}
    on_aws = "on AWS, " if local else ""
    write(f"\nIAM policy: {on_aws}for the caller of these operations")
    write(_json(permissions.caller_policy(requests, **scope)))
    roles = permissions.role_policy(requests, **scope)
    if roles["Statement"]:
        write(f"\nIAM policy: {on_aws}for the role {target.role}")
        write(_json(roles))
    for _, request in (each for each in requests if each[0] == "CreateSchedule"):
        write(f"the role {request['Target']['RoleArn']} must also trust scheduler.amazonaws.com")
    write(f"\nmaximum cost{': nothing on this machine; on AWS' if local else ''}")
    for line in prices.lines(prices.maximum_costs(requests), target.region):
        write(f"  {line}")
    write("\nnothing was sent, nothing was created")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)
