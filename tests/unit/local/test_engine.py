import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.engine import NoEngine, connect, image_facts

if TYPE_CHECKING:
    from docker.client import DockerClient


def test_without_an_engine_the_platform_of_an_image_is_unknown(tmp_path: Path) -> None:
    """Runs in a separate process, as the SDK leaves the refused socket to the garbage collector."""
    code = (
        "from local.engine import NoEngine, connect, image_facts\n"
        "print(image_facts('berth:latest', 2))\n"
        "try: connect(2)\n"
        "except NoEngine as error: print(error)"
    )
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    nothing, line = output.splitlines()
    assert nothing == "None"
    assert line.startswith(f"no Docker engine answers at unix://{tmp_path}/none.sock (")


def test_ssh_is_refused_with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@192.0.2.7")
    with pytest.raises(NoEngine, match=r"forward its socket with ssh .*DOCKER_HOST=unix:///"):
        connect(2)


@pytest.mark.docker
def test_the_engines_description_of_an_image(engine: "DockerClient", image: str) -> None:
    assert image_facts("berth-nothing-of-this-name", 60) is None
    facts = image_facts(image, 60)
    assert facts is not None
    assert facts["Id"] == engine.images.get(image).id
    assert facts["Os"] == "linux"


@pytest.mark.docker
@pytest.mark.parametrize("there", [True, False])
def test_the_docker_clis_context_is_followed(
    there: bool, engine: "DockerClient", tmp_path: Path
) -> None:
    """The context is that of Docker Desktop, with its socket in the user's home folder."""
    own = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    host = own if there else f"unix://{tmp_path}/none.sock"
    environment = os.environ | {"DOCKER_CONFIG": str(tmp_path)}
    environment.pop("DOCKER_HOST", None)
    for words in (["create", "desktop", "--docker", f"host={host}"], ["use", "desktop"]):
        subprocess.run(
            ["docker", "context", *words], env=environment, check=True, capture_output=True
        )
    code = (
        "from local.engine import NoEngine, connect\n"
        "try: print(connect(60).info()['ID'])\n"
        "except NoEngine as error: print(error)"
    )
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert (engine.info()["ID"] in output) is there, output
    assert ("no Docker engine answers" in output) is not there
