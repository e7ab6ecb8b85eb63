"""A model behind an endpoint.

berth deploy flowers --job berth-20260102-030405 --ttl 2h
berth deploy flowers --model-data s3://bucket/model.tar.gz --where aws --serverless
berth deploy flowers --job another-job --update
"""

import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console

from local import log_groups
from local.client import plan
from local.client.expiry import arrange, cancel, clock, duration
from local.client.log_tail import cannot_serve, last_words
from local.client.model_source import find_model
from local.client.target import Target
from local.commands.options.shared import Common, pairs, with_common
from local.errors import UserError, code, one_line
from local.requests.hosting import Hosting, Scaling, Serverless, schedule

SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
OPTIONS = "Instances"
CALLS, BACKLOG = 600.0, 5.0
"""What autoscaling keeps per instance: calls a minute, and calls that wait where they may."""


@dataclass(frozen=True)
class Pace:
    """How a wait is paced, in seconds.

    Attributes:
        poll: between two looks at most; the first ones follow faster.
        limit: in all.
        words: for the log to arrive.
    """

    poll: float = 5.0
    limit: float = 3600.0
    words: float = 15.0

    def pause(self, passed: float) -> float:
        """How long to wait before the next look, `passed` seconds after the start."""
        return min(self.poll, 0.5 + passed / 10)


@dataclass(frozen=True)
class Deployment:
    """All that one call sends.

    Attributes:
        hosting: model, configuration and endpoint.
        update: the endpoint is there and gets a new configuration.
        scaling: on AWS, how many instances at least and at most.
        ttl: how long the endpoint is to live.
        ends: when it is deleted, on AWS.
        scheduler_role: what the schedule acts as, on AWS.
        where: `local` or `aws`.
    """

    hosting: Hosting
    where: str
    update: bool = False
    scaling: Scaling | None = None
    ttl: timedelta | None = None
    ends: datetime | None = None
    scheduler_role: str = ""

    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        """(operation, request) in the order of sending: what can fail cheaply goes first."""
        hosting = self.hosting
        sent = [
            ("CreateModel", hosting.model()),
            ("CreateEndpointConfig", hosting.endpoint_config()),
        ]
        if self.ends:
            sent.append(("CreateSchedule", schedule(hosting.name, self.ends, self.scheduler_role)))
        if self.update:
            sent.append(("UpdateEndpoint", hosting.update()))
        else:
            tagged = self.ttl if self.where == "local" else None
            sent.append(("CreateEndpoint", hosting.endpoint(tagged)))
        if self.scaling:
            sent.append(("RegisterScalableTarget", self.scaling.target(hosting.name)))
            sent.append(("PutScalingPolicy", self.scaling.policy(hosting.name)))
        return sent


@dataclass
class Made:
    """What was made so far, to be taken away again when the rest fails.

    Attributes:
        target: where it was made.
        sagemaker: boto3's client.
        endpoint: the endpoint's name.
        before: the endpoint's description before anything was sent; None when it was not there.
        operations: (operation, request) of all that was sent.
    """

    target: Target
    sagemaker: Any
    endpoint: str
    before: dict[str, Any] | None
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def undo(self) -> list[str]:
        """Delete it, the last thing first; a line for each thing that could not be deleted.

        The schedule of an endpoint that was there before stays: it was asked for and still holds.
        """
        problems = []
        updated = any(operation == "UpdateEndpoint" for operation, _ in self.operations)
        for operation, request in reversed(self.operations):
            if operation == "UpdateEndpoint" or (operation == "CreateSchedule" and updated):
                continue
            try:
                self._delete(operation, request)
            except Exception as error:
                problems.append(f"{operation} could not be undone: {one_line(error) or error!r}")
                if operation == "CreateEndpoint":
                    # What an endpoint uses must not be deleted before it.
                    problems.append(
                        f"try again later: {self.target.command('delete', self.endpoint)}"
                    )
                    break
        return problems

    def _delete(self, operation: str, request: dict[str, Any]) -> None:
        match operation:
            case "CreateModel":
                self.sagemaker.delete_model(ModelName=request["ModelName"])
            case "CreateEndpointConfig":
                name = request["EndpointConfigName"]
                self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
            case "CreateEndpoint":
                self.sagemaker.delete_endpoint(EndpointName=self.endpoint)
            case "CreateSchedule":
                cancel(self.target, self.endpoint)


class GaveUp(UserError):
    """A container said that it cannot serve, while SageMaker still waits for it."""


