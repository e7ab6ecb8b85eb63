"""What the server's tests share: an executor that runs nothing, boto3 clients, a quiet home."""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config

from local.emulator.executors import Container, ContainerSpec, ImageMissing
from local.emulator.home import Home
from local.emulator.server import Server

REGION = "us-east-1"


class IdleExecutor:
    """An executor with no image, and leftovers of an earlier server to remove."""

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
    """A server in this process; a context manager."""
    return Server(home, port=port, executor=IdleExecutor())


def client(url: str, service: str, region: str = REGION, **config: Any) -> Any:
    """A boto3 client as a user makes one; tried once, so that an error is not hidden."""
    settings = Config(retries={"total_max_attempts": 1}, **config)
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=settings,
    )
