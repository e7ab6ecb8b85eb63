import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from rich.console import Console

from local.client.deployment import DeploymentRequests, deploy_endpoint
from local.client.polling import Polling
from local.client.target import Target
from local.errors import UserError
from local.requests.hosting import Hosting, Scaling

ROLE = "arn:aws:iam::123456789012:role/berth"
HOSTING = Hosting(
    name="flowers",
    image_uri="berth:latest",
    model_data="s3://bucket/model.tar.gz",
    role=ROLE,
    stamp="20260102-030405-678",
)
NAME = "flowers-20260102-030405-678"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/flowers"
FAST = Polling(interval=0.0, timeout=5.0, log_timeout=0.0)
GROUP = "/aws/sagemaker/Endpoints/flowers"


@functools.cache
def client_of(service: str) -> Any:
    """Return a client whose requests would reach no server."""
    return Target("local", "http://127.0.0.1:9", "us-east-1", "1", "", "", "").client(service)


@dataclass(frozen=True)
class StubbedTarget(Target):
    """A target with stubbed responses; an unexpected request fails."""

    stubs: dict[str, Stubber] = field(default_factory=dict)

    def client(self, service: str, connections: int = 10, *, attempts: int | None = None) -> Any:  # noqa: ARG002
        return self.stub(service).client

    def stub(self, service: str) -> Stubber:
        if service not in self.stubs:
            self.stubs[service] = Stubber(client_of(service))
            self.stubs[service].activate()
        return self.stubs[service]


def assert_all_used(stubs: dict[str, Stubber]) -> None:
    """Assert that every stubbed response was used."""
    for stubber in stubs.values():
        stubber.deactivate()
    for stubber in stubs.values():
        stubber.assert_no_pending_responses()


@pytest.fixture
def target() -> Iterator[StubbedTarget]:
    target = StubbedTarget(
        "local", "http://127.0.0.1:9", "us-east-1", "123456789012", ROLE, "b", "i"
    )
    yield target
    assert_all_used(target.stubs)


def missing(stub: Stubber) -> None:
    stub.add_client_error(
        "describe_endpoint", "ValidationException", f'Could not find endpoint "{ARN}".'
    )


def described(stub: Stubber, status: str, config: str = NAME, **more: Any) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    answer = {
        "EndpointName": "flowers",
        "EndpointArn": ARN,
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "CreationTime": now,
        "LastModifiedTime": now,
    }
    stub.add_response("describe_endpoint", answer | more, {"EndpointName": "flowers"})


def created(stub: Stubber) -> None:
    base = "arn:aws:sagemaker:us-east-1:123456789012"
    stub.add_response("create_model", {"ModelArn": f"{base}:model/{NAME}"}, HOSTING.model())
    stub.add_response(
        "create_endpoint_config",
        {"EndpointConfigArn": f"{base}:endpoint-config/{NAME}"},
        HOSTING.endpoint_config(),
    )


def updated(target: StubbedTarget) -> Any:
    """Stub an endpoint that served `flowers-old` and accepts an update."""
    sagemaker = target.stub("sagemaker")
    described(sagemaker, "InService", "flowers-old")
    created(sagemaker)
    sagemaker.add_response("update_endpoint", {"EndpointArn": ARN}, HOSTING.update())
    return sagemaker


def logged(stub: Stubber, *lines: str) -> None:
    """Stub the newest container's last log lines; `i-0` predates the update and still logs."""
    changed = datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1000
    old, new = int(changed) - 1, int(changed) + 1
    stub.add_response(
        "describe_log_streams",
        {
            "logStreams": [
                {"logStreamName": "AllTraffic/i-0", "creationTime": old, "lastEventTimestamp": new},
                {"logStreamName": "AllTraffic/i-1", "creationTime": new, "lastEventTimestamp": 1},
                {"logStreamName": "AllTraffic/i-2", "creationTime": new, "lastEventTimestamp": 2},
            ]
        },
        {"logGroupName": GROUP},
    )
    stub.add_response(
        "get_log_events",
        {"events": [{"timestamp": 1, "message": line} for line in lines]},
        {
            "logGroupName": GROUP,
            "logStreamName": "AllTraffic/i-2",
            "limit": 20,
            "startFromHead": False,
        },
    )


def deploy(
    target: Target, deployment: DeploymentRequests, **options: Any
) -> tuple[str, str | None]:
    """Deploy; return the printed text, and the error if it failed."""
    out = io.StringIO()
    try:
        deploy_endpoint(
            target, deployment, console=Console(file=out, width=200), polling=FAST, **options
        )
    except UserError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), None


def test_it_waits_until_the_endpoint_is_in_service(target: StubbedTarget) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "Creating")
    described(sagemaker, "InService")
    shown, error = deploy(target, DeploymentRequests(HOSTING, "local"))
    assert error is None
    assert shown.splitlines() == [
        "endpoint flowers: Creating",
        "endpoint flowers: InService",
        "endpoint flowers is in service",
        "try it: berth invoke flowers IMAGE…",
    ]


