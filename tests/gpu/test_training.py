"""Training on a GPU."""

from typing import Any

import pytest
import torch
from flows import configure, interrupt, train

GPU = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


@pytest.mark.gpu("training in float32")
def test_float32(jobs: Any, figure: Any) -> None:
    learns(jobs(amp="off"), figure)


@pytest.mark.gpu("training in bf16")
def test_bf16(jobs: Any, figure: Any) -> None:
    if not torch.cuda.is_bf16_supported():
        pytest.skip("a GPU with bfloat16")
    learns(jobs(amp="bf16"), figure)


@pytest.mark.gpu("training in fp16, with a scaled loss")
def test_fp16(jobs: Any, figure: Any) -> None:
    learns(jobs(amp="fp16"), figure)


@pytest.mark.gpu("a head on features, computed once on the GPU")
def test_features(jobs: Any, figure: Any) -> None:
    earlier = train(jobs())
    frozen = {"freeze": "true", "feature_cache": "on", "weights": earlier.base / "model"}
    learns(jobs(**frozen, learning_rate=0.05, epochs=10), figure)


def learns(base: Any, figure: Any) -> None:
    trained = train(base)
    assert trained.epochs[-1]["train:accuracy"] >= 0.8, trained.epochs
    assert trained.device == GPU
    figure(f"{trained.seconds:.1f} s, train:accuracy {trained.epochs[-1]['train:accuracy']:.2f}")


@pytest.mark.gpu("a job that was interrupted goes on")
def test_resume(jobs: Any, figure: Any) -> None:
    base = jobs(epochs=500)
    interrupt(base, "epoch=1;")
    reached = max(int(path.stem.rpartition("-")[2]) for path in checkpoints(base))
    configure(base, {"epochs": 501})
    interrupt(base, "epoch=")
    further = max(int(path.stem.rpartition("-")[2]) for path in checkpoints(base))
    assert further > reached
    figure(f"after step {reached}, to {further}")


def checkpoints(base: Any) -> Any:
    return list((base / "checkpoints").glob("checkpoint-*.json"))


@pytest.mark.gpu("DistributedDataParallel over NCCL")
def test_nccl(jobs: Any, figure: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("2 GPUs")
    pytest.importorskip("openvino", reason="openvino")
    trained = train(jobs(), exported=True)
    assert f"{torch.cuda.device_count()} processes" in trained.device
    assert trained.epochs[-1]["train:accuracy"] >= 0.8, trained.epochs
    figure(trained.device)
