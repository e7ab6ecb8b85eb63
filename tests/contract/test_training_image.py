"""Properties of the training image that can only be tested with Docker."""

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.docker,
    pytest.mark.parametrize("platform", ["docker"], indirect=True),
]

WRONG = {"epochs": "many"}
"""Fails a job once it has read its configuration, which shows that it was started."""


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
def test_a_job_starts_with_each_command_and_entrypoint(
    platform: Any, make_tree: Any, options: dict[str, Any]
) -> None:
    assert_it_ran(platform.train(make_tree(WRONG), **options))


def test_the_tree_is_read_from_sagemaker_base_dir(platform: Any, make_tree: Any) -> None:
    environment = {"SAGEMAKER_BASE_DIR": "/data/job"}
    assert_it_ran(platform.train(make_tree(WRONG), environment, base="/data/job"))


def test_the_job_is_pid_1(platform: Any, make_tree: Any, wait_for: Any) -> None:
    """A shell as PID 1 would not forward SIGTERM."""
    with platform.start(make_tree({"epochs": "5000"}), command=None) as running:
        wait_for(lambda: "epoch=1;" in running.logs(), running)
        read = running.container.exec_run(["cat", "/proc/1/cmdline"])
        first = read.output.decode().split("\0")
    assert Path(first[0]).name.startswith("python"), first
    assert Path(first[1]).name == "train", first


def test_a_user_unknown_to_the_image_can_train(platform: Any, make_tree: Any) -> None:
    """As with `docker run --user`: the user has no name and no home folder, and owns no files."""
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


def test_a_job_completes_with_little_shared_memory(platform: Any, make_tree: Any) -> None:
    """Workers pass batches through /dev/shm, 64 MB by default; here it has 1 MB for 16 images."""
    tree = make_tree({"image_size": "96", "workers": "4", "batch_size": "16"})
    result = platform.train(tree, shm_size="1m")
    assert result.code == 0, result.logs
    assert "--shm-size" in result.logs
    assert result.tree.failure is None
