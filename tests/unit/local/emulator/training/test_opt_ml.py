"""The /opt/ml tree."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from local.emulator.training.opt_ml import BadPath, OptMl, hosts_of, local_path
from tests.training_requests import channel
from tests.unit.local.emulator.training_harness import request


def written(tree: OptMl) -> dict[str, Any]:
    config = tree.base / "input" / "config"
    return {path.stem: json.loads(path.read_text()) for path in config.iterdir()}


def make(tree: OptMl, wanted: dict[str, Any]) -> dict[str, Any]:
    hosts = hosts_of(wanted)
    tree.make(wanted, hosts[0], hosts)
    return written(tree)


def test_a_minimal_request_creates_the_three_files_and_the_folders(tmp_path: Path) -> None:
    tree = OptMl(tmp_path / "algo-1")
    files = make(tree, request(hyperparameters={"learning_rate": "0.1"}))
    assert files["hyperparameters"] == {"epochs": "2", "seconds": "0.02", "learning_rate": "0.1"}
    assert files["inputdataconfig"] == {}
    assert files["resourceconfig"] == {
        "current_host": "algo-1",
        "current_instance_type": "ml.m5.large",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": "ml.m5.large",
                "hosts": ["algo-1"],
            }
        ],
        "network_interface_name": "eth0",
    }
    assert len(files) == 3
    for name in ("input/data", "model", "output/data", "checkpoints"):
        assert (tree.base / name).is_dir()


def test_the_properties_of_a_channel_are_written(tmp_path: Path) -> None:
    given = channel("train", "s3://bucket/train", S3DataDistributionType="ShardedByS3Key") | {
        "ContentType": "image/png",
        "CompressionType": "None",
        "InputMode": "FastFile",
    }
    files = make(OptMl(tmp_path), request(InputDataConfig=[given]))
    assert files["inputdataconfig"] == {
        "train": {
            "TrainingInputMode": "FastFile",
            "S3DistributionType": "ShardedByS3Key",
            "RecordWrapperType": "None",
            "ContentType": "image/png",
            "CompressionType": "None",
        }
    }


OPTIONAL: dict[str, Any] = {
    "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints"},
    "DebugHookConfig": {
        "S3OutputPath": "s3://bucket/debug",
        "HookParameters": {"save_interval": "10"},
        "CollectionConfigurations": [{"CollectionName": "losses"}],
    },
    "TensorBoardOutputConfig": {"S3OutputPath": "s3://bucket/board"},
    "ProfilerConfig": {
        "S3OutputPath": "s3://bucket/profile",
        "ProfilingIntervalInMilliseconds": 500,
    },
}


@pytest.mark.parametrize("field", OPTIONAL)
def test_each_optional_file_exists_only_if_configured(field: str, tmp_path: Path) -> None:
    files = make(OptMl(tmp_path), request(**{field: OPTIONAL[field]}))
    assert set(files) - {"hyperparameters", "inputdataconfig", "resourceconfig"} == {field.lower()}


@pytest.mark.parametrize("field", ["DebugRuleConfigurations", "ProfilerRuleConfigurations"])
def test_rules_are_written_as_requested(field: str, tmp_path: Path) -> None:
    rule = {"RuleConfigurationName": "a", "RuleEvaluatorImage": "b", "RuleParameters": {"c": "d"}}
    with_rules: dict[str, Any] = {field: [rule]}
    without: dict[str, Any] = {field: []}
    files = make(OptMl(tmp_path), request(**with_rules))
    assert files[field.lower()] == [rule]
    assert field.lower() not in make(OptMl(tmp_path / "other"), request(**without))


def test_the_hooks_configuration_has_its_path_and_collections(tmp_path: Path) -> None:
    files = make(OptMl(tmp_path), request(**OPTIONAL))
    assert files["debughookconfig"] == {
        "S3OutputPath": "s3://bucket/debug",
        "LocalPath": "/opt/ml/output/tensors",
        "HookParameters": {"save_interval": "10"},
        "CollectionConfigurations": [{"CollectionName": "losses"}],
    }
    assert files["checkpointconfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert files["tensorboardoutputconfig"]["LocalPath"] == "/opt/ml/output/tensorboard"
    assert "LocalPath" not in files["profilerconfig"]
    assert (tmp_path / "output" / "tensors").is_dir()


def test_smdebug_reads_the_hooks_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_config = pytest.importorskip("smdebug.core.json_config")
    make(OptMl(tmp_path), request(**OPTIONAL))
    path = tmp_path / "input" / "config" / "debughookconfig.json"
    given = json_config.get_json_config_as_dict(str(path))
    assert json_config.collect_hook_config_params(given)["out_dir"] == "/opt/ml/output/tensors"
    assert json_config.get_include_collections(given) == ["losses"]


def test_a_plain_process_gets_local_paths(tmp_path: Path) -> None:
    tree = OptMl(tmp_path, seen_as=PurePosixPath(tmp_path), interface="lo")
    files = make(tree, request(**OPTIONAL))
    assert files["checkpointconfig"]["LocalPath"] == str(tmp_path / "checkpoints")
    assert files["resourceconfig"]["network_interface_name"] == "lo"


def test_hosts_are_numbered_across_instance_groups() -> None:
    groups = [
        {"InstanceGroupName": "big", "InstanceType": "ml.p3.2xlarge", "InstanceCount": 1},
        {"InstanceGroupName": "small", "InstanceType": "ml.m5.large", "InstanceCount": 2},
    ]
    hosts = hosts_of(request(ResourceConfig={"InstanceGroups": groups}))
    assert [(host.name, host.group) for host in hosts] == [
        ("algo-1", "big"),
        ("algo-2", "small"),
        ("algo-3", "small"),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/x",
        "/opt/ml",
        "/opt/ml/../etc",
        "/opt/ml/model",
        "/opt/ml/output",
        "/opt/ml/sagemaker/warmpoolcache",
        "relative",
    ],
)
def test_an_unsupported_local_path_is_refused(path: str) -> None:
    wanted = {"CheckpointConfig": {"S3Uri": "s3://bucket/c", "LocalPath": path}}
    with pytest.raises(BadPath, match=r"CheckpointConfig\.LocalPath: found"):
        local_path(wanted, "CheckpointConfig")


def test_outputs_except_checkpoints_are_removed(tmp_path: Path) -> None:
    tree = OptMl(tmp_path)
    make(tree, request())
    for name in ("model/a", "output/failure", "output/data/b", "checkpoints/c"):
        (tmp_path / name).write_text("x")
    tree.clear_outputs(PurePosixPath("checkpoints"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert [name for name in left if not name.startswith("input/")] == ["checkpoints/c"]
    tree.clear_outputs(None)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoints_below_another_folder_are_kept_too(tmp_path: Path) -> None:
    for name in ("output/kept/c", "output/data/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    OptMl(tmp_path).clear_outputs(PurePosixPath("output/kept"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "output/kept/c"]


def test_clearing_never_follows_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    tree = OptMl(tmp_path / "algo-1")
    tree.base.mkdir()
    (tree.base / "model").symlink_to(outside)
    (tree.base / "output").symlink_to(outside)
    tree.clear()
    assert (outside / "precious").exists()
    assert list(tree.base.iterdir()) == []


def test_a_failure_is_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "failure").symlink_to(tmp_path / "secret")
    assert OptMl(tmp_path).failure(100) == ""
