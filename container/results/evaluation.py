"""Evaluation of the model: accuracy, top-5, per-class metrics and confusion matrix.

Uses the `Classifier` and geometry of the artifact, so an endpoint gets the same numbers. matplotlib
is imported late because it would delay the start of every job.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from container.data.index import Index
from container.data.loader import EpochLoader
from container.files.json_files import to_json
from container.images.decode import printable
from container.models import Classifier
from container.precisions import Bfloat16, PrecisionCost

WORST = 16
"""How many wrong predictions are shown."""
TOP = 5
EVALUATION = "evaluation.json"
"""File name of the report in a job's output."""

BFLOAT16_IMAGES = 512
"""Images predicted again in bfloat16, at most."""


@dataclass(frozen=True)
class EvaluationResult:
    """Predictions for one split.

    Attributes:
        index: the images, N of C classes.
        probabilities: float32 (N, C), in the order of the index.
    """

    index: Index
    probabilities: npt.NDArray[np.float32]

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """int64 (N,): the most probable class of each image."""
        best: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return best

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is correct."""
        return float((self.predicted == self.index.labels).mean())

    @property
    def top5(self) -> float:
        """Share of images whose class is among the five most probable."""
        best = np.argsort(-self.probabilities, axis=1)[:, :TOP]
        return float((best == self.index.labels[:, None]).any(axis=1).mean())

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """int64 (C, C): images by true class (row) and predicted class (column)."""
        count = len(self.index.classes)
        cells = self.index.labels * count + self.predicted
        matrix: npt.NDArray[np.int64] = np.bincount(cells, minlength=count * count)
        return matrix.reshape(count, count)

    def by_class(self) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 (0 where undefined) and support (images) of each class."""
        matrix = self.confusion
        hits, predicted, support = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
        columns = (
            hits / np.maximum(predicted, 1),
            hits / np.maximum(support, 1),
            2 * hits / np.maximum(predicted + support, 1),
            support,
        )
        return {
            name: {
                "precision": float(p),
                "recall": float(r),
                "f1": float(f),
                "support": int(n),
            }
            for name, p, r, f, n in zip(self.index.classes, *columns, strict=True)
        }

    def worst(self) -> list[dict[str, Any]]:
        """The most confident wrong predictions, highest probability first."""
        names = self.index.classes
        return [
            {
                "path": self.index.paths[i],
                "label": names[self.index.labels[i]],
                "predicted": names[self.predicted[i]],
                "probability": float(self.probabilities[i].max()),
            }
            for i in self.worst_positions()
        ]

    def worst_positions(self) -> list[int]:
        """Where in the index those are."""
        certainty = self.probabilities.max(axis=1)
        wrong = np.flatnonzero(self.predicted != self.index.labels)
        order: list[int] = wrong[np.argsort(-certainty[wrong], kind="stable")][:WORST].tolist()
        return order

    def top(self, image: int) -> list[dict[str, Any]]:
        """The five most probable labels of one image with their probabilities."""
        row = self.probabilities[image]
        order = np.argsort(-row, kind="stable")[:TOP]
        return [{"label": self.index.classes[i], "probability": float(row[i])} for i in order]


def evaluate(
    classifier: Classifier, index: Index, loader: EpochLoader, device: torch.device
) -> EvaluationResult:
    """Predict every image of an index, of which `loader` yields batches in order."""
    with tf32_disabled():
        return EvaluationResult(index, _predict(classifier, loader, device))


def predict(
    classifier: Classifier, pixels: npt.NDArray[np.uint8], device: torch.device
) -> npt.NDArray[np.float32]:
    """Probabilities, float32 (N, C), of pixels, uint8 (N, crop, crop, 3), without TF32."""
    with tf32_disabled(), torch.inference_mode():
        probabilities: npt.NDArray[np.float32] = (
            classifier.eval()(torch.from_numpy(pixels).to(device)).cpu().numpy()
        )
    return probabilities


