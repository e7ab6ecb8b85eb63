"""What SageMaker may ask of the training image that only Docker can show."""

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.docker,
    pytest.mark.parametrize("platform", ["docker"], indirect=True),
]

WRONG = {"epochs": "many"}
"""Ends a job as soon as it has read its configuration: proof enough that it was started."""


def assert_it_ran(result: Any) -> None:
    assert result.code == 1, result.logs
    assert "epochs" in (result.tree.failure or ""), result.logs


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"command": None}, id="no command at all"),
        pytest.param({"command": ["train"]}, id="the command train"),
        pytest.param({"command": [], "entrypoint": ["train"]}, id="ContainerEntrypoint"),
        pytest.param(
            {"command": ["-c", "exec train"], "entrypoint": ["/bin/sh"]},
            id="ContainerEntrypoint and ContainerArguments",
        ),
    ],
)
def test_every_way_of_starting_a_job(
    platform: Any, make_tree: Any, options: dict[str, Any]
) -> None:
    assert_it_ran(platform.train(make_tree(WRONG), **options))


def test_the_tree_may_be_elsewhere(platform: Any, make_tree: Any) -> None:
    environment = {"SAGEMAKER_BASE_DIR": "/data/job"}
    assert_it_ran(platform.train(make_tree(WRONG), environment, base="/data/job"))


def test_no_shell_stands_between_sagemaker_and_the_job(
    platform: Any, make_tree: Any, wait_for: Any
) -> None:
    """A shell as PID 1 would keep SIGTERM to itself."""
    with platform.start(make_tree({"epochs": "5000"}), command=None) as running:
        wait_for(lambda: "epoch=1;" in running.logs(), running)
        read = running.container.exec_run(["cat", "/proc/1/cmdline"])
        first = read.output.decode().split("\0")
    assert Path(first[0]).name.startswith("python"), first
    assert Path(first[1]).name == "train", first


def test_a_user_whom_the_image_does_not_know_trains(platform: Any, make_tree: Any) -> None:
    """As `docker run --user`: no name, no home folder, nothing of the image is theirs."""
    tree = make_tree({"profile": "true", "debug": "true"})
    user = os.getuid() or 12345
    if os.getuid() == 0:
        for path in (tree.root, *tree.root.rglob("*")):
            os.chown(path, user, user)
    result = platform.train(tree, user=f"{user}:{user}")
    assert result.code == 0, result.logs
    assert "ermission" not in result.logs
    assert "writable" not in result.logs
    assert (tree.model / "model.json").is_file()


def test_a_small_shared_memory_kills_no_job(platform: Any, make_tree: Any) -> None:
    """Workers hand batches over in /dev/shm, 64 MB under plain Docker; here 1 MB for 16 images."""
    tree = make_tree({"image_size": "96", "workers": "4", "batch_size": "16"})
    result = platform.train(tree, shm_size="1m")
    assert result.code == 0, result.logs
    assert "--shm-size" in result.logs
    assert result.tree.failure is None
