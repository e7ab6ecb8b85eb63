"""The SageMaker Python SDK v2, in its own virtual environment, on the local SageMaker, offline."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.environments import EnvironmentMissing, environment
from tests.requirements import missing

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="session")
def sdk_v2(pytestconfig: pytest.Config) -> Path:
    """The python of an environment with SDK v2 and smdebug; kept in pytest's cache."""
    assert pytestconfig.cache is not None
    try:
        return environment(HERE / "sdk-v2.txt", pytestconfig.cache.mkdir("environments"))
    except EnvironmentMissing as error:
        missing(str(error))


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def variables(
    request: pytest.FixtureRequest, tmp_path: Path, preloaded: dict[str, str]
) -> Iterator[dict[str, str]]:
    """A notebook's environment variables: those of `berth up`, without the user's AWS settings."""
    if request.param == "docker":
        request.getfixturevalue("image")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    folders = filter(None, [preloaded.get("PYTHONPATH"), str(HERE / "offline")])
    kept |= preloaded | {
        "BERTH_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(folders),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OMP_NUM_THREADS": "1",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
    }
    berth = [sys.executable, "-m", "local.cli"]
    up = [*berth, "up", "--executor", request.param, "--port", "0"]
    started = subprocess.run(
        up, env=kept, capture_output=True, text=True, check=False, cwd=HERE.parents[1]
    )
    assert started.returncode == 0, started.stderr
    try:
        words = (shlex.split(line) for line in started.stdout.splitlines())
        exported = (word[1].partition("=") for word in words if word[:1] == ["export"])
        yield kept | {name: value for name, _, value in exported}
    finally:
        subprocess.run([*berth, "down"], env=kept, check=True, cwd=HERE.parents[1])


def test_notebook_with_sdk_v2(
    sdk_v2: Path, variables: dict[str, str], image_folder: Path, tmp_path: Path
) -> None:
    notebook = tmp_path / "notebook"
    notebook.mkdir()
    script = [str(HERE / "run_notebook.py"), str(HERE / "notebook.py"), str(image_folder)]
    done = subprocess.run(
        [str(sdk_v2), "-W", "ignore", *script],
        env=variables,
        cwd=notebook,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-10_000:]}\n{done.stderr[-10_000:]}"


def test_recorded_rules_are_those_that_sdk_v2_sends(sdk_v2: Path, tmp_path: Path) -> None:
    """The recording that tests/unit/container/rules/test_requests_sent.py reads is up to date."""
    written = tmp_path / "rules.json"
    subprocess.run(
        [str(sdk_v2), "-W", "ignore", str(HERE / "rule_requests.py"), str(written)],
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        check=True,
    )
    kept = HERE / "sdk-v2-rules.json"
    assert json.loads(written.read_text()) == json.loads(kept.read_text())
