"""The image's metadata and contents."""

import re
from typing import Any

import pytest

pytestmark = [
    pytest.mark.docker,
    pytest.mark.parametrize("platform", ["docker"], indirect=True),
]


@pytest.fixture(scope="module")
def config(engine: Any, image: str) -> dict[str, Any]:
    return dict(engine.images.get(image).attrs["Config"])


@pytest.fixture
def run(platform: Any) -> Any:
    """run(command): the exit status and output of a command in the image."""

    def run(command: list[str]) -> tuple[int, str]:
        with platform.command(command, network_mode="none") as running:
            return running.wait(120), running.logs()

    return run


def test_the_default_command_is_train(platform: Any, config: dict[str, Any]) -> None:
    """SDK v3's ModelTrainer sets no command; an entrypoint would get `train` as an argument."""
    assert config["Cmd"] == ["train"]
    assert not config["Entrypoint"]


def test_labels(platform: Any, config: dict[str, Any]) -> None:
    labels = config["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"]
    assert labels["org.opencontainers.image.revision"]


def test_environment_variables_request_gpus(platform: Any, config: dict[str, Any]) -> None:
    """The NVIDIA runtime reads these two; without them the container sees no GPU."""
    assert "NVIDIA_VISIBLE_DEVICES=all" in config["Env"]
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in config["Env"]


@pytest.mark.parametrize("compiler", ["cc", "gcc", "g++", "make"])
def test_the_image_has_no_compiler(platform: Any, run: Any, compiler: str) -> None:
    code, output = run(["which", compiler])
    assert code == 1, output


def test_installed_packages_are_compatible(platform: Any, run: Any) -> None:
    """Except for smdebug's pins, which do not exist for Python above 3.11: docs/installing.md."""
    _, output = run(["pip", "check"])
    unmet = re.findall(r"^(\S+) \S+ has requirement ([\w-]+)", output, re.MULTILINE)
    assert sorted(unmet) == [("smdebug", "protobuf"), ("smdebug", "pyinstrument")], output
    assert len(output.splitlines()) == len(unmet), output


def test_the_image_has_no_client_packages(platform: Any, run: Any) -> None:
    script = (
        "import importlib.util as u; print([bool(u.find_spec(n)) for n in ('sagemaker', 'local')])"
    )
    assert run(["python", "-c", script]) == (0, "[False, False]\n")


def test_the_image_has_no_build_secret(platform: Any, run: Any) -> None:
    code, output = run(["find", "/run/secrets", "/tmp", "/root/.cache", "-type", "f"])
    assert [line for line in output.splitlines() if "No such file" not in line] == []
    assert code in {0, 1}