@with_common
def deploy(
    common: Common,
    name: Annotated[str, typer.Argument(help="the endpoint's name")],
    job: Annotated[str | None, typer.Option(help="the training job whose model to serve")] = None,
    model_data: Annotated[
        str | None, typer.Option(help="S3 URI of a model.tar.gz, instead of --job")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="replace what the endpoint serves, blue/green")
    ] = False,
    ttl: Annotated[str | None, typer.Option(help="delete it after this time: 90m, 2h, 1d")] = None,
    scheduler_role: Annotated[
        str | None,
        typer.Option(help="on AWS, the role that deletes it after --ttl (default: --role)"),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="environment variable")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave what was made when the endpoint fails")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait until it serves")] = True,
    instance_type: Annotated[
        str, typer.Option(help="type of the instances", rich_help_panel=OPTIONS)
    ] = "ml.m5.large",
    instance_count: Annotated[
        int, typer.Option(min=1, help="how many of them", rich_help_panel=OPTIONS)
    ] = 1,
    max_instances: Annotated[
        int | None, typer.Option(help="autoscaling: at most so many", rich_help_panel=OPTIONS)
    ] = None,
    calls_per_instance: Annotated[
        float | None,
        typer.Option(
            help="autoscaling: calls a minute per instance (default: 600); with --async-output, "
            "calls that wait per instance (default: 5)",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    serverless: Annotated[
        bool, typer.Option("--serverless", help="no instances", rich_help_panel=OPTIONS)
    ] = False,
    memory: Annotated[
        int, typer.Option(help="serverless: MB of memory", rich_help_panel=OPTIONS)
    ] = 4096,
    concurrency: Annotated[
        int, typer.Option(help="serverless: calls at once", rich_help_panel=OPTIONS)
    ] = 5,
    startup: Annotated[
        int | None,
        typer.Option(help="seconds until it must answer (default: 480)", rich_help_panel=OPTIONS),
    ] = None,
    capture: Annotated[
        str | None, typer.Option(metavar="S3-URI", help="keep requests and answers there")
    ] = None,
    capture_percent: Annotated[int, typer.Option(help="share of them that is kept")] = 100,
    async_output: Annotated[
        str | None, typer.Option(metavar="S3-URI", help="asynchronous: answers go there")
    ] = None,
    subnet: Annotated[list[str] | None, typer.Option(help="of your VPC, repeatable")] = None,
    security_group: Annotated[
        list[str] | None, typer.Option(help="of your VPC, repeatable")
    ] = None,
    network_isolation: Annotated[
        bool, typer.Option("--network-isolation", help="no network for the container")
    ] = False,
    kms_key: Annotated[str | None, typer.Option(help="KMS key of the volumes")] = None,
) -> None:
    """Put a model behind an endpoint, and wait until it serves."""
    target = common.connect()
    span = duration(ttl) if ttl else None
    if target.where == "local":
        _refuse_locally(update, span, max_instances)
    if serverless and max_instances is not None:
        raise UserError("--max-instances: a serverless endpoint scales by itself; leave it out")
    source = find_model(target, job=job, model_data=model_data, image_uri=common.image_uri)
    now = datetime.now(UTC)
    hosting = Hosting(
        name=name,
        image_uri=source.image_uri,
        model_data=source.model_data,
        role=target.role,
        stamp=f"{now:%Y%m%d-%H%M%S}",
        instance_type=instance_type,
        instance_count=instance_count,
        serverless=Serverless(memory, concurrency) if serverless else None,
        environment=pairs(env or (), "--env"),
        subnets=tuple(subnet or ()),
        security_groups=tuple(security_group or ()),
        isolated=network_isolation,
        kms_key=kms_key,
        capture_uri=capture,
        capture_percent=capture_percent,
        async_output=async_output,
        startup_seconds=startup,
        tags=target.tags,
    )
    deployment = Deployment(
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
    run(target, deployment, console=console, keep=keep, wait=wait)


def _refuse_locally(update: bool, ttl: timedelta | None, max_instances: int | None) -> None:
    if max_instances is not None:
        raise UserError("--max-instances: autoscaling is not simulated locally; leave it out")
    if update and ttl:
        raise UserError("--ttl: locally it is set when an endpoint is made, not by an update")


def run(
    target: Target,
    deployment: Deployment,
    *,
    console: Console,
    keep: bool = False,
    wait: bool = True,
    pace: Pace | None = None,
) -> None:
    """Send a deployment's requests, wait, and tell what came of it.

    What was made is deleted again when something fails; an endpoint that was there before goes on
    serving what it did. Ctrl-C ends the waiting, not the endpoint.

    Raises:
        UserError: the endpoint failed; the container's last words were printed.
    """
    pace = pace or Pace()
    name = deployment.hosting.name
    sagemaker = target.client("sagemaker")
    before = _describe(sagemaker, name)
    if deployment.update and before is None:
        raise UserError(f"endpoint {name}: not there, so there is nothing to --update")
    if not deployment.update and before is not None:
        raise UserError(
            f"endpoint {name}: there already ({before['EndpointStatus']}); replace what it serves "
            f"with --update, or: berth delete {name}"
        )
    made = Made(target, sagemaker, name, before)
    try:
        if not deployment.update and not deployment.ends:
            cancel(target, name)  # one left by an endpoint of the same name would end this one
        scaling = _send(made, deployment)
        if wait or scaling:
            _wait(made, deployment, console, pace)
        _scale(target, scaling)
    except KeyboardInterrupt:
        if made.operations:
            _say(console, f"no longer waiting; endpoint {name} goes on: berth delete {name}")
        raise
    except Exception as error:
        if isinstance(error, GaveUp) and deployment.update:
            resource = deployment.hosting.resource_name
            _say(console, f"SageMaker will roll the update back; {resource} stays until then")
        elif made.operations and not keep:
            _say(console, "deleting what was made for it")
            for problem in made.undo():
                _say(console, problem)
        raise
    _tell(target, deployment, before, console, waited=wait or bool(scaling))


def _send(made: Made, deployment: Deployment) -> list[tuple[str, dict[str, Any]]]:
    """Send all but the scaling, which needs the endpoint in service; gives that."""
    later = []
    for operation, request in deployment.requests():
        match operation:
            case "CreateModel":
                made.sagemaker.create_model(**request)
            case "CreateEndpointConfig":
                made.sagemaker.create_endpoint_config(**request)
            case "CreateSchedule":
                arrange(made.target, request)
            case "CreateEndpoint":
                made.sagemaker.create_endpoint(**request)
            case "UpdateEndpoint":
                made.sagemaker.update_endpoint(**request)
            case _:
                later.append((operation, request))
                continue
        made.operations.append((operation, request))
    return later


def _scale(target: Target, requests: list[tuple[str, dict[str, Any]]]) -> None:
    if not requests:
        return
    scaling = target.client("application-autoscaling")
    for operation, request in requests:
        if operation == "RegisterScalableTarget":
            scaling.register_scalable_target(**request)
        else:
            scaling.put_scaling_policy(**request)


def _wait(made: Made, deployment: Deployment, console: Console, pace: Pace) -> None:
    name, config = deployment.hosting.name, deployment.hosting.resource_name
    started = time.monotonic()
    told = ""
    with console.status(f"endpoint {name}: asked for") as status:
        while True:
            described = _describe(made.sagemaker, name)
            if described is None:
                raise UserError(f"endpoint {name}: deleted while it was waited for")
            state = described["EndpointStatus"]
            passed = time.monotonic() - started
            line = f"endpoint {name}: {state}"
            status.update(f"{line}, {passed:.0f} s")
            if state != told and not console.is_terminal:
                _say(console, line)
                told = state
            if state in SETTLED:
                break
            if why := _gave_up(made, described):
                raise GaveUp(f"endpoint {name}: its container cannot serve: {why}")
            if passed > pace.limit:
                raise UserError(f"endpoint {name}: still {state} after {pace.limit:.0f} s")
            time.sleep(pace.pause(passed))
    # An update that failed is rolled back: in service, with the configuration it had.
    if state == "InService" and described["EndpointConfigName"] == config:
        return
    _print_last_words(made.target, name, console, pace, _begun(made, described))
    reason = described.get("FailureReason", "no reason given")
    verb = "update failed" if deployment.update else "failed"
    raise UserError(f"endpoint {name}: {verb}: {reason}")


def _gave_up(made: Made, described: dict[str, Any]) -> str:
    """Why a container says that it cannot serve; "" while none does.

    AWS asks its /ping for minutes more before the endpoint fails; the local SageMaker does not.
    """
    if made.target.where == "local":
        return ""
    group = log_groups.endpoint(made.endpoint)
    return cannot_serve(made.target.client("logs"), group, since=_begun(made, described))


def _begun(made: Made, described: dict[str, Any]) -> float:
    """UTC seconds after which the new containers log: older streams are those of containers that
    served before, of an endpoint that had the name or, in an update, of those that still do.
    """
    begun = made.before["LastModifiedTime"] if made.before else described["CreationTime"]
    return float(begun.timestamp())


def _print_last_words(
    target: Target, name: str, console: Console, pace: Pace, since: float
) -> None:
    group = log_groups.endpoint(name)
    words = last_words(target.client("logs"), group, since=since, wait=pace.words)
    if not words:
        _say(console, "the container said nothing; was it started at all?")
        return
    _say(console, "the container's last words:")
    for line in words:
        _say(console, f"  {line}")


def _tell(
    target: Target,
    deployment: Deployment,
    before: dict[str, Any] | None,
    console: Console,
    *,
    waited: bool,
) -> None:
    name = deployment.hosting.name
    _say(console, f"endpoint {name} {'serves' if waited else 'is being made'}")
    if deployment.ends:
        _say(console, f"it will be deleted at {clock(deployment.ends)}, by EventBridge Scheduler")
    elif deployment.ttl:
        # The local SageMaker counts from the moment the endpoint serves.
        ends = datetime.now(UTC) + deployment.ttl
        _say(console, f"it will be deleted at {clock(ends)}, by the local SageMaker")
    elif target.where == "aws" and not deployment.hosting.serverless:
        _say(console, f"it is billed until it is deleted: berth delete {name} --where aws")
    if before:
        _say(console, f"it served {before['EndpointConfigName']} before, which is kept")
    where_option = "" if target.where == "local" else " --where aws"
    _say(console, f"try it: berth invoke {name} IMAGE…{where_option}")


def _describe(sagemaker: Any, name: str) -> dict[str, Any] | None:
    try:
        described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName=name)
    except Exception as error:
        if code(error) == "ValidationException" and "Could not find" in str(error):
            return None
        raise
    return described


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    from local.cli import main

    sys.exit(main("deploy"))
