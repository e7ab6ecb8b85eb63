"""Training on features: the model, its evaluation and the features channel."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from container.artifact import Artifact
from container.errors import FeatureError, JobEnded
from container.features import graph
from container.features import job as jobs
from container.features.extraction import FeatureExtractor
from container.features.job import wants_features
from container.hyperparameters import HyperparameterError, Hyperparameters
from container.images.checking import Checker
from container.results import export, finalize
from local.requests.features import NO_FEATURES

FROZEN: dict[str, Any] = {"freeze": True, "augment": "none", "epochs": 3}


def left(base: Path) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Return the weights, the evaluation and the metrics that a job wrote."""
    data = base / "output" / "data"
    metrics = [json.loads(line) for line in (data / "metrics.jsonl").read_text().splitlines()]
    evaluation = json.loads((data / "evaluation.json").read_text())
    return load_file(base / "model" / "model.safetensors"), evaluation, metrics


def forget(base: Path) -> None:
    """Remove a job's output, but not its features."""
    for name in ("model", "output", "checkpoints"):
        shutil.rmtree(base / name, ignore_errors=True)


def folder(base: Path) -> Path:
    return base / "features"


def entries(base: Path) -> list[Path]:
    return sorted(path.parent for path in folder(base).glob("*/features.json"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"head_hidden": "16", "dropout": 0.3, "label_smoothing": 0.1, "class_weights": "balanced",
         "ema": 0.5, "gradient_clip": 1, "early_stopping_patience": 2},
    ],
)  # fmt: skip
def test_the_head_equals_one_trained_through_the_backbone(job: Any, given: Any) -> None:
    base = job(**FROZEN, **given, feature_cache="on")
    assert len(entries(base)) == 2, "train and validation"
    weights, evaluation, metrics = left(base)
    forget(base)
    base = job(**FROZEN, **given, feature_cache="off")
    through, expected, through_metrics = left(base)
    assert weights.keys() == through.keys()
    for name, tensor in through.items():
        np.testing.assert_allclose(weights[name], tensor, atol=1e-4, rtol=0, err_msg=name)
    assert evaluation["accuracy"] == expected["accuracy"]
    assert [one["validation:accuracy"] for one in metrics] == [
        one["validation:accuracy"] for one in through_metrics
    ]
    assert evaluation["golden"]["predictions"][0]["probability"] == pytest.approx(
        expected["golden"]["predictions"][0]["probability"], abs=1e-4
    )


