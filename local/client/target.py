"""Where requests go: the local SageMaker or AWS."""

import os
import shlex
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from local.emulator.credentials import ACCOUNT, Credentials, credentials
from local.emulator.executors import ExecutorName
from local.emulator.home import Home
from local.errors import UserError, code
from local.image import IMAGES
from local.partitions import domain, partition

REPOSITORY = "berth"
"""The ECR repository whose `latest` is used on AWS without --image-uri."""
LOCAL_IMAGE = IMAGES["full"]
LOCAL_REGION = "us-east-1"
NO_CREDENTIALS = Credentials("nobody", "nothing")
"""Used by a target without an access key."""
LOCAL_ROLE = "berth"
"""The role that exists in the local IAM from the start."""
MADE_BY = {"berth:made-by": "berth"}
"""The tag on everything berth creates; `berth delete --all` finds resources by it."""
ATTEMPTS = 10
"""Attempts per request on AWS, as in the SageMaker SDK."""
LOCAL_ATTEMPTS = 3
"""Attempts per request to the local SageMaker, where waiting rarely helps."""
CONNECT_SECONDS = 10

Where = Literal["local", "aws"]


@dataclass(frozen=True)
class Target:
    """Where requests go, and the defaults for them.

    Attributes:
        where: `local` or `aws`.
        url: the local SageMaker's URL; None on AWS, and with `plan` if none is running.
        region: the region's name.
        account: the account id.
        role: ARN of the role that jobs and endpoints assume; "" if none is needed.
        bucket: the bucket for data and results.
        image_uri: the image.
        tags: tags for everything created, including `MADE_BY`.
        plan: only print the requests.
        credentials: the local SageMaker's access key; None on AWS, and without a URL.
    """

    where: Where
    url: str | None
    region: str
    account: str
    role: str
    bucket: str
    image_uri: str
    tags: dict[str, str] = field(default_factory=dict)
    plan: bool = False
    credentials: Credentials | None = field(default=None, repr=False, compare=False)
    _clients: dict[tuple[str, int, int | None], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _making: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def client(self, service: str, connections: int = 10, *, attempts: int | None = None) -> Any:
        """A boto3 client; for the local SageMaker it ignores the user's AWS settings.

        Clients are cached, because creating one takes botocore 0.3 s of CPU time.

        Args:
            service: boto3's name of the service.
            connections: size of the connection pool: the number of threads that share the client.
            attempts: most attempts per request; None for the target's default.

        Raises:
            UserError: with `plan`, no local SageMaker is running.
        """
        with self._making:
            key = (service, connections, attempts)
            if key not in self._clients:
                self._clients[key] = self._new_client(*key)
            return self._clients[key]

    def _new_client(self, service: str, connections: int, attempts: int | None) -> Any:
        from botocore.config import Config

        usual = ATTEMPTS if self.where == "aws" else LOCAL_ATTEMPTS
        retries = {"mode": "standard", "total_max_attempts": attempts or usual}
        if self.where == "aws":
            config = Config(
                retries=retries,
                connect_timeout=CONNECT_SECONDS,
                max_pool_connections=connections,
            )
            return self.session.client(service, config=config)
        if self.url is None:
            raise UserError("the local SageMaker is not running; start it with: berth up")
        # Requests to 127.0.0.1 must not go through the user's proxy.
        config = Config(
            retries=retries,
            connect_timeout=CONNECT_SECONDS,
            max_pool_connections=connections,
            proxies={},
            s3={"addressing_style": "path"},
        )
        return self.session.client(service, endpoint_url=self.url, config=config)

    @cached_property
    def session(self) -> Any:
        """A boto3 session: with the default credential chain on AWS, the home's key locally."""
        import boto3

        if self.where == "aws":
            return boto3.Session(region_name=self.region)
        return _local_session(self.region, self.credentials or NO_CREDENTIALS)

    def tag_list(self) -> list[dict[str, str]]:
        """The tags in the form of the API."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def command(self, *arguments: str) -> str:
        """A berth command line for this target."""
        options = ["--where", "aws"] if self.where == "aws" else []
        if self.where == "aws" or self.region != LOCAL_REGION:
            options += ["--region", self.region]
        return shlex.join(["berth", *arguments, *options])

    def environment(self) -> dict[str, str]:
        """Environment variables that point AWS SDKs and the AWS CLI here; none on AWS."""
        if self.url is None:
            return {}
        key = self.credentials or NO_CREDENTIALS
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key.key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_DEFAULT_REGION": self.region,
        }

    def ensure_bucket(self) -> None:
        """Create the bucket without public access unless it exists; with `plan`, do nothing.

        Raises:
            UserError: this account may not use the bucket.
        """
        from botocore.exceptions import ClientError

        if self.plan:
            return
        s3 = self.client("s3")
        # Somebody else could create a bucket with the default name and open it to this account.
        default = self.bucket == default_bucket(self.region, self.account)
        owner = {"ExpectedBucketOwner": self.account} if default else {}
        try:
            s3.head_bucket(Bucket=self.bucket, **owner)
            return
        except ClientError as error:
            if code(error) in ("403", "AccessDenied"):
                raise UserError(
                    f"bucket {self.bucket}: access denied; choose another with --bucket"
                ) from None
            if code(error) not in ("404", "NoSuchBucket"):
                raise
        where = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        s3.create_bucket(Bucket=self.bucket, **({} if self.region == "us-east-1" else where))
        s3.put_public_access_block(
            Bucket=self.bucket,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )


def default_bucket(region: str, account: str) -> str:
    """The default bucket for data and results."""
    return f"berth-{region}-{account}"


def connect(
    *,
    where: Where = "local",
    image_uri: str | None = None,
    role: str | None = None,
    bucket: str | None = None,
    region: str | None = None,
    tags: dict[str, str] | None = None,
    plan: bool = False,
    executor: ExecutorName = "auto",
    needs_role: bool = True,
) -> Target:
    """The target of the options; starts the local SageMaker if it is not running.

    With `plan` nothing is started or created.

    Raises:
        UserError: on AWS, there are no credentials, region or role; locally, the running SageMaker
            has another executor.
    """
    connector = _connect_local if where == "local" else _connect_aws
    target = connector(region, plan, executor, role, needs_role)
    return Target(
        where=where,
        url=target.url,
        region=target.region,
        account=target.account,
        role=target.role,
        bucket=bucket or default_bucket(target.region, target.account),
        image_uri=image_uri or target.image_uri,
        tags=MADE_BY | (tags or {}),
        plan=plan,
        credentials=target.credentials,
    )


def _connect_local(
    region: str | None, plan: bool, executor: ExecutorName, role: str | None, _needs_role: bool
) -> Target:
    region = region or LOCAL_REGION
    url = _find_url(plan, executor)
    arn = _role_arn(role or LOCAL_ROLE, "aws", ACCOUNT)
    key = None if url is None else credentials(Home.find())
    return Target("local", url, region, ACCOUNT, arn, "", LOCAL_IMAGE, credentials=key)


def _find_url(plan: bool, executor: ExecutorName) -> str | None:
    from local.emulator import daemon

    address = daemon.running() if plan else daemon.up(executor=executor)
    if address is None:
        return None
    if executor not in ("auto", address.executor):
        raise UserError(
            f"--executor: found {executor}, but the local SageMaker is running with "
            f"{address.executor}; stop it first: berth down"
        )
    return str(address.url)


def _connect_aws(
    region: str | None, plan: bool, _executor: ExecutorName, role: str | None, needs_role: bool
) -> Target:
    import boto3
    from botocore.exceptions import NoCredentialsError, ProfileNotFound

    try:
        session = boto3.Session(region_name=region)
    except ProfileNotFound as error:
        raise UserError(f"AWS: {error}") from None
    if session.region_name is None:
        raise UserError("--region: missing, expected one such as eu-west-1 (or AWS_REGION)")
    if needs_role and not role:
        raise UserError(
            "--role: missing, expected the ARN of an IAM role that SageMaker can assume "
            "(or BERTH_ROLE)"
        )
    region = session.region_name
    if plan and role and role.startswith("arn:"):
        account = role.split(":")[4]
    else:
        try:
            account = session.client("sts").get_caller_identity()["Account"]
        except NoCredentialsError:
            raise UserError(
                "AWS: no credentials found; sign in with `aws login` or `aws sso login`, "
                "or set AWS_PROFILE"
            ) from None
    image = f"{account}.dkr.ecr.{region}.{domain(region)}/{REPOSITORY}:latest"
    arn = _role_arn(role, partition(region), account) if role else ""
    return Target("aws", None, region, account, arn, "", image)


def _role_arn(role: str, partition: str, account: str) -> str:
    return role if role.startswith("arn:") else f"arn:{partition}:iam::{account}:role/{role}"


def _local_session(region: str, key: Credentials) -> Any:
    import boto3
    import botocore.session

    nothing = (None, None, os.devnull, None)
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nothing,
            "credentials_file": nothing,
        }
    )
    return boto3.Session(
        aws_access_key_id=key.key_id,
        aws_secret_access_key=key.secret,
        region_name=region,
        botocore_session=core,
    )
