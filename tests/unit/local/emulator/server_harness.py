"""The harness of the server's tests: an executor that runs nothing, boto3 clients and a home."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from local.emulator.credentials import credentials
from local.emulator.executors import Container, ContainerSpec, ImageMissing
from local.emulator.home import Home
from local.emulator.server import Server

REGION = "us-east-1"
KEPT = {"Host", "Content-Type", "Content-MD5"}
"""Headers of a request that are signed beside those of AWS."""


class FakeIdleExecutor:
    """An executor without images, with containers of an earlier server to remove."""

    name = "process"
    max_hosts = 1

    def __init__(self) -> None:
        self.reaped = 0

    def check_image(self, image: str) -> None:
        raise ImageMissing(f"{image}: not here")

    def create_network(self, name: str, *, isolated: bool) -> None:
        raise AssertionError(f"{name}, {isolated}: nothing runs")

    def remove_network(self, name: str) -> None:
        raise AssertionError(f"{name}: nothing runs")

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        raise ImageMissing(f"{spec.image}: not here, nobody calls {on_line}")

    def reap(self) -> list[str]:
        self.reaped += 1
        return []


def serve(home: Home, port: int = 0) -> Server:
    """Return a server in this process, a context manager."""
    return Server(home, port=port, executor=FakeIdleExecutor())


def access_key(url: str) -> dict[str, str]:
    """Return boto3's arguments with the access key of the server at this address."""
    home = requests.get(f"{url}/_berth/health", timeout=60).json()["home"]
    key = credentials(Home(Path(home)))
    return {"aws_access_key_id": key.key_id, "aws_secret_access_key": key.secret}


def client(url: str, service: str, region: str = REGION, **config: Any) -> Any:
    """Return a boto3 client like a user's, but without retries, which would hide errors."""
    settings = Config(retries={"total_max_attempts": 1}, **config)
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=region,
        **access_key(url),
        config=settings,
    )


class Signed(requests.auth.AuthBase):
    """Signs a request of the library `requests` like AWS's clients, with the server's key.

    Args:
        url: the server's.
        service: the signing name.
        payload: the signed payload, such as `UNSIGNED-PAYLOAD`; None signs the body's hash.
    """

    def __init__(self, url: str, service: str = "s3", payload: str | None = None) -> None:
        key = access_key(url)
        credentials = Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])
        self._payload = payload
        self._auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, REGION)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        headers = {name: value for name, value in request.headers.items() if name in KEPT}
        headers |= {n: v for n, v in request.headers.items() if n.lower().startswith("x-amz-")}
        body = request.body.encode() if isinstance(request.body, str) else request.body
        signed = AWSRequest(request.method, request.url, headers, body)
        if self._payload is not None:
            self._auth.payload = lambda _request: self._payload
        self._auth.add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request