def evaluate_bfloat16(
    classifier: Classifier,
    evaluation: EvaluationResult,
    load: Callable[[Index], EpochLoader],
    device: torch.device,
    predict_bfloat16: Callable[[Index], npt.NDArray[np.float32] | None] | None = None,
) -> Bfloat16 | None:
    """Measure bfloat16 on some of the images, spread evenly over the classes.

    PyTorch's autocast, available on every training device, stands in for the serving engine. With a
    ResNet-18 on 1,000 CIFAR-10 images it changed 3 labels, OpenVINO's bfloat16 changed 5, and
    probabilities differed by at most 0.0095 and 0.0100.

    Args:
        predict_bfloat16: a faster way to predict images, float32 (N, C); None, or returning None,
            to run the network.

    Returns:
        None on a device without fast bfloat16.
    """
    if not _has_fast_bfloat16(device):
        return None
    chosen = evaluation.index.spread(BFLOAT16_IMAGES)
    index = evaluation.index.take(chosen)
    exact = EvaluationResult(index, evaluation.probabilities[chosen])
    predicted = predict_bfloat16(index) if predict_bfloat16 else None
    if predicted is None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            predicted = _predict(classifier, load(index), device)
    return Bfloat16(**asdict(precision_cost(exact, predicted)))


def precision_cost(exact: EvaluationResult, predicted: npt.NDArray[np.float32]) -> PrecisionCost:
    """Compare an evaluation in float32 with predictions of another precision, float32 (N, C)."""
    rounded = EvaluationResult(exact.index, predicted)
    return PrecisionCost(
        images=len(exact.index),
        accuracy=rounded.accuracy,
        float32_accuracy=exact.accuracy,
        same_label=float((rounded.predicted == exact.predicted).mean()),
        max_difference=float(np.abs(rounded.probabilities - exact.probabilities).max()),
    )


@contextmanager
def tf32_disabled() -> Iterator[None]:
    """Disable TF32, which GPUs use for convolutions by default.

    With its 10-bit mantissa probabilities differ by more than the 1e-4 allowed between training and
    serving.
    """
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _predict(
    classifier: Classifier, loader: EpochLoader, device: torch.device
) -> npt.NDArray[np.float32]:
    classifier.eval()
    rows = []
    with torch.inference_mode():
        for images, _ in loader.batches(0):
            pixels = images.to(device).permute(0, 2, 3, 1)
            rows.append(classifier(pixels).cpu().numpy())
    return np.concatenate(rows)


def write_report(
    evaluation: EvaluationResult,
    folder: Path,
    *,
    split: str,
    history: list[dict[str, float | None]],
    best_epoch: int,
) -> dict[str, Any]:
    """Write `evaluation.json`, the golden image and the charts to `folder`.

    The golden image is the first of the split. Its prediction is in the report: an endpoint that
    predicts it differently does not serve this model.

    Returns:
        The content of `evaluation.json`.
    """
    from container.results import charts

    first = PurePosixPath(evaluation.index.paths[0])
    golden = folder / f"golden{first.suffix.lower()}"
    golden.write_bytes(evaluation.index.read(0))
    report = {
        "split": split,
        "images": len(evaluation.index.paths),
        "accuracy": evaluation.accuracy,
        "top5": evaluation.top5,
        "best_epoch": best_epoch,
        "classes": evaluation.by_class(),
        "confusion": evaluation.confusion.tolist(),
        "worst": evaluation.worst(),
        "golden": {
            "path": evaluation.index.paths[0],
            "file": golden.name,
            "predictions": evaluation.top(0),
        },
    }
    (folder / EVALUATION).write_text(to_json(report, indent=2) + "\n", encoding="utf-8")
    charts.draw_confusion(evaluation.confusion, evaluation.index.classes, folder)
    charts.draw_curves(history, folder)
    images = [evaluation.index.read(position) for position in evaluation.worst_positions()]
    charts.draw_worst(images, evaluation.worst(), folder)
    return report


def print_table(evaluation: EvaluationResult, split: str, say: Callable[[str], None]) -> None:
    """Print the per-class metrics and the accuracy."""
    table = {printable(name): row for name, row in evaluation.by_class().items()}
    width = max(len("class"), *(len(name) for name in table))
    say(f"{'class':<{width}}  precision  recall      f1  images")
    for name, row in table.items():
        say(
            f"{name:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
            f"{row['f1']:6.3f}  {row['support']:6.0f}"
        )
    say(
        f"{split}: accuracy {evaluation.accuracy:.4f}, top-5 {evaluation.top5:.4f} "
        f"on {len(evaluation.index.paths)} images"
    )
