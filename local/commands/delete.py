"""`berth delete`: delete endpoints with their configurations and models."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from local.client.expiry import delete_schedule
from local.client.resources import ENDPOINT, KINDS, describe, find
from local.client.target import MADE_BY
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError, code

DELETION_TIMEOUT = 600.0
"""Seconds to wait for an endpoint's deletion; on AWS it takes a few."""


@with_common
def delete(
    common: CommonOptions,
    names: Annotated[list[str] | None, typer.Argument(help="names of endpoints")] = None,
    *,
    every: Annotated[
        bool,
        typer.Option("--all", help="every endpoint, configuration and model that berth created"),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="delete without confirmation")] = False,
) -> None:
    """Delete endpoints with their configurations and models; the artifacts in S3 are kept."""
    if bool(names) == every:
        raise UserError("delete: expected names of endpoints, or --all")
    target = common.connect(needs_role=False)
    client = target.client("sagemaker")
    resources = (
        list(_created_by_berth(client))
        if every
        else [each for n in names or () for each in _endpoint_resources(client, n)]
    )
    resources = list(dict.fromkeys(resources))
    if not resources:
        print("nothing to delete")
        return
    for what, name in resources:
        print(f"{what.replace('_', ' ')} {name}")
    if target.plan:
        return
    if not yes and not typer.confirm("delete them?"):
        raise typer.Exit(1)
    for what, name in resources:
        _delete(client, what, name)
        if what == "endpoint":
            delete_schedule(target, name)  # else it would end a later endpoint of the same name
    print(f"deleted {len(resources)}")


def _endpoint_resources(client: Any, name: str) -> Iterator[tuple[str, str]]:
    endpoint = describe(client, ENDPOINT, name)
    if endpoint is None:
        kind, _ = find(client, name, KINDS)[0]
        raise UserError(
            f"{name}: this is a {kind.name} job; only endpoints can be deleted, jobs cannot "
            f"(to stop a running job: berth stop {name})"
        )
    yield "endpoint", name
    config = endpoint.get("EndpointConfigName")
    if config is None:
        return
    yield "endpoint_config", config
    try:
        response = client.describe_endpoint_config(EndpointConfigName=config)
    except client.exceptions.ClientError as error:
        if code(error) != "ValidationException":
            raise
        return  # deleted already
    for variant in response["ProductionVariants"]:
        if "ModelName" in variant:
            yield "model", variant["ModelName"]


def _created_by_berth(client: Any) -> Iterator[tuple[str, str]]:
    """The resources with berth's tag, endpoints first: a resource in use is deleted last."""
    for what, listing, summaries, prefix in (
        ("endpoint", "list_endpoints", "Endpoints", "Endpoint"),
        ("endpoint_config", "list_endpoint_configs", "EndpointConfigs", "EndpointConfig"),
        ("model", "list_models", "Models", "Model"),
    ):
        for page in client.get_paginator(listing).paginate():
            for entry in page[summaries]:
                tags = client.get_paginator("list_tags").paginate(ResourceArn=entry[f"{prefix}Arn"])
                given = {tag["Key"]: tag["Value"] for part in tags for tag in part["Tags"]}
                if MADE_BY.items() <= given.items():
                    yield what, entry[f"{prefix}Name"]


def _delete(client: Any, what: str, name: str) -> None:
    argument = {"endpoint": "EndpointName", "endpoint_config": "EndpointConfigName"}.get(
        what, "ModelName"
    )
    try:
        getattr(client, f"delete_{what}")(**{argument: name})
    except client.exceptions.ClientError as error:
        missing = code(error) == "ValidationException" and "ould not find" in str(error)
        if not missing:
            raise
        return
    if what == "endpoint":
        deadline = time.monotonic() + DELETION_TIMEOUT
        while describe(client, ENDPOINT, name) is not None:
            if time.monotonic() > deadline:
                raise UserError(f"endpoint {name}: not deleted after {DELETION_TIMEOUT:.0f} s")
            time.sleep(0.3)
