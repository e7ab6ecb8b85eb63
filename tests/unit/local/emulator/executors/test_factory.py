from types import SimpleNamespace

import pytest

from local.emulator.executors import ExecutorError, docker, engine
from local.emulator.executors.factory import create_executor


@pytest.fixture
def engine_with(monkeypatch):
    """engine_with(tags, …): an engine whose images have these tags; None for no engine."""

    def put(*images: list[str] | None, answers: bool = True) -> None:
        client = SimpleNamespace(
            api=SimpleNamespace(images=lambda: [{"RepoTags": tags} for tags in images]),
            close=lambda: None,
            info=lambda: {"NCPU": 2},
        )

        def connect(timeout: float = 0) -> SimpleNamespace:
            if not answers:
                raise ExecutorError("no Docker engine answers at x; use --executor process")
            return client

        monkeypatch.setattr(engine, "connect", connect)
        monkeypatch.setattr(docker, "connect", connect)

    return put


@pytest.mark.parametrize(
    ("images", "chosen"),
    [
        ([["berth:latest"]], "docker"),
        ([None, ["x:1", "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:2"]], "docker"),
        ([["berth-base:bookworm"], ["not/berth-toy:latest"], None], "process"),
        ([], "process"),
    ],
)
def test_auto_is_docker_where_the_engine_has_the_image(home, engine_with, images, chosen):
    engine_with(*images)
    assert create_executor(home, "auto").name == chosen


def test_auto_is_processes_where_no_engine_answers(home, engine_with):
    engine_with(answers=False)
    assert create_executor(home, "auto").name == "process"


def test_docker_without_an_engine_is_an_error_that_names_the_way_out(home, engine_with):
    engine_with(answers=False)
    with pytest.raises(ExecutorError, match="no Docker engine answers.*--executor process"):
        create_executor(home, "docker")


def test_what_is_asked_for_is_taken(home, engine_with):
    engine_with()
    assert create_executor(home, "docker").name == "docker"
    assert create_executor(home, "process").name == "process"
