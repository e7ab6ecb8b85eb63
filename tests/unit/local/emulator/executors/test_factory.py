from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from local.emulator.executors import ExecutorError, ExecutorName, docker, engine
from local.emulator.executors.factory import create_executor
from local.emulator.home import Home

Tags = Sequence[list[str] | None]


def use_engine(monkeypatch: pytest.MonkeyPatch, images: Tags | None) -> None:
    """Simulate an engine whose images have these tags; None means no engine."""

    def connect(timeout: float = 0) -> SimpleNamespace:
        if images is None:
            raise ExecutorError("no Docker engine answers at x; use --executor process")
        return SimpleNamespace(
            api=SimpleNamespace(
                base_url="http+docker://localhost",
                images=lambda: [{"RepoTags": tags} for tags in images],
            ),
            close=lambda: None,
            info=lambda: {"NCPU": 2},
        )

    monkeypatch.setattr(engine, "connect", connect)
    monkeypatch.setattr(docker, "connect", connect)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([["berth:latest"]], "docker"),
        ([None, ["x:1", "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:2"]], "docker"),
        ([["berth-base:bookworm"], ["not/berth-toy:latest"], None], "process"),
        ([], "process"),
        (None, "process"),
    ],
)
def test_auto_means_docker_if_an_engine_has_the_image(
    home: Home, monkeypatch: pytest.MonkeyPatch, images: Tags | None, expected: str
) -> None:
    use_engine(monkeypatch, images)
    assert create_executor(home, "auto").name == expected


def test_docker_without_an_engine_is_an_error_that_names_the_alternative(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_engine(monkeypatch, None)
    with pytest.raises(ExecutorError, match="--executor process"):
        create_executor(home, "docker")


@pytest.mark.parametrize("name", ["docker", "process"])
def test_an_executor_is_chosen_by_name(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: ExecutorName
) -> None:
    use_engine(monkeypatch, [])
    assert create_executor(home, name).name == name
