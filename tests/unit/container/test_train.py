"""Complete jobs in this process: their output, and their errors."""

import errno
import json
import os
import shutil
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from container import train
from container.architectures import build_network
from container.artifact import Artifact
from container.errors import JobEnded
from container.models import load_classifier
from container.results import export


def failure(job: Any) -> Any:
    return (job.base / "output" / "failure").read_text()


def fails(job: Any, said: Any, **given: Any) -> None:
    with pytest.raises(JobEnded) as ended:
        job(**given)
    assert ended.value.errno == 1
    first = failure(job).partition("\n")[0]
    assert said in first, first
    assert len(first) < 1024
    model = job.base / "model"
    assert not model.exists() or not list(model.iterdir())


def test_the_files_a_job_writes(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    network = {"head_hidden": "16,8", "dropout": 0.2}
    base = job(epochs=2, export=True, cutmix=1, augment="strong", quantize="int8", **network)
    artifact = Artifact.read(base / "model")
    assert (artifact.head_hidden, artifact.dropout) == ((16, 8), 0.2)
    assert artifact.classes == ("blue", "green", "red")
    assert (artifact.geometry.resize, artifact.geometry.crop) == (32, 32)
    assert artifact.export["max_difference"] <= 1e-4
    assert artifact.provenance["hyperparameters"]["learning_rate"] == 0.01
    assert artifact.provenance["weights"] is None

    output = base / "output" / "data"
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert evaluation["split"] == "validation"
    assert evaluation["images"] == 12
    assert set(evaluation["classes"]) == {"blue", "green", "red"}
    assert set(evaluation["classes"]["red"]) == {"precision", "recall", "f1", "support"}
    assert np.array(evaluation["confusion"]).sum() == 12
    for name in ("confusion.png", "curves.png", evaluation["golden"]["file"]):
        with Image.open(output / name) as picture:
            assert picture.size > (1, 1)
    assert not (base / "output" / "failure").exists()

    log = capsys.readouterr().out
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert artifact.bfloat16.images == 12
        assert artifact.bfloat16.float32_accuracy == evaluation["accuracy"]
        assert f"in bfloat16: {artifact.bfloat16}\n" in log
    assert artifact.int8 is not None
    assert artifact.int8.images == 12
    assert artifact.int8.float32_accuracy == evaluation["accuracy"]
    assert f"in int8: {artifact.int8}\n" in log
    assert evaluation["precisions"]["int8"] == asdict(artifact.int8)
    assert (artifact.openvino_int8 is not None) == artifact.int8.good_enough
    assert ("int8 is not kept" in log) != artifact.int8.good_enough
    accuracy = records[1]["validation:accuracy"]
    assert f"validation:accuracy={accuracy:.6g};" in log
    assert "weights: none" in log


def test_the_artifact_reproduces_the_golden_predictions(job: Any) -> None:
    base = job()
    artifact = Artifact.read(base / "model")
    golden = json.loads((base / "output" / "data" / "evaluation.json").read_text())["golden"]
    data = (base / "output" / "data" / golden["file"]).read_bytes()
    pixels = torch.from_numpy(artifact.geometry.load(data, name="golden"))[None]
    probabilities = load_classifier(artifact)(pixels)[0]
    for prediction in golden["predictions"]:
        place = artifact.classes.index(prediction["label"])
        assert probabilities[place].item() == pytest.approx(prediction["probability"], abs=1e-5)


def test_a_test_channel_is_evaluated(
    job: Any, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(image_folder, data)
    shutil.copytree(data / "validation", data / "test")
    for path in sorted((data / "test").rglob("*.png")):
        with Image.open(path) as picture:
            moved = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        moved.save(path)
    base = job(channels=("train", "validation", "test"), data=data)
    evaluation = json.loads((base / "output" / "data" / "evaluation.json").read_text())
    assert evaluation["split"] == "test"
    assert f"test:accuracy={evaluation['accuracy']:.6g};" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights(job: Any) -> None:
    digests = []
    for seed in (7, 7, 8):
        shutil.rmtree(job.base, ignore_errors=True)
        digests.append((job(seed=seed) / "model" / "model.safetensors").read_bytes())
    assert digests[0] == digests[1] != digests[2]


def test_frozen_backbone_keeps_every_weight_and_statistic(job: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network, head = build_network("shufflenet_v2_x0_5", 3, image_size=32)
    save_file(network.state_dict(), tmp_path / "start.safetensors")
    base = job(freeze=True, weights=str(tmp_path / "start.safetensors"), epochs=2)
    before, after = (
        load_file(tmp_path / "start.safetensors"),
        load_file(base / "model" / "model.safetensors"),
    )
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_frozen_statistics_stay_while_weights_learn(job: Any, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network, _ = build_network("shufflenet_v2_x0_5", 3, image_size=32)
    save_file(network.state_dict(), tmp_path / "start.safetensors")
    base = job(freeze_batch_norm=True, weights=str(tmp_path / "start.safetensors"))
    before, after = (
        load_file(tmp_path / "start.safetensors"),
        load_file(base / "model" / "model.safetensors"),
    )
    learnt = {name for name, _ in network.named_parameters()}
    for name in before:
        assert torch.equal(before[name], after[name]) != (name in learnt), name


@pytest.mark.parametrize(
    "options",
    [
        {
            "optimizer": "sgd",
            "momentum": 0.5,
            "nesterov": True,
            "ema": 0.5,
            "mixup": 0.2,
            "label_smoothing": 0.1,
            "class_weights": "balanced",
        },
        {
            "optimizer": "adam",
            "eps": 1e-6,
            "amp": "bf16",
            "gradient_clip": 0.1,
            "schedule": "constant",
        },
    ],
)
def test_options_train(job: Any, options: Any) -> None:
    artifact = Artifact.read(job(**options) / "model")
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    assert load_classifier(artifact)(images).sum(1).allclose(torch.ones(2))


def test_early_stopping(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    job(epochs=50, early_stopping_patience=2, learning_rate=1e-9, schedule="constant")
    assert "early stopping" in capsys.readouterr().out
    lines = (job.base / "output" / "data" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) < 50


def test_unknown_hyperparameter(job: Any) -> None:
    fails(job, "unknown hyperparameter 'learning_rat': did you mean 'learning_rate'?",
          learning_rat=1)  # fmt: skip


def test_unknown_architecture(job: Any) -> None:
    fails(job, "not a classifier of torchvision or timm; the nearest are", arch="resnet19")


def test_impossible_options_are_refused_before_an_image_is_read(job: Any, tmp_path: Path) -> None:
    for name in ("blue", "red"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.png").write_text("no picture")
    unusable: dict[str, Any] = {"channels": ("train",), "data": tmp_path}
    fails(job, "'resnet19' is not a classifier of torchvision or timm", arch="resnet19", **unusable)
    fails(job, "'weights': no file /nowhere.pth", weights="/nowhere.pth", **unusable)
    fails(job, "every class has a single image", **unusable)


def test_one_usable_image(job: Any, image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder / "validation", tmp_path / "validation")
    for name in ("red", "blue", "green"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.png").write_text("no picture")
    shutil.copy(image_folder / "train" / "red" / "0.png", tmp_path / "train" / "red")
    fails(job, "train has no usable image", data=tmp_path)
    for name in ("blue", "green"):
        shutil.rmtree(tmp_path / "validation" / name)
    fails(job, "class", data=tmp_path)


def test_image_too_small_for_the_network(job: Any) -> None:
    fails(job, "'image_size': 16 does not fit alexnet", arch="alexnet", image_size=16)


def test_weights_of_the_wrong_shape(job: Any, tmp_path: Path) -> None:
    network, _ = build_network("shufflenet_v2_x1_0", 3, image_size=32)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    fails(job, "does not fit the network", weights=str(tmp_path / "w.safetensors"))


def test_missing_channel(job: Any, image_folder: Path) -> None:
    fails(job, "validation", channels=("validation",))


def test_declared_channel_without_data(job: Any) -> None:
    fails(job, "channel 'train' is declared but", channels=("train",), data=Path("/nowhere"))


def test_one_class_only(job: Any, image_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "validation"):
        shutil.copytree(image_folder / split / "red", tmp_path / split / "red")
    fails(job, "class", data=tmp_path)


def test_a_loss_that_is_not_finite_is_reported_with_step_and_learning_rate(job: Any) -> None:
    fails(job, "with learning rate", optimizer="sgd", learning_rate=1000, epochs=20,
          schedule="constant", momentum=1)  # fmt: skip
    assert failure(job).startswith("loss is ")
    assert "at step " in failure(job)


def test_a_full_disk_leaves_no_partial_artifact(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_tensors: Any, path: Any, *_rest: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "save_state", full)
    fails(job, "disk full")
    assert list((job.base / "model").iterdir()) == []


def test_an_unexpected_error_is_one_line_followed_by_its_traceback(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("surprise\nmore")

    monkeypatch.setattr(train, "build_network", broken)
    with pytest.raises(JobEnded):
        job()
    assert failure(job).startswith("RuntimeError: surprise\n\nTraceback")


def test_checkpoints_of_another_run_are_refused_but_more_epochs_are_not(job: Any) -> None:
    job(epochs=1)
    job(epochs=2)
    with pytest.raises(JobEnded):
        job(epochs=2, learning_rate=0.02)
    assert "learning_rate=0.01 where this one has 0.02" in failure(job)


def test_a_stop_before_the_first_epoch_leaves_a_checkpoint_and_no_model(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from container.training import trainer

    step = trainer.Trainer._train_step

    def stopping(self: Any, group: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, group)

    monkeypatch.setattr(trainer.Trainer, "_train_step", stopping)
    with pytest.raises(JobEnded) as ended:
        job()
    assert ended.value.errno == 143
    assert failure(job).startswith("stopped by SIGTERM at epoch 1, step 1;")
    assert list((job.base / "checkpoints").glob("checkpoint-00000001.*"))
    assert not (job.base / "model").exists()


def test_compile_trains_the_compiled_network(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_nothing(module: Any) -> Any:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compile_nothing)
    job(compile=True)
    assert len(compiled) == 1


def test_compile_without_a_compiler_is_refused_before_training(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    fails(job, "torch.compile needs a C++ compiler", compile=True)
