"""Deployment of an endpoint: send the requests, wait for it, and clean up after a failure."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from local import log_groups
from local.client.console import print_line
from local.client.expiry import create_schedule, delete_schedule, format_time
from local.client.log_tail import read_log_tail, serving_error
from local.client.polling import Polling, poll
from local.client.resources import ENDPOINT, describe
from local.client.target import Target
from local.errors import UserError, one_line
from local.requests.hosting import Hosting, Scaling, schedule

SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
"""Statuses in which waiting for an endpoint ends."""


@dataclass(frozen=True)
class DeploymentRequests:
    """The requests of one deployment.

    Attributes:
        hosting: model, configuration and endpoint.
        where: `local` or `aws`.
        update: update an existing endpoint to a new configuration.
        scaling: autoscaling, on AWS.
        ttl: the endpoint's time to live.
        ends: when the endpoint is deleted, on AWS.
        scheduler_role: the role of the schedule that deletes it, on AWS.
    """

    hosting: Hosting
    where: str
    update: bool = False
    scaling: Scaling | None = None
    ttl: timedelta | None = None
    ends: datetime | None = None
    scheduler_role: str = ""

    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        """(operation, request) in the order of sending: cheap requests that may fail go first."""
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
class CreatedResources:
    """What a deployment has created so far, to be deleted if it fails.

    Attributes:
        target: where it was created.
        sagemaker: a boto3 client.
        endpoint: the endpoint's name.
        before: the endpoint's description before the deployment; None if it did not exist.
        operations: every (operation, request) sent.
    """

    target: Target
    sagemaker: Any
    endpoint: str
    before: dict[str, Any] | None
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def undo(self) -> list[str]:
        """Delete the resources, newest first; return a line for each that could not be deleted.

        The schedule of an endpoint that existed before is kept.
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
                    # The endpoint still uses its configuration and model.
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
                delete_schedule(self.target, self.endpoint)


class ContainerFailure(UserError):
    """A container logged that it cannot serve, while SageMaker is still waiting for it."""


def deploy_endpoint(
    target: Target,
    deployment: DeploymentRequests,
    *,
    console: Console,
    keep: bool = False,
    wait: bool = True,
    polling: Polling | None = None,
) -> None:
    """Send a deployment's requests, wait for the endpoint, and print the result.

    If a step fails, the created resources are deleted unless `keep` is set; an endpoint that
    existed before keeps serving its old configuration. Ctrl-C stops waiting; the endpoint stays.

    Raises:
        UserError: the endpoint failed; the end of the container's log was printed.
    """
    polling = polling or Polling()
    name = deployment.hosting.name
    sagemaker = target.client("sagemaker")
    before = describe(sagemaker, ENDPOINT, name)
    if deployment.update and before is None:
        raise UserError(f"endpoint {name}: not found; to create it, omit --update")
    if not deployment.update and before is not None:
        raise UserError(
            f"endpoint {name}: already exists ({before['EndpointStatus']}); update it with "
            f"--update, or delete it: berth delete {name}"
        )
    created = CreatedResources(target, sagemaker, name, before)
    try:
        if not deployment.update and not deployment.ends:
            # The schedule of an earlier endpoint of this name would delete this one.
            delete_schedule(target, name)
        scaling = _send(created, deployment)
        if wait or scaling:
            _wait(created, deployment, console, polling)
        _scale(target, scaling)
    except KeyboardInterrupt:
        if created.operations:
            print_line(
                console, f"no longer waiting; endpoint {name} stays; delete it: berth delete {name}"
            )
        raise
    except Exception as error:
        if isinstance(error, ContainerFailure) and deployment.update:
            resource = deployment.hosting.resource_name
            print_line(
                console, f"SageMaker will roll back the update; {resource} is kept until then"
            )
        elif created.operations and not keep:
            print_line(console, "deleting the resources that were created")
            for problem in created.undo():
                print_line(console, problem)
        raise
    _print_result(target, deployment, before, console, waited=wait or bool(scaling))


