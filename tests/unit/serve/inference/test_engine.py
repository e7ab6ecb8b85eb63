import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from container.artifact import Artifact
from container.errors import ArtifactError
from container.images.reference import reference_image
from container.openvino_runtime import core
from container.precisions import Bfloat16, Int8
from serve.inference import engine
from serve.inference.engine import EngineError, OpenVinoEngine, TorchEngine, check, load_engine
from serve.inference.precision import passes, possible
from tests.unit.serve.artifacts import CROP, ChannelMeans, write_artifact, write_graph


def expected(batch: np.ndarray) -> np.ndarray:
    logits = batch.mean(axis=(1, 2)) / 10
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, CROP, CROP, 3), np.uint8)


@pytest.mark.parametrize("graph_dtype", [np.float32, np.uint8])
def test_openvino_predicts_any_batch_size_and_both_dtypes(
    artifact: Artifact, batch: np.ndarray, graph_dtype: type
) -> None:
    assert artifact.openvino is not None
    write_graph(artifact.openvino, dtype=graph_dtype)
    loaded = OpenVinoEngine(artifact, cpus=1)
    for size in (1, 5, 2):
        for given in (batch[:size], batch[:size].astype(np.float32)):
            answers = loaded.predict(given)
            assert answers.dtype == np.float32
            np.testing.assert_allclose(answers, expected(batch[:size]), atol=1e-6)


def test_answers_are_not_overwritten_by_the_next_pass(
    artifact: Artifact, batch: np.ndarray
) -> None:
    loaded = OpenVinoEngine(artifact, cpus=1)
    first = loaded.predict(batch[:1])
    kept = first.copy()
    loaded.predict(batch[1:2])
    np.testing.assert_array_equal(first, kept)


def test_a_damaged_export_is_named_in_one_line(artifact: Artifact) -> None:
    assert artifact.openvino is not None
    artifact.openvino.write_text("<net>\n</net>")
    with pytest.raises(ArtifactError, match=r"^\S*model.xml: OpenVINO cannot load it: .+$"):
        OpenVinoEngine(artifact, cpus=1)


def test_the_first_prediction_must_have_one_probability_per_class(artifact: Artifact) -> None:
    check(OpenVinoEngine(artifact, cpus=1), artifact)
    assert artifact.openvino is not None
    write_graph(artifact.openvino, classes=7)
    with pytest.raises(EngineError, match=r"gives \(1, 7\) .* expected \(1, 3\)"):
        check(OpenVinoEngine(artifact, cpus=1), artifact)


def test_weights_that_are_not_finite_are_found(artifact: Artifact) -> None:
    class Broken(ChannelMeans):
        def predict(self, batch: np.ndarray) -> np.ndarray:
            return np.full((len(batch), 3), np.nan, np.float32)

    with pytest.raises(EngineError, match="sum to nan, expected 1"):
        check(Broken(), artifact)


def test_the_reference_prediction_must_match_that_of_the_training_job(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    artifact = Artifact.read(path)
    assert artifact.reference is None
    served = OpenVinoEngine(artifact, cpus=1)
    made = served.predict(reference_image(CROP)[None])[0]
    description = json.loads((path / "model.json").read_text())
    for moved, right in ((0.0, True), (0.001, True), (0.02, False)):
        card = [float(made[0]) + moved, *map(float, made[1:])]
        description["export"]["reference"] = card
        (path / "model.json").write_text(json.dumps(description))
        kept = Artifact.read(path)
        if right:
            check(served, kept)
            continue
        with pytest.raises(EngineError, match="reference image"):
            check(served, kept)
        served.exact = False
        check(served, kept)


def test_the_export_is_preferred_on_a_cpu(artifact: Artifact) -> None:
    assert load_engine(artifact, cpus=2, gpu=False).name == "OpenVINO on 2 CPU cores"


def test_without_export_or_torch_loading_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "torch_installed", lambda: False)
    artifact = Artifact.read(write_artifact(tmp_path, export=False))
    with pytest.raises(ArtifactError, match="no OpenVINO export, and PyTorch"):
        load_engine(artifact, cpus=1, gpu=False)


