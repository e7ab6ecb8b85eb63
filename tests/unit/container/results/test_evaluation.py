import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from container.data.index import Index
from container.data.loader import EpochLoader
from container.images.geometry import Geometry
from container.models import Classifier
from container.precisions import Bfloat16
from container.results.evaluation import (
    EvaluationResult,
    evaluate,
    evaluate_bfloat16,
    print_table,
    write_report,
)


@pytest.fixture
def evaluation(tmp_path: Path) -> EvaluationResult:
    """Return an evaluation of six images of three classes; the 2nd and the 5th are wrong."""
    paths = []
    for number, name in enumerate(["a", "a", "b$x^2$", "b$x^2$", "c<b>", "c<b>"]):
        file = tmp_path / "data" / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (40 * number, 10, 10)).save(file)
        paths.append(f"{name}/{number}.png")
    rows = [[8, 1, 1], [0, 9, 1], [1, 8, 1], [1, 7, 2], [5, 1, 4], [1, 1, 8]]
    return EvaluationResult(
        Index(
            root=tmp_path / "data",
            classes=("a", "b$x^2$", "c<b>"),
            paths=tuple(paths),
            labels=np.array([0, 0, 1, 1, 2, 2]),
        ),
        np.array(rows, dtype=np.float32) / np.float32(10),
    )


def test_accuracy_and_top5(evaluation: EvaluationResult) -> None:
    assert evaluation.accuracy == pytest.approx(4 / 6)
    assert evaluation.top5 == 1.0


def test_top5_with_more_than_five_classes(evaluation: EvaluationResult) -> None:
    probabilities = np.tile(np.linspace(1, 0, 8, dtype=np.float32), (2, 1))
    index = Index(evaluation.index.root, tuple("abcdefgh"), ("a/0", "h/1"), np.array([4, 5]))
    assert EvaluationResult(index, probabilities).top5 == 0.5


