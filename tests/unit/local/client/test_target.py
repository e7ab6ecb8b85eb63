import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from botocore.stub import Stubber

from local.client.target import MADE_BY, Target, connect
from local.emulator import daemon
from local.emulator.credentials import ACCOUNT, Credentials, credentials
from local.emulator.home import Home
from local.errors import UserError

ROLE = "arn:aws:iam::123456789012:role/berth"
AWS = Target("aws", None, "eu-west-1", "123456789012", ROLE, "bucket", "image")


@dataclass(frozen=True)
class Running:
    url: str
    executor: str = "process"


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the AWS account of the user who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("BERTH_HOME", str(tmp_path / "home"))


@pytest.fixture
def running(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(daemon, "up", lambda **_options: Running(moto_url))
    monkeypatch.setattr(daemon, "running", lambda: None)
    return moto_url


def test_the_local_target(running: str, moto_target: Target) -> None:
    target = connect(tags={"team": "plants"})
    assert target.session.get_credentials().secret_key == credentials(Home.find()).secret
    assert target == Target(
        where="local",
        url=running,
        region="us-east-1",
        account=ACCOUNT,
        role=ROLE,
        bucket="berth-us-east-1-123456789012",
        image_uri="berth:latest",
        tags=MADE_BY | {"team": "plants"},
    )
    assert target.tag_list() == [
        {"Key": "berth:made-by", "Value": "berth"},
        {"Key": "team", "Value": "plants"},
    ]


def test_the_local_target_does_not_read_the_users_configuration(
    running: str, moto_target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connect().client("sagemaker").list_training_jobs()  # moto reads them once, in this process
    wrong = tmp_path / "config"
    wrong.write_text("this is no configuration")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(wrong))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(wrong))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert connect().client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_a_plan_starts_no_server_and_creates_no_bucket(
    moto_target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "running", lambda: None)
    target = connect(plan=True)
    assert target.url is None
    target.ensure_bucket()
    with pytest.raises(UserError, match="berth up"):
        target.client("s3")


def test_a_server_running_with_another_executor_is_an_error(running: str) -> None:
    with pytest.raises(UserError, match="running with process; stop it first: berth down"):
        connect(executor="docker")


def test_the_environment_and_commands_of_a_target() -> None:
    key, url = Credentials("KEY", "secret"), "http://127.0.0.1:4585"
    here = Target("local", url, "us-east-1", ACCOUNT, ROLE, "b", "i", credentials=key)
    assert "secret" not in repr(here)
    assert here.environment() == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4585",
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    assert AWS.environment() == {}
    assert here.command("logs", "-f", "a b") == "berth logs -f 'a b'"
    there = replace(here, region="eu-west-1").command("stop", "job")
    assert there == "berth stop job --region eu-west-1"
    assert AWS.command("stop", "job") == "berth stop job --where aws --region eu-west-1"


def test_aws_without_a_region() -> None:
    with pytest.raises(UserError, match="--region: missing"):
        connect(where="aws")


def test_aws_without_a_role() -> None:
    with pytest.raises(UserError, match="--role: missing"):
        connect(where="aws", region="eu-west-1")


def test_aws_without_credentials() -> None:
    with pytest.raises(UserError, match="no credentials found"):
        connect(where="aws", region="eu-west-1", needs_role=False)


def test_aws_without_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UserError, match="nobody"):
        connect(where="aws", region="eu-west-1", role="jobs")


def test_aws(moto_aws: Target) -> None:
    target = connect(where="aws", region="eu-west-1", role="jobs", bucket="mine")
    assert (target.account, target.region, target.bucket) == ("123456789012", "eu-west-1", "mine")
    assert target.role == "arn:aws:iam::123456789012:role/jobs"
    assert target.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/berth:latest"
    assert connect(where="aws", region="eu-west-1", needs_role=False).role == ""


@pytest.mark.parametrize(
    ("region", "partition", "domain"),
    [
        ("eu-west-1", "aws", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
    ],
)
def test_a_plan_for_aws_needs_no_credentials(region: str, partition: str, domain: str) -> None:
    role = f"arn:{partition}:iam::210987654321:role/jobs"
    target = connect(where="aws", region=region, role=role, plan=True)
    assert (target.account, target.role) == ("210987654321", role)
    assert target.image_uri == f"210987654321.dkr.ecr.{region}.{domain}/berth:latest"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_new_bucket_blocks_public_access(moto_aws: Target, region: str) -> None:
    target = replace(moto_aws, region=region, bucket=f"new-{region}")
    target.ensure_bucket()
    target.ensure_bucket()
    s3 = target.client("s3")
    closed = s3.get_public_access_block(Bucket=target.bucket)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    assert len(closed) == 4
    where = s3.get_bucket_location(Bucket=target.bucket)["LocationConstraint"]
    assert where == (None if region == "us-east-1" else region)


@pytest.mark.parametrize(
    ("bucket", "asked"),
    [
        ("mine", {}),
        ("berth-us-east-1-123456789012", {"ExpectedBucketOwner": "123456789012"}),
    ],
)
def test_a_bucket_of_another_account_is_refused(
    bucket: str, asked: dict[str, str], moto_aws: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default name can be guessed, so another account may already own the bucket."""
    s3 = moto_aws.client("s3")
    monkeypatch.setattr(Target, "client", lambda _self, _service: s3)
    with Stubber(s3) as stub:
        stub.add_client_error(
            "head_bucket",
            "403",
            "Forbidden",
            403,
            expected_params={"Bucket": bucket} | asked,
        )
        with pytest.raises(UserError, match=f"bucket {bucket}: access denied"):
            replace(moto_aws, bucket=bucket).ensure_bucket()