def test_a_failure_shows_the_containers_log_and_deletes_everything(
    target: StubbedTarget,
) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "Failed", FailureReason="did not pass the ping health check.")
    logged(target.stub("logs"), "loading", "ArtifactError: model.json: not there")
    sagemaker.add_response("delete_endpoint", {}, {"EndpointName": "flowers"})
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": NAME})
    sagemaker.add_response("delete_model", {}, {"ModelName": NAME})
    shown, error = deploy(target, DeploymentRequests(HOSTING, "local"))
    assert error == "endpoint flowers: failed: did not pass the ping health check."
    assert (
        "the end of the container's log:\n  loading\n  ArtifactError: model.json: not there\n"
        in shown
    )
    assert shown.splitlines()[-1].startswith("deleting")


def test_keep_does_not_delete_a_failed_endpoint(target: StubbedTarget) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "Failed", FailureReason="x")
    target.stub("logs").add_client_error("describe_log_streams", "ResourceNotFoundException")
    shown, error = deploy(target, DeploymentRequests(HOSTING, "local"), keep=True)
    assert error == "endpoint flowers: failed: x"
    assert "logged nothing" in shown
    assert "deleting" not in shown


def test_resources_that_cannot_be_deleted_are_reported(target: StubbedTarget) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    sagemaker.add_client_error("create_endpoint", "ResourceLimitExceeded", "no quota")
    sagemaker.add_client_error("delete_endpoint_config", "AccessDeniedException", "not you")
    sagemaker.add_response("delete_model", {}, {"ModelName": NAME})
    out = io.StringIO()
    with pytest.raises(Exception, match="no quota"):
        deploy_endpoint(
            target,
            DeploymentRequests(HOSTING, "local"),
            console=Console(file=out, width=200),
            polling=FAST,
        )
    assert "CreateEndpointConfig could not be undone" in out.getvalue()
    assert "not you" in out.getvalue()


def test_a_failed_update_is_recognised_by_the_old_configuration(
    target: StubbedTarget,
) -> None:
    sagemaker = updated(target)
    described(sagemaker, "Updating", "flowers-old")
    described(sagemaker, "InService", "flowers-old", FailureReason="rolled back")
    logged(target.stub("logs"), "boom")
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": NAME})
    sagemaker.add_response("delete_model", {}, {"ModelName": NAME})
    shown, error = deploy(target, DeploymentRequests(HOSTING, "local", update=True))
    assert error == "endpoint flowers: update failed: rolled back"
    assert "  boom\n" in shown


def test_an_update_names_the_earlier_configuration(target: StubbedTarget) -> None:
    sagemaker = updated(target)
    described(sagemaker, "InService")
    shown, error = deploy(target, DeploymentRequests(HOSTING, "local", update=True))
    assert error is None
    assert "its previous configuration flowers-old is kept" in shown


def test_a_name_already_used_and_a_name_not_found(target: StubbedTarget) -> None:
    described(target.stub("sagemaker"), "InService")
    _, error = deploy(target, DeploymentRequests(HOSTING, "local"))
    assert error is not None
    assert "already exists (InService)" in error
    assert "--update" in error
    missing(target.stub("sagemaker"))
    _, error = deploy(target, DeploymentRequests(HOSTING, "local", update=True))
    assert error == "endpoint flowers: not found; to create it, omit --update"


def test_waiting_has_a_time_limit(target: StubbedTarget) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "Creating")
    with pytest.raises(UserError, match="still Creating after"):
        deploy_endpoint(
            target,
            DeploymentRequests(HOSTING, "local"),
            console=Console(file=io.StringIO()),
            keep=True,
            polling=Polling(0.0, -1.0, 0.0),
        )


def test_on_the_local_sagemaker_a_time_to_live_is_a_tag(target: StubbedTarget) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    ttl = timedelta(hours=2)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint(ttl))
    described(sagemaker, "InService")
    shown, error = deploy(target, DeploymentRequests(HOSTING, "local", ttl=ttl))
    assert error is None
    assert "the local SageMaker will delete it at" in shown


ENDS = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def aws() -> Iterator[StubbedTarget]:
    target = StubbedTarget(
        "local", "http://127.0.0.1:9", "us-east-1", "123456789012", ROLE, "b", "i"
    )
    for service in ("sagemaker", "scheduler", "application-autoscaling", "logs"):
        target.stub(service)
    stubs = target.stubs
    aws = StubbedTarget("aws", None, "us-east-1", "123456789012", ROLE, "b", "i", stubs=stubs)
    yield aws
    assert_all_used(stubs)


def test_on_aws_the_deletion_is_scheduled_before_the_endpoint_is_created(
    aws: StubbedTarget,
) -> None:
    deployment = DeploymentRequests(
        HOSTING, "aws", ttl=timedelta(hours=1), ends=ENDS, scheduler_role=ROLE
    )
    operations = [operation for operation, _ in deployment.requests()]
    assert operations.index("CreateSchedule") < operations.index("CreateEndpoint")
    sagemaker = aws.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    request = dict(deployment.requests())["CreateSchedule"]
    aws.stub("scheduler").add_response("create_schedule", {"ScheduleArn": "arn"}, request)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "InService")
    shown, error = deploy(aws, deployment)
    assert error is None
    assert "2030-01-02 03:04:05" in shown
    assert "EventBridge Scheduler" in shown


