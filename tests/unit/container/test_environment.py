import json
import os
from pathlib import Path
from typing import Any

import pytest

from container.environment import Environment, first_failure, in_tree, write_failure
from container.errors import DataError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.delenv("TRAINING_JOB_NAME", raising=False)
    (tmp_path / "input" / "config").mkdir(parents=True)
    return tmp_path


def write(tree: Any, name: Any, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    (tree / "input" / "config" / name).write_text(text)


def test_without_configuration_there_is_one_host(tree: Any) -> None:
    environment = Environment.read()
    assert environment.hosts == ("algo-1",)
    assert environment.host_rank == 0
    assert environment.job_name == "local"
    assert environment.hyperparameters == {}
    assert environment.channels == {}
    assert environment.weights_channel is None


def test_the_default_base_directory_is_sagemakers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    assert str(Environment.read().model_dir) == "/opt/ml/model"


def test_paths_of_a_user_without_a_home_folder_are_not_expanded(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setenv("HOME", "/home/someone")
    assert in_tree(tree, "~/weights") == Path("/home/someone/weights")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert in_tree(tree, "~/weights") == Path("~/weights")
    assert in_tree(tree, "/opt/ml/input/a") == tree / "input" / "a"


def test_hosts_are_sorted_and_ranked(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "job-7")
    write(tree, "resourceconfig.json", {
        "current_host": "algo-2", "hosts": ["algo-2", "algo-1"], "network_interface_name": "ethwe",
    })  # fmt: skip
    environment = Environment.read()
    assert environment.hosts == ("algo-1", "algo-2")
    assert environment.host_rank == 1
    assert environment.network_interface == "ethwe"
    assert environment.job_name == "job-7"


def test_channels_are_the_declared_ones(tree: Any) -> None:
    write(tree, "inputdataconfig.json", {"train": {}, "weights": {}})
    for name in ("train", "weights", "stray"):
        (tree / "input" / "data" / name).mkdir(parents=True)
    environment = Environment.read()
    assert environment.channels == {"train": tree / "input" / "data" / "train"}
    assert environment.weights_channel == tree / "input" / "data" / "weights"


def test_without_a_declaration_the_folders_are_the_channels(tree: Any) -> None:
    (tree / "input" / "data" / "train").mkdir(parents=True)
    (tree / "input" / "data" / "file").write_text("")
    assert list(Environment.read().channels) == ["train"]


def test_a_declared_channel_that_is_missing(tree: Any) -> None:
    write(tree, "inputdataconfig.json", {"train": {}})
    with pytest.raises(DataError, match="channel 'train' is declared but"):
        Environment.read().channels  # noqa: B018 - reading is the test


@pytest.mark.parametrize(("text", "found"), [("{", "Expecting"), ("[]", "found list")])
def test_config_that_is_not_an_object(tree: Any, text: str, found: str) -> None:
    write(tree, "resourceconfig.json", text)
    with pytest.raises(DataError, match=f"resourceconfig.json: expected a JSON object.*{found}"):
        Environment.read()


def test_a_host_that_is_not_among_the_hosts(tree: Any) -> None:
    write(tree, "resourceconfig.json", {"current_host": "algo-9", "hosts": ["algo-1"]})
    with pytest.raises(DataError, match="current_host is 'algo-9'"):
        Environment.read()


def test_the_first_failure_is_kept(tree: Any) -> None:
    assert first_failure(tree) == ""
    write_failure(tree, "first\nmore")
    write_failure(tree, "second")
    assert first_failure(tree) == "first"
    Environment.read().clear_failure()
    assert first_failure(tree) == ""


def test_pipe_mode_is_refused(tree: Any) -> None:
    write(tree, "inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe"}})
    with pytest.raises(DataError, match="found input mode Pipe, expected File or FastFile"):
        Environment.read().channels  # noqa: B018


@pytest.mark.parametrize(("hosts", "refused"), [(["a"], False), (["a", "b"], True)])
def test_sharded_data_is_refused_with_several_hosts(tree: Any, hosts: Any, refused: bool) -> None:
    write(tree, "resourceconfig.json", {"current_host": "a", "hosts": hosts})
    write(tree, "inputdataconfig.json", {"train": {"S3DistributionType": "ShardedByS3Key"}})
    (tree / "input" / "data" / "train").mkdir(parents=True)
    environment = Environment.read()
    if refused:
        with pytest.raises(DataError, match="found distribution ShardedByS3Key"):
            environment.channels  # noqa: B018
    else:
        assert list(environment.channels) == ["train"]


def test_only_an_existing_network_interface_is_used(
    tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    write(tree, "resourceconfig.json", {
        "current_host": "a", "hosts": ["a"], "network_interface_name": "nonesuch9",
    })  # fmt: skip
    Environment.read().join_network()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    write(tree, "resourceconfig.json", {
        "current_host": "a", "hosts": ["a"], "network_interface_name": "lo",
    })  # fmt: skip
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "")
    del os.environ["GLOO_SOCKET_IFNAME"]
    Environment.read().join_network()
    assert os.environ.pop("GLOO_SOCKET_IFNAME") == "lo"
    os.environ.pop("NCCL_SOCKET_IFNAME", None)