def test_an_unusable_gpu_is_logged_and_the_cpu_serves(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert load_engine(artifact, cpus=1, gpu=True).name == "OpenVINO on 1 CPU core"
    assert "PyTorch cannot use the GPU" in caplog.text
    assert "serving on the CPU instead" in caplog.text


def write_weights(artifact: Artifact) -> None:
    import torch
    from safetensors.torch import save_file

    from container.architectures import build_network

    torch.manual_seed(0)
    network, _ = build_network("resnet18", 3, image_size=CROP, stem="small")
    save_file(network.state_dict(), artifact.weights)


def test_an_artifact_without_export_is_served_with_torch_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from container.models import load_classifier

    artifact = Artifact.read(write_artifact(tmp_path, export=False))
    write_weights(artifact)

    loaded = load_engine(artifact, cpus=torch.get_num_threads(), gpu=False)

    assert isinstance(loaded, TorchEngine)
    assert "no OpenVINO export; serving with PyTorch" in caplog.text
    check(loaded, artifact)
    batch = np.random.default_rng(0).integers(0, 256, (3, CROP, CROP, 3), np.uint8)
    with torch.inference_mode():
        direct = load_classifier(artifact)(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(loaded.predict(batch), direct, atol=1e-5)
    np.testing.assert_allclose(loaded.predict(batch.astype(np.float32)), direct, atol=1e-5)


HARMLESS = Bfloat16(
    images=100, accuracy=0.9, float32_accuracy=0.9, same_label=1.0, max_difference=0.01
)
HARMFUL = replace(HARMLESS, accuracy=0.8)
AS_GOOD = Int8(
    images=100,
    accuracy=0.9,
    float32_accuracy=0.9,
    same_label=1.0,
    max_difference=0.01,
    tolerance=0.5,
    calibration_images=100,
)
WORSE = replace(AS_GOOD, accuracy=0.8)


def capable(monkeypatch: pytest.MonkeyPatch, *capabilities: str) -> None:
    """Make OpenVINO report these capabilities of the processor."""
    monkeypatch.setattr(ov.Core, "get_property", lambda *_: list(capabilities))


def test_bfloat16_if_processor_and_model_support_it(
    tmp_path: Path, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO falls back to float32 on a processor without bfloat16."""
    capable(monkeypatch, "FP32", "BF16")
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=HARMLESS))
    loaded = load_engine(artifact, cpus=2, gpu=False, precision="bfloat16")
    assert loaded.name == "OpenVINO on 2 CPU cores in bfloat16"
    answers = loaded.predict(batch)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, expected(batch), atol=0.05)


def test_bfloat16_changes_results_if_supported(tmp_path: Path, batch: np.ndarray) -> None:
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=HARMLESS))
    exact = load_engine(artifact, cpus=1, gpu=False).predict(batch)
    rounded = load_engine(artifact, cpus=1, gpu=False, precision="bfloat16").predict(batch)
    possible = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert (np.abs(rounded - exact).max() > 1e-4) == possible


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", "float16"), ("float32", "float32"), ("bfloat16", "bfloat16")],
)
def test_precision_on_a_gpu(
    tmp_path: Path, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch, precision: str, dtype: str
) -> None:
    """A CPU stands in for the GPU; it supports the same precisions."""
    import torch

    artifact = Artifact.read(write_artifact(tmp_path, export=False, bfloat16=HARMLESS))
    write_weights(artifact)
    processor = torch.device("cpu")
    monkeypatch.setattr(torch, "device", lambda _: processor)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    loaded = load_engine(artifact, cpus=1, gpu=True, precision=precision)
    assert isinstance(loaded, TorchEngine)
    seen = []
    loaded._module.network.conv1.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    answers = loaded.predict(batch)
    assert answers.dtype == np.float32
    assert [str(each) for each in seen] == [f"torch.{dtype}"]
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_float32_is_the_default(tmp_path: Path, precision: str) -> None:
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=HARMLESS))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision=precision)
    assert loaded.name == "OpenVINO on 1 CPU core"


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (None, "the training job did not measure the accuracy in bfloat16; serving in float32"),
        (HARMFUL, "bfloat16 loses too much accuracy (accuracy 0.8000 on 100 images, 0.9000 in"),
    ],
)
def test_a_model_inaccurate_in_bfloat16_is_served_in_float32_and_logged(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    measured: Bfloat16 | None,
    said: str,
) -> None:
    capable(monkeypatch, "FP32", "BF16")
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=measured))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision="bfloat16")
    assert loaded.name == "OpenVINO on 1 CPU core"
    assert f"{tmp_path}: {said}" in caplog.text


def test_a_processor_without_bfloat16_serves_in_float32_and_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    capable(monkeypatch, "FP32")
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=HARMLESS))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision="bfloat16")
    assert loaded.name == "OpenVINO on 1 CPU core"
    assert "this processor has no bfloat16; serving in float32" in caplog.text


def test_int8_loads_a_separate_graph(tmp_path: Path, batch: np.ndarray) -> None:
    artifact = Artifact.read(write_artifact(tmp_path, int8=AS_GOOD))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision="int8")
    assert loaded.name == "OpenVINO on 1 CPU core in int8"
    powers = np.exp(batch.mean(axis=(1, 2)) * 0.05)
    answers = loaded.predict(batch)
    np.testing.assert_allclose(answers, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (None, "the training job made no int8 (hyperparameter quantize=int8); serving in float32"),
        (WORSE, "int8 loses too much accuracy (accuracy 0.8000 on 100 images, 0.9000 in"),
    ],
)
def test_without_int8_it_is_served_in_float32_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, measured: Int8 | None, said: str
) -> None:
    artifact = Artifact.read(write_artifact(tmp_path, int8=measured))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision="int8")
    assert loaded.name == "OpenVINO on 1 CPU core"
    assert [each.message for each in caplog.records if "serving in float32" in each.message] == [
        message for message in caplog.messages if f"{tmp_path}: {said}" in message
    ]
    assert f"{tmp_path}: {said}" in caplog.text


def test_a_processor_without_int8_serves_in_float32_and_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    capable(monkeypatch, "FP32")
    artifact = Artifact.read(write_artifact(tmp_path, int8=AS_GOOD))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision="int8")
    assert loaded.name == "OpenVINO on 1 CPU core"
    assert "this processor has no int8; serving in float32" in caplog.text


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_float32_logs_faster_precisions_without_loading_them(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    caplog.set_level("INFO")
    capable(monkeypatch, "FP32", "BF16", "INT8")
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=HARMLESS, int8=AS_GOOD))
    assert artifact.openvino_int8 is not None
    artifact.openvino_int8.write_text("no graph")
    loaded = load_engine(artifact, cpus=1, gpu=False, precision=precision)
    assert loaded.name == "OpenVINO on 1 CPU core"
    assert f"BERTH_PRECISION=fastest may serve this model faster, in bfloat16: {HARMLESS}" in (
        caplog.text
    )
    assert f"int8: {AS_GOOD}" in caplog.text


@pytest.mark.parametrize(
    ("milliseconds", "name"),
    [
        ([20.0, 10.0, 5.0], " in int8"),
        ([20.0, 10.0, 9.9], " in bfloat16"),
        ([10.0, 9.8, 9.5], ""),
        ([10.0, 12.0, 30.0], ""),
    ],
)
def test_fastest_is_measured_and_a_tie_goes_to_float32(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    milliseconds: list[float],
    name: str,
) -> None:
    caplog.set_level("INFO")
    capable(monkeypatch, "FP32", "BF16", "INT8")
    monkeypatch.setattr(engine, "passes", lambda *_: [each / 1000 for each in milliseconds])
    artifact = Artifact.read(write_artifact(tmp_path, bfloat16=HARMLESS, int8=AS_GOOD))
    loaded = load_engine(artifact, cpus=1, gpu=False, precision="fastest")
    assert loaded.name == f"OpenVINO on 1 CPU core{name}"
    assert f"float32 {milliseconds[0]:.2f} ms" in caplog.text
    assert f"int8 {milliseconds[2]:.2f} ms" in caplog.text


@pytest.mark.parametrize(
    ("capabilities", "compared"),
    [(("BF16",), {"float32", "bfloat16"}), (("INT8",), {"float32", "int8"}), ((), {"float32"})],
)
def test_the_fastest_is_supported_by_processor_and_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: tuple[str, ...],
    compared: set[str],
) -> None:
    capable(monkeypatch, "FP32", *capabilities)
    both = Artifact.read(write_artifact(tmp_path / "both", bfloat16=HARMLESS, int8=AS_GOOD))
    assert set(possible(both)) == compared
    neither = Artifact.read(write_artifact(tmp_path / "neither", bfloat16=HARMFUL, int8=WORSE))
    assert possible(neither) == ["float32"]
    loaded = load_engine(neither, cpus=1, gpu=False, precision="fastest")
    assert loaded.name == "OpenVINO on 1 CPU core"


def test_passes_are_measured_for_each_engine(tmp_path: Path) -> None:
    artifact = Artifact.read(write_artifact(tmp_path, int8=AS_GOOD))
    engines = [OpenVinoEngine(artifact, 1, precision=each) for each in ("float32", "int8")]
    found = passes([each.predict for each in engines], CROP)
    assert len(found) == 2
    assert all(0 < seconds < 60 for seconds in found)


@pytest.mark.parametrize(("precision", "said"), [("int8", True), ("fastest", False)])
def test_a_gpus_fastest_is_float16(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
    said: bool,
) -> None:
    asked = []

    def gpu_engine(*_given: object, precision: str, **_named: object) -> ChannelMeans:
        asked.append(precision)
        return ChannelMeans()

    monkeypatch.setattr(engine, "TorchEngine", gpu_engine)
    artifact = Artifact.read(write_artifact(tmp_path, int8=AS_GOOD))
    load_engine(artifact, cpus=1, gpu=True, precision=precision)
    assert asked == ["auto"]
    assert ("int8 is for CPUs; serving in float16" in caplog.text) == said


def test_the_openvino_engine_does_not_import_torch(model_dir: Path) -> None:
    code = f"""
import json, sys
from pathlib import Path
from container.artifact import Artifact
from serve.app import application
from serve.inference.engine import check, load_engine
artifact = Artifact.read(Path({str(model_dir)!r}))
check(load_engine(artifact, cpus=1, gpu=False), artifact)
print(json.dumps([name for name in ("torch", "torchvision", "nncf") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