def test_another_trial_reuses_the_features(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base = job(**FROZEN)
    before = {path: path.stat().st_mtime_ns for path in folder(base).glob("*/features.*")}
    assert "features of train images: 36 x" in capsys.readouterr().out
    forget(base)
    job(**FROZEN | {"learning_rate": 0.02, "epochs": 2})
    assert {path: path.stat().st_mtime_ns for path in folder(base).glob("*/features.*")} == before
    assert "features of train images" not in capsys.readouterr().out


def test_augmented_views_are_limited_by_epochs(job: Any) -> None:
    base = job(freeze=True, epochs=2, mixup=0.2, augment="strong")
    assert len(entries(base)) == 2 + 1
    forget(base)
    job(freeze=True, epochs=5, augment_views=3, mixup=0.2, augment="strong")
    assert len(entries(base)) == 3 + 1


def test_reasons_against_features_are_logged_or_refused(job: Any) -> None:
    said: list[str] = []
    assert not wants_features(Hyperparameters(freeze=True, cutmix=1), False, said.append)
    assert not wants_features(Hyperparameters(freeze=True), True, said.append)
    assert ["cutmix" in line or "debugger" in line for line in said] == [True, True]
    assert not wants_features(Hyperparameters(), False, said.append)
    assert len(said) == 2
    with pytest.raises(FeatureError, match="'feature_cache': found on, but the debugger"):
        wants_features(Hyperparameters(freeze=True, feature_cache="on"), True, said.append)
    for given in ({}, {"freeze": "true", "cutmix": "1"}):
        with pytest.raises(HyperparameterError, match="'feature_cache': needs"):
            Hyperparameters.parse({"feature_cache": "on", **given})


def test_a_convolutional_head_trains_through_the_backbone(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {**FROZEN, "arch": "squeezenet1_1", "epochs": 1}
    base = job(**given)
    assert entries(base) == []
    assert "the head 'classifier.1' takes a tensor of shape" in capsys.readouterr().out
    forget(base)
    with pytest.raises(JobEnded, match="'feature_cache': found on, but the head"):
        job(**given, feature_cache="on")


def test_a_network_without_separate_features_logs_the_line_that_clients_expect(job: Any) -> None:
    with pytest.raises(JobEnded, match=NO_FEATURES):
        job(**{**FROZEN, "arch": "squeezenet1_1"}, features_only=True)


def test_features_only_writes_a_channel_for_other_jobs(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    base = job(**FROZEN, features_only=True)
    assert sorted(path.name for path in (base / "model").iterdir()) == ["features"]
    assert not (base / "output" / "data" / "evaluation.json").exists()
    channel = base / "input" / "data" / "features"
    (base / "model").rename(channel)
    shutil.rmtree(folder(base))
    capsys.readouterr()
    job(channels=("train", "validation", "features"), **FROZEN)
    assert entries(base) == []
    assert "train images" not in capsys.readouterr().out
    forget(base)
    with pytest.raises(JobEnded, match="found features of other weights of the backbone"):
        job(channels=("train", "validation", "features"), **FROZEN, seed=1)


def test_trials_in_a_warm_pool_repeat_no_work(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job.base / "sagemaker" / "warmpoolcache").mkdir(parents=True)
    base = job(**FROZEN, export=True)
    first, _, _ = left(base)
    assert entries(base) == []
    assert Artifact.read(base / "model").export["max_difference"] <= 1e-4
    forget(base)
    capsys.readouterr()

    def twice(*_args: Any, **_options: Any) -> None:
        raise AssertionError("it was done before")

    for owner, name in ((Checker, "check"), (graph, "convert"), (export, "convert")):
        monkeypatch.setattr(owner, name, twice)
    monkeypatch.setattr(FeatureExtractor, "_compute", twice)
    monkeypatch.setattr(finalize, "evaluate", twice)
    base = job(**FROZEN | {"learning_rate": 0.05}, export=True)
    log = capsys.readouterr().out
    assert "OpenVINO export: probabilities within" in log
    assert "no int8 (quantize=auto)" in log
    assert "features of" not in log
    second, evaluation, _ = left(base)
    assert evaluation["images"] == 12
    assert not np.array_equal(first["fc.weight"], second["fc.weight"])


def test_evaluation_runs_the_backbone_if_features_differ(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = job(**FROZEN)
    _, by_features, _ = left(base)
    forget(base)
    capsys.readouterr()
    monkeypatch.setattr(jobs, "TOLERANCE", -1.0)
    _, through, _ = left(job(**FROZEN))
    assert "evaluation runs the backbone" in capsys.readouterr().out
    assert through["confusion"] == by_features["confusion"]


def test_a_features_channel_is_for_jobs_that_train_on_features(job: Any, tmp_path: Path) -> None:
    (tmp_path / "features" / "key").mkdir(parents=True)
    (tmp_path / "features" / "key" / "features.json").write_text("{}")
    (job.base / "input" / "data").mkdir(parents=True)
    (job.base / "input" / "data" / "features").symlink_to(tmp_path / "features")
    with pytest.raises(JobEnded, match="channel 'features': found one, expected none in a job"):
        job(channels=("train", "validation", "features"))
    with pytest.raises(JobEnded, match="channel 'features' .*: found no features; expected those"):
        job(channels=("train", "validation", "features"), **FROZEN)