def _send(
    created: CreatedResources, deployment: DeploymentRequests
) -> list[tuple[str, dict[str, Any]]]:
    """Send the requests, and return the scaling requests, which need the endpoint in service."""
    later = []
    for operation, request in deployment.requests():
        match operation:
            case "CreateModel":
                created.sagemaker.create_model(**request)
            case "CreateEndpointConfig":
                created.sagemaker.create_endpoint_config(**request)
            case "CreateSchedule":
                create_schedule(created.target, request)
            case "CreateEndpoint":
                created.sagemaker.create_endpoint(**request)
            case "UpdateEndpoint":
                created.sagemaker.update_endpoint(**request)
            case _:
                later.append((operation, request))
                continue
        created.operations.append((operation, request))
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


def _wait(
    created: CreatedResources, deployment: DeploymentRequests, console: Console, polling: Polling
) -> None:
    name, config = deployment.hosting.name, deployment.hosting.resource_name

    def describe_endpoint() -> dict[str, Any]:
        described = describe(created.sagemaker, ENDPOINT, name)
        if described is None:
            raise UserError(f"endpoint {name}: deleted while waiting for it")
        return described

    subject = f"endpoint {name}"
    for described, passed in poll(console, subject, describe_endpoint, "EndpointStatus", polling):
        status = described["EndpointStatus"]
        if status in SETTLED:
            break
        if error := _serving_error(created, described):
            raise ContainerFailure(f"{subject}: the container cannot serve: {error}")
        if passed > polling.timeout:
            raise UserError(f"{subject}: still {status} after {polling.timeout:.0f} s")
    # A failed update is rolled back: the endpoint is in service with its old configuration.
    if status == "InService" and described["EndpointConfigName"] == config:
        return
    _print_log_tail(created.target, name, console, polling, _log_start(created, described))
    reason = described.get("FailureReason", "no reason given")
    verb = "update failed" if deployment.update else "failed"
    raise UserError(f"endpoint {name}: {verb}: {reason}")


def _serving_error(created: CreatedResources, described: dict[str, Any]) -> str:
    """The error that a container logged because it cannot serve; "" if there is none.

    AWS keeps calling /ping for minutes before the endpoint fails; the local SageMaker does not.
    """
    if created.target.where == "local":
        return ""
    group = log_groups.endpoint(created.endpoint)
    return serving_error(created.target.client("logs"), group, since=_log_start(created, described))


def _log_start(created: CreatedResources, described: dict[str, Any]) -> float:
    """The Unix time after which the new containers' log streams were created.

    Older streams belong to an earlier endpoint of the same name or, in an update, to the containers
    that are still serving.
    """
    begun = created.before["LastModifiedTime"] if created.before else described["CreationTime"]
    return float(begun.timestamp())


def _print_log_tail(
    target: Target, name: str, console: Console, polling: Polling, since: float
) -> None:
    group = log_groups.endpoint(name)
    lines = read_log_tail(target.client("logs"), group, since=since, wait=polling.log_timeout)
    if not lines:
        print_line(console, "the container logged nothing; it may not have started")
        return
    print_line(console, "the end of the container's log:")
    for line in lines:
        print_line(console, f"  {line}")


def _print_result(
    target: Target,
    deployment: DeploymentRequests,
    before: dict[str, Any] | None,
    console: Console,
    *,
    waited: bool,
) -> None:
    name = deployment.hosting.name
    print_line(console, f"endpoint {name} is {'in service' if waited else 'being created'}")
    if deployment.ends:
        print_line(
            console,
            f"EventBridge Scheduler will delete it at {format_time(deployment.ends)}",
        )
    elif deployment.ttl:
        # The local SageMaker counts from the moment the endpoint is in service.
        ends = datetime.now(UTC) + deployment.ttl
        print_line(console, f"the local SageMaker will delete it at {format_time(ends)}")
    elif target.where == "aws" and not deployment.hosting.serverless:
        print_line(console, f"AWS bills it until you delete it: berth delete {name} --where aws")
    if before:
        print_line(console, f"its previous configuration {before['EndpointConfigName']} is kept")
    where_option = "" if target.where == "local" else " --where aws"
    model = " --target-model MODEL.tar.gz" if deployment.hosting.multi_model else ""
    print_line(console, f"try it: berth invoke {name} IMAGE…{model}{where_option}")