def test_confusion_rows_are_true_classes(evaluation: EvaluationResult) -> None:
    assert evaluation.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_per_class_metrics(evaluation: EvaluationResult) -> None:
    table = evaluation.by_class()
    assert table["a"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert table["b$x^2$"]["precision"] == pytest.approx(2 / 3)
    assert table["c<b>"]["recall"] == 0.5


def test_per_class_metrics_match_scikit_learn(tmp_path: Path) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    noise = np.random.default_rng(0)
    classes = tuple("abcdefg")
    index = Index(tmp_path, classes, ("a/0",) * 50, noise.integers(0, 6, 50))
    result = EvaluationResult(index, noise.random((50, 7), dtype=np.float32))
    options = {"labels": range(7)}
    expected = confusion_matrix(index.labels, result.predicted, **options)
    assert result.confusion.tolist() == expected.tolist()
    columns = precision_recall_fscore_support(
        index.labels, result.predicted, zero_division=0, **options
    )
    for row, values in zip(result.by_class().values(), zip(*columns, strict=True), strict=True):
        assert tuple(row.values()) == pytest.approx(values)


def test_a_class_never_predicted_nor_present_is_zero(evaluation: EvaluationResult) -> None:
    index = Index(evaluation.index.root, ("a", "b", "c"), ("a/0",), np.array([0]))
    table = EvaluationResult(index, np.array([[0.2, 0.8, 0.0]], np.float32)).by_class()
    assert table["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_worst_lists_the_most_confident_wrong_predictions_first(
    evaluation: EvaluationResult,
) -> None:
    assert [(m["path"], m["predicted"]) for m in evaluation.worst()] == [
        ("a/1.png", "b$x^2$"),
        ("c<b>/4.png", "a"),
    ]


def test_report_and_charts(evaluation: EvaluationResult, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    history: list[dict[str, float | None]] = [
        {"epoch": e, "train:loss": 1 / e, "train:accuracy": 0.5, "validation:loss": 1 / e,
         "validation:accuracy": 0.5, "learning_rate": 0.1}
        for e in (1, 2)
    ]  # fmt: skip
    report = write_report(evaluation, out, split="test", history=history, best_epoch=2)
    assert json.loads((out / "evaluation.json").read_text()) == report
    assert report["golden"]["path"] == "a/0.png"
    assert report["golden"]["predictions"][0] == {
        "label": "a", "probability": pytest.approx(0.8)
    }  # fmt: skip
    assert (out / "golden.png").read_bytes() == (tmp_path / "data" / "a" / "0.png").read_bytes()
    for name in ("confusion.png", "curves.png", "worst.png"):
        with Image.open(out / name) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert pixels.std() > 5, f"{name} is blank"


def test_no_chart_without_wrong_predictions(evaluation: EvaluationResult, tmp_path: Path) -> None:
    perfect = EvaluationResult(
        evaluation.index, np.eye(3, dtype=np.float32)[evaluation.index.labels]
    )
    write_report(perfect, tmp_path, split="test", history=[], best_epoch=1)
    assert not (tmp_path / "worst.png").exists()


def test_confusion_chart_of_many_classes(tmp_path: Path) -> None:
    from container.results.charts import draw_confusion

    path = draw_confusion(np.eye(133, dtype=np.int64), [f"breed {i}" for i in range(133)], tmp_path)
    with Image.open(path) as picture:
        assert max(picture.size) < 4000


def test_the_printed_table_is_aligned(evaluation: EvaluationResult) -> None:
    lines: list[str] = []
    print_table(evaluation, "test", lines.append)
    assert lines[-1] == "test: accuracy 0.6667, top-5 1.0000 on 6 images"
    assert len({len(line) for line in lines[:-1]}) == 1


CPU = torch.device("cpu")


class BrighterThan(nn.Module):
    """Predicts one of two classes: whether the mean of red is above a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.0], [1.0]]))
            self.linear.bias.copy_(torch.tensor([0.0, -threshold]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images[:, :1].mean(dim=(2, 3)))


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function that evaluates reds 254 and 255, twenty of each, in both precisions.

    The network sees them multiplied by `factor` and must distinguish them.
    """
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    paths, labels = [], []
    for label, red in enumerate((254, 255)):
        (tmp_path / str(label)).mkdir()
        for number in range(20):
            paths.append(f"{label}/{number:02}.png")
            labels.append(label)
            Image.new("RGB", (8, 8), (red, 0, 0)).save(tmp_path / paths[-1])
    index = Index(tmp_path, ("0", "1"), tuple(paths), np.array(labels))
    options: dict[str, Any] = {
        "image_size": 8,
        "batch_size": 16,
        "seed": 0,
        "workers": 0,
        "train": False,
    }

    def load(index: Index) -> EpochLoader:
        return EpochLoader(index, Geometry.for_size(8), **options)

    def compare(factor: float, network: nn.Module | None = None) -> Bfloat16 | None:
        std = (1 / 255 / factor,) * 3
        network = network or BrighterThan(254.5 * factor)
        classifier = Classifier(network, mean=(0, 0, 0), std=std)
        evaluation = evaluate(classifier, index, load(index), CPU)
        return evaluate_bfloat16(classifier, evaluation, load, CPU)

    return compare


def test_a_model_that_bfloat16_does_not_change(compared: Callable[..., Any]) -> None:
    """254 and 255 are exact with bfloat16's eight significant bits."""
    found = compared(1.0)
    assert (found.images, found.accuracy, found.float32_accuracy) == (40, 1.0, 1.0)
    assert found.same_label == 1.0
    assert found.good_enough


def test_a_model_that_bfloat16_is_too_coarse_for(compared: Callable[..., Any]) -> None:
    """259.08 and 260.1 are both 260 with bfloat16's eight significant bits."""
    found = compared(1.02)
    assert (found.images, found.accuracy, found.float32_accuracy) == (40, 0.5, 1.0)
    assert found.same_label == 0.5
    assert found.max_difference > 0.1
    assert not found.good_enough


def test_bfloat16_is_measured_on_a_limited_number_of_images(
    compared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container.results.evaluation.BFLOAT16_IMAGES", 10)
    found = compared(1.02)
    assert (found.images, found.float32_accuracy) == (10, 1.0)
    assert found.accuracy == 0.5, "the images are not of both classes alike"


def test_cpus_without_fast_bfloat16_skip_it(
    compared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert compared(1.0) is None


class Precisions(nn.Module):
    """Records whether TF32 is allowed at each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Any] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tf32 = torch.backends.cudnn.allow_tf32
        self.seen.add((torch.get_float32_matmul_precision(), tf32, images.dtype))
        return images[:, :2].mean(dim=(2, 3))


def test_evaluation_disables_tf32(
    compared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    network = Precisions()
    torch.set_float32_matmul_precision("high")
    try:
        compared(1.0, network)
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert network.seen == {("highest", False, torch.float32)}
