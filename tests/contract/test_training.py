"""SageMaker's training contract, for the `train` command and the image."""

import hashlib
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

STOP_LIMIT = 120
"""Seconds between SageMaker's SIGTERM and its SIGKILL."""
FAILURE_LIMIT = 1024
"""Characters of output/failure that become FailureReason."""


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_completed_job_writes_a_model_and_a_report_and_no_failure(trained: Any) -> None:
    assert trained.code == 0
    assert trained.tree.failure is None
    assert {path.name for path in trained.tree.model.iterdir()} >= {
        "model.safetensors",
        "model.json",
    }
    assert {path.name for path in trained.tree.output.iterdir()} >= {
        "metrics.jsonl",
        "evaluation.json",
    }


def test_the_model_has_no_symlinks(trained: Any) -> None:
    """Endpoints refuse archives with links."""
    kinds = {path: path.is_symlink() for path in trained.tree.model.rglob("*")}
    assert kinds
    assert not any(kinds.values())


def test_inputs_are_not_changed(trained: Any, channels: dict[str, Path]) -> None:
    """FastFile channels are read-only; with Docker all of /opt/ml/input is mounted read-only."""
    for name, source in channels.items():
        assert digests(trained.tree.root / "input" / "data" / name) == digests(source)


def test_metric_definitions_match_the_logged_metrics(trained: Any) -> None:
    for metric in ("train:loss", "validation:loss", "validation:accuracy"):
        found = re.findall(rf"{metric}=([0-9.]+);", trained.logs)
        assert found, f"{metric} is nowhere in:\n{trained.logs}"
        assert all(float(value) >= 0 for value in found)


def test_the_model_records_the_job_name(trained: Any) -> None:
    assert trained.tree.description()["provenance"]["job"] == "contract"


def test_the_toolkits_variables_are_set(trained: Any) -> None:
    """Scripts for SageMaker's training toolkit read them; torchrun's ranks inherit them."""
    found = json.loads((trained.tree.output / "variables.json").read_text())
    base = Path(found["SM_MODEL_DIR"]).parent
    assert base in (Path("/opt/ml"), trained.tree.root)
    assert found["SM_OUTPUT_DATA_DIR"] == str(base / "output" / "data")
    assert json.loads(found["SM_CHANNELS"]) == ["train", "validation"]
    assert found["SM_CHANNEL_TRAIN"] == str(base / "input" / "data" / "train")
    assert json.loads(found["SM_HOSTS"]) == ["algo-1"]
    assert found["SM_CURRENT_HOST"] == "algo-1"
    assert int(found["SM_NUM_GPUS"]) >= 0
    assert found["SM_HP_ARCH"] == json.loads(found["SM_HPS"])["arch"] == "squeezenet1_1"


def test_hyperparameter_encodings_and_input_modes_are_equivalent(
    platform: Any, trained: Any, make_tree: Any
) -> None:
    """SDK v3 JSON-encodes every value, boto3 users write plain text; names may have dashes."""
    tree = make_tree(mode="FastFile")
    tree.configure(
        {
            "arch": '"squeezenet1_1"',
            "weights": '"none"',
            "image-size": "32",
            "epochs": "1",
            "batch_size": "8",
            "workers": '"0"',
            "freeze": "false",
            "sagemaker_job_name": '"contract"',
            "_tuning_objective_metric": '"validation:accuracy"',
        }
    )
    result = platform.train(tree)
    assert result.code == 0, result.logs
    used = tree.description()["provenance"]["hyperparameters"]
    assert used == trained.tree.description()["provenance"]["hyperparameters"]


