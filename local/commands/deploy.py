"""`berth deploy`: deploy a model to an endpoint.

berth deploy flowers --job berth-20260102-030405 --ttl 2h
berth deploy flowers --model-data s3://bucket/model.tar.gz --where aws --serverless
berth deploy flowers --job another-job --update
berth deploy gardens --multi-model s3://bucket/models
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from local.client import plan
from local.client.deployment import DeploymentRequests, deploy_endpoint
from local.client.expiry import parse_duration
from local.client.image_platform import check_platform
from local.client.model_source import find_model
from local.commands.options.shared import (
    CommonOptions,
    Precision,
    serving_environment,
    with_common,
)
from local.errors import UserError
from local.requests.hosting import Hosting, Scaling, Serverless, has_gpu
from local.requests.names import stamp

PANEL = "Instances"
CALLS, BACKLOG = 600.0, 5.0
"""Autoscaling targets per instance: invocations a minute, and queued asynchronous invocations."""


@with_common
def deploy(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="the endpoint's name")],
    job: Annotated[str | None, typer.Option(help="training job whose model to serve")] = None,
    model_data: Annotated[
        str | None, typer.Option(help="S3 URI of a model.tar.gz, instead of --job")
    ] = None,
    multi_model: Annotated[
        str | None,
        typer.Option(
            metavar="S3-PREFIX",
            help="serve every model archive below it; choose one with berth invoke --target-model",
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="update an existing endpoint, blue/green")
    ] = False,
    ttl: Annotated[str | None, typer.Option(help="delete it after this time: 90m, 2h, 1d")] = None,
    scheduler_role: Annotated[
        str | None,
        typer.Option(help="on AWS: role of the schedule for --ttl (default: --role)"),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="environment variable")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="precision of inference (default: float32, on a GPU float16)"),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the created resources if the endpoint fails")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="wait until it is in service")
    ] = True,
    instance_type: Annotated[
        str, typer.Option(help="instance type", rich_help_panel=PANEL)
    ] = "ml.m5.large",
    instance_count: Annotated[
        int, typer.Option(min=1, help="number of instances", rich_help_panel=PANEL)
    ] = 1,
    max_instances: Annotated[
        int | None, typer.Option(help="autoscaling: most instances", rich_help_panel=PANEL)
    ] = None,
    calls_per_instance: Annotated[
        float | None,
        typer.Option(
            help="autoscaling: invocations a minute per instance (default: 600); with "
            "--async-output, queued invocations per instance (default: 5)",
            rich_help_panel=PANEL,
        ),
    ] = None,
    slim: Annotated[
        bool,
        typer.Option(
            "--slim",
            help="use the serving image, for CPUs only (make build TARGET=serve)",
            rich_help_panel=PANEL,
        ),
    ] = False,
    serverless: Annotated[
        bool, typer.Option("--serverless", help="serverless endpoint", rich_help_panel=PANEL)
    ] = False,
    memory: Annotated[
        int, typer.Option(help="serverless: MB of memory", rich_help_panel=PANEL)
    ] = 4096,
    concurrency: Annotated[
        int, typer.Option(help="serverless: concurrent invocations", rich_help_panel=PANEL)
    ] = 5,
    startup: Annotated[
        int | None,
        typer.Option(help="startup timeout in seconds (default: 480)", rich_help_panel=PANEL),
    ] = None,
    capture: Annotated[
        str | None, typer.Option(metavar="S3-URI", help="capture requests and responses there")
    ] = None,
    capture_percent: Annotated[int, typer.Option(help="percentage that is captured")] = 100,
    async_output: Annotated[
        str | None, typer.Option(metavar="S3-URI", help="asynchronous: write responses there")
    ] = None,
    cloudwatch: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="publish prediction metrics in this namespace"),
    ] = None,
    subnet: Annotated[list[str] | None, typer.Option(help="VPC subnet, repeatable")] = None,
    security_group: Annotated[
        list[str] | None, typer.Option(help="VPC security group, repeatable")
    ] = None,
    network_isolation: Annotated[
        bool, typer.Option("--network-isolation", help="no network for the container")
    ] = False,
    kms_key: Annotated[str | None, typer.Option(help="KMS key of the volumes")] = None,
) -> None:
    """Deploy a model to an endpoint and wait until it is in service."""
    target = common.connect()
    span = parse_duration(ttl) if ttl else None
    if target.where == "local":
        _refuse_locally(update, span, max_instances)
    if serverless and max_instances is not None:
        raise UserError("--max-instances: serverless endpoints scale automatically; omit it")
    if slim and not serverless and has_gpu(instance_type):
        raise UserError(f"--slim: {instance_type} has a GPU, which the serving image cannot use")
    if multi_model and (job or model_data):
        other = "--job" if job else "--model-data"
        raise UserError(f"--multi-model: found {other} as well, expected one of them")
    source = find_model(
        target,
        job=job,
        model_data=multi_model or model_data,
        image_uri=common.image_uri,
        slim=slim,
    )
    check_platform(target, source.image_uri, [None if serverless else instance_type])
    now = datetime.now(UTC)
    hosting = Hosting(
        name=name,
        image_uri=source.image_uri,
        model_data=source.model_data,
        role=target.role,
        stamp=stamp(now),
        instance_type=instance_type,
        instance_count=instance_count,
        serverless=Serverless(memory, concurrency) if serverless else None,
        environment=serving_environment(env, precision),
        subnets=tuple(subnet or ()),
        security_groups=tuple(security_group or ()),
        isolated=network_isolation,
        kms_key=kms_key,
        capture_uri=capture,
        capture_percent=capture_percent,
        async_output=async_output,
        startup_seconds=startup,
        multi_model=multi_model is not None,
        metrics_namespace=cloudwatch,
        tags=target.tags,
    )
    deployment = DeploymentRequests(
        hosting=hosting,
        where=target.where,
        update=update,
        scaling=None
        if max_instances is None
        else Scaling(
            instance_count,
            max_instances,
            calls_per_instance or (BACKLOG if async_output else CALLS),
            asynchronous=async_output is not None,
        ),
        ttl=span,
        ends=now + span if span and target.where == "aws" else None,
        scheduler_role=scheduler_role or target.role,
    )
    console = Console()
    if target.plan:
        plan.show(target, deployment.requests(), console)
        return
    deploy_endpoint(target, deployment, console=console, keep=keep, wait=wait)


def _refuse_locally(update: bool, ttl: timedelta | None, max_instances: int | None) -> None:
    if max_instances is not None:
        raise UserError("--max-instances: autoscaling is not supported locally; omit it")
    if update and ttl:
        raise UserError("--ttl: locally only a new endpoint can have one; omit it with --update")