def test_a_refused_schedule_creates_no_endpoint(aws: StubbedTarget) -> None:
    deployment = DeploymentRequests(
        HOSTING, "aws", ttl=timedelta(hours=1), ends=ENDS, scheduler_role=ROLE
    )
    sagemaker = aws.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    aws.stub("scheduler").add_client_error(
        "create_schedule",
        "ValidationException",
        "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
    )
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": NAME})
    sagemaker.add_response("delete_model", {}, {"ModelName": NAME})
    _, error = deploy(aws, deployment)
    assert error is not None
    assert "must trust scheduler.amazonaws.com" in error


def test_the_schedule_of_an_earlier_endpoint_is_removed(aws: StubbedTarget) -> None:
    sagemaker = aws.stub("sagemaker")
    missing(sagemaker)
    aws.stub("scheduler").add_response("delete_schedule", {}, {"Name": "berth-ttl-flowers"})
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "InService")
    shown, error = deploy(aws, DeploymentRequests(HOSTING, "aws"))
    assert error is None
    assert "berth delete flowers --where aws" in shown


def cannot_serve(logs: Stubber) -> None:
    line = "[2026-01-02 03:04:05] [ERROR] cannot serve: /opt/ml/model: no model.json"
    since = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1000)
    logs.add_response(
        "filter_log_events",
        {"events": [{"timestamp": since + 1, "message": line}]},
        {"logGroupName": GROUP, "filterPattern": '"cannot serve:"', "startTime": since},
    )


@pytest.mark.parametrize("deletable", [True, False])
def test_waiting_stops_for_a_container_that_cannot_serve(
    aws: StubbedTarget, deletable: bool
) -> None:
    sagemaker = aws.stub("sagemaker")
    missing(sagemaker)
    aws.stub("scheduler").add_client_error("delete_schedule", "ResourceNotFoundException")
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "Creating")
    cannot_serve(aws.stub("logs"))
    if deletable:
        sagemaker.add_response("delete_endpoint", {}, {"EndpointName": "flowers"})
        sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": NAME})
        sagemaker.add_response("delete_model", {}, {"ModelName": NAME})
    else:
        sagemaker.add_client_error("delete_endpoint", "ValidationException", "in progress")
    shown, error = deploy(aws, DeploymentRequests(HOSTING, "aws"))
    assert error == "endpoint flowers: the container cannot serve: /opt/ml/model: no model.json"
    assert ("berth delete flowers" in shown) is not deletable


def test_an_update_whose_container_cannot_serve_is_rolled_back_by_sagemaker(
    aws: StubbedTarget,
) -> None:
    sagemaker = updated(aws)
    described(sagemaker, "Updating", "flowers-old")
    cannot_serve(aws.stub("logs"))
    shown, error = deploy(aws, DeploymentRequests(HOSTING, "aws", update=True))
    assert error is not None
    assert "no model.json" in error
    assert NAME in shown


def test_scaling_is_configured_once_the_endpoint_is_in_service(aws: StubbedTarget) -> None:
    sagemaker = aws.stub("sagemaker")
    missing(sagemaker)
    aws.stub("scheduler").add_client_error("delete_schedule", "ResourceNotFoundException")
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    described(sagemaker, "InService")
    scaling = Scaling(1, 4, 100.0)
    stub = aws.stub("application-autoscaling")
    stub.add_response("register_scalable_target", {}, scaling.target("flowers"))
    stub.add_response("put_scaling_policy", {"PolicyARN": "a"}, scaling.policy("flowers"))
    _, error = deploy(aws, DeploymentRequests(HOSTING, "aws", scaling=scaling), wait=False)
    assert error is None


def test_ctrl_c_only_stops_waiting(target: StubbedTarget) -> None:
    sagemaker = target.stub("sagemaker")
    missing(sagemaker)
    created(sagemaker)
    sagemaker.add_response("create_endpoint", {"EndpointArn": ARN}, HOSTING.endpoint())
    out = io.StringIO()

    class Interrupted(Console):
        def status(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy_endpoint(
            target,
            DeploymentRequests(HOSTING, "local"),
            console=Interrupted(file=out),
            polling=FAST,
        )
    assert "berth delete flowers" in out.getvalue()


def test_unused_responses_are_detected(target: StubbedTarget) -> None:
    """The fixture itself raises an error for an unused response."""
    stub = target.stub("logs")
    stub.add_response("describe_log_streams", {"logStreams": []}, {"logGroupName": ANY})
    with pytest.raises(AssertionError):
        stub.assert_no_pending_responses()
    target.client("logs").describe_log_streams(logGroupName="x")