@pytest.mark.parametrize(
    ("hyperparameters", "found", "expected"),
    [
        ({"leraning_rate": "0.1"}, "leraning_rate", "learning_rate"),
        ({"batch-sizes": "8"}, "batch-sizes", "batch_size"),
        ({"epochs": "many"}, "epochs", "many"),
        ({"arch": "resnet19"}, "resnet19", "resnet18"),
    ],
)
def test_an_invalid_hyperparameter_is_named_in_the_failure(
    platform: Any, make_tree: Any, hyperparameters: dict[str, str], found: str, expected: str
) -> None:
    result = platform.train(make_tree(hyperparameters))
    assert result.code == 1, result.logs
    assert result.tree.failure is not None
    first = result.tree.failure.splitlines()[0]
    assert found in first
    assert expected in first


@pytest.mark.parametrize("missing", ["channel", "folder"])
def test_a_missing_channel_is_named(
    platform: Any, make_tree: Any, channels: dict[str, Path], missing: str
) -> None:
    sources = dict.fromkeys(("validation", "test"), channels["validation"])
    tree = make_tree(sources=sources)
    if missing == "folder":
        tree = make_declared_only(tree)
    result = platform.train(tree)
    assert result.code == 1, result.logs
    assert result.tree.failure is not None
    assert "train" in result.tree.failure.splitlines()[0]


def make_declared_only(tree: Any) -> Any:
    """Declare a channel `train` that was never mounted."""
    path = tree.root / "input" / "config" / "inputdataconfig.json"
    declared = json.loads(path.read_text())
    path.write_text(json.dumps(declared | {"train": declared["validation"]}))
    return tree


def test_the_failure_file_starts_with_the_reason_in_one_line(
    platform: Any, make_tree: Any, channels: dict[str, Path], tmp_path: Path
) -> None:
    """SageMaker shows only its first 1024 characters."""
    one_class = tmp_path / "one"
    shutil.copytree(channels["train"] / "red", one_class / "red")
    result = platform.train(make_tree(sources={"train": one_class}))
    assert result.code == 1, result.logs
    reason = (result.tree.failure or "")[:FAILURE_LIMIT]
    assert "Traceback" not in reason
    assert len(reason.splitlines()) == 1
    assert "class" in reason
    assert "red" in reason


def test_the_failure_of_an_earlier_run_is_replaced(platform: Any, make_tree: Any) -> None:
    """A warm pool or a restart keeps the tree."""
    tree = make_tree({"epochs": "many"})
    (tree.root / "output" / "failure").write_text("an older story\n")
    result = platform.train(tree)
    assert result.code == 1, result.logs
    assert "epochs" in (tree.failure or "")


def test_a_job_resumes_from_the_checkpoint_saved_at_sigterm(
    platform: Any, make_tree: Any, wait_for: Any
) -> None:
    tree = make_tree({"epochs": "5000"})
    with platform.start(tree) as running:
        wait_for(lambda: "epoch=2;" in running.logs(), running)
        running.signal(signal.SIGTERM)
        code = running.wait(STOP_LIMIT)
        logs = running.logs()
    assert code == 143, logs
    assert tree.checkpoints, logs
    done = max(int(number) for number in re.findall(r"epoch=(\d+);", logs))

    tree.configure({**json.loads(read_config(tree)), "epochs": str(done + 2)})
    again = platform.train(tree)
    assert again.code == 0, again.logs
    assert tree.failure is None
    epochs = [int(number) for number in re.findall(r"epoch=(\d+);", again.logs)]
    assert min(epochs) > 1, again.logs
    assert max(epochs) == done + 2
    assert (tree.model / "model.safetensors").exists()


def read_config(tree: Any) -> str:
    return (tree.root / "input" / "config" / "hyperparameters.json").read_text()


def test_sigterm_during_startup_stops_the_job(platform: Any, make_tree: Any, wait_for: Any) -> None:
    """Before the first step there is nothing to save, but the job must still stop."""
    tree = make_tree({"epochs": "5000"})
    with platform.start(tree) as running:
        wait_for(lambda: "network:" in running.logs(), running)
        running.signal(signal.SIGTERM)
        code = running.wait(STOP_LIMIT)
        logs = running.logs()
    assert code == 143, logs
