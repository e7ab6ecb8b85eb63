"""moto as AWS, and a local SageMaker that starts no processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local.client.target import Target
from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import serve
from tests.unit.local.trained_job import write_job

ROLE = "arn:aws:iam::123456789012:role/berth"


@pytest.fixture
def moto_target(moto_url: str) -> Target:
    """Return a target that is only moto, with an empty bucket."""
    requests.post(f"{moto_url}/moto-api/reset", timeout=60).raise_for_status()
    target = Target(
        "local", moto_url, "us-east-1", "123456789012", ROLE, "bucket", "berth:latest", {"a": "b"}
    )
    target.ensure_bucket()
    return target


@pytest.fixture
def moto_aws(moto_url: str, moto_target: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Make AWS's SDK use the same moto as AWS."""
    for name in ("AWS_PROFILE", "AWS_REGION", "BERTH_ROLE", "BERTH_WHERE", "BERTH_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:latest"
    return Target("aws", None, "us-east-1", "123456789012", ROLE, "bucket", image)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path / "home")


@pytest.fixture
def server(home: Home) -> Iterator[Server]:
    with serve(home) as server:
        yield server


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    """Return the folder of the training job `first`, with the output of our image."""
    write_job(tmp_path / "first")
    return tmp_path / "first"
