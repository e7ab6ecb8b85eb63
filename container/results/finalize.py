"""The end of a training job: the artifact and its evaluation."""

import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import Protocol

import numpy as np
import numpy.typing as npt

from container.artifact import Artifact
from container.data.index import Index
from container.extras import installed_version
from container.files.json_files import replace_text, to_json
from container.hyperparameters import Hyperparameters
from container.models import Classifier
from container.results.evaluation import (
    EVALUATION,
    EvaluationResult,
    evaluate,
    evaluate_bfloat16,
    predict,
    print_table,
    write_report,
)
from container.results.export import Convert, update_description, write_artifact
from container.results.quantization import SHARE, START_SECONDS, Quantizer
from container.training.callbacks import Callback
from container.training.job import TrainingJob, digest
from container.training.metrics import MetricLogger, say
from container.training.state import TrainingProgress
from container.training.weights import Initialization

EXPORT_CHECKS = 16
"""Held-out images to compare an export with PyTorch on."""


class Shortcut(Protocol):
    """Results that a job on stored features has without running the backbone again."""

    @property
    def convert(self) -> Convert | None:
        """Converts the classifier to OpenVINO; None for the default conversion."""
        ...

    def probabilities(
        self,
        held_out: Index,
        checked: npt.NDArray[np.int64],
        expected: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32] | None:
        """Class probabilities of a split's images, float32 (N, C); None to run the network.

        Args:
            held_out: the split.
            checked: int64 positions of some of its images.
            expected: the network's probabilities of those, to compare with.
        """
        ...

    def predict_bfloat16(self, images: Index) -> npt.NDArray[np.float32] | None:
        """Probabilities of some images in bfloat16, float32 (N, C); None to run the network."""
        ...


def describe(job: TrainingJob, start: Initialization, progress: TrainingProgress) -> Artifact:
    """The description of the job's model for `model.json`."""
    hp, weights = job.hp, start.weights
    return Artifact(
        path=job.environment.model_dir,
        arch=hp.arch,
        stem=start.stem,
        head_hidden=hp.head_hidden,
        dropout=hp.dropout,
        image_size=hp.image_size,
        classes=job.splits.train.classes,
        geometry=job.geometry,
        mean=start.preprocessing.mean,
        std=start.preprocessing.std,
        export=None,
        provenance={
            "job": job.environment.job_name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "hyperparameters": hp.model_dump(mode="json"),
            "weights": {"source": weights.source, "sha256": weights.sha256} if weights else None,
            "epoch": progress.best_epoch,
            "validation_accuracy": progress.best,
            "train_images": len(job.splits.train.paths),
            "train_digest": digest(job.splits.train),
            "device": job.device_name,
            "versions": {
                "python": platform.python_version(),
                "berth": installed_version(),
                **{name: metadata.version(name) for name in ("torch", "torchvision", "timm")},
            },
        },
    )


def held_out_pixels(job: TrainingJob) -> npt.NDArray[np.uint8]:
    """uint8 (N, crop, crop, 3): held-out images to compare an export with PyTorch on."""
    held_out = job.splits.test or job.splits.validation
    checked = held_out.spread(EXPORT_CHECKS).tolist()
    loaded = [job.geometry.load(held_out.read(at), held_out.paths[at]) for at in checked]
    return np.stack(loaded)


def finish(
    job: TrainingJob,
    classifier: Classifier,
    artifact: Artifact,
    progress: TrainingProgress,
    callback: Callback,
    metrics: MetricLogger,
    *,
    export: bool = True,
    shortcut: Shortcut | None = None,
    elapsed: Callable[[], float] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """On rank 0: write the artifact, evaluate it, then quantize it.

    Args:
        export: also convert the model to OpenVINO.
        shortcut: results from stored features.
        elapsed: returns the job's seconds so far; None to skip int8.
        stopped: returns whether the job must stop.
    """
    loader = partial(job.loader, alone=True)
    split = "validation" if job.splits.test is None else "test"
    held_out = job.splits.test or job.splits.validation
    pixels = expected = convert = known = None
    checked = held_out.spread(EXPORT_CHECKS)
    if export or shortcut:
        pixels = held_out_pixels(job)
    if shortcut and pixels is not None:
        expected = predict(classifier, pixels, job.device)
        convert = shortcut.convert if export else None
    with callback.phase("export"):
        shown = pixels if export else None
        artifact = write_artifact(artifact, classifier, shown, say, convert, expected)
    with callback.phase("evaluation"):
        if shortcut and expected is not None:
            known = shortcut.probabilities(held_out, checked, expected)
        evaluation = (
            evaluate(classifier, held_out, loader(held_out), job.device)
            if known is None
            else EvaluationResult(held_out, known)
        )
        by_head = shortcut.predict_bfloat16 if shortcut else None
        bfloat16 = evaluate_bfloat16(classifier, evaluation, loader, job.device, by_head)
    print_table(evaluation, split, say)
    if bfloat16 is not None:
        say(f"in bfloat16: {bfloat16}")
        artifact = replace(artifact, bfloat16=bfloat16)
        update_description(artifact)
    folder = job.environment.output_data_dir
    report = write_report(
        evaluation, folder, split=split, history=progress.history, best_epoch=progress.best_epoch
    )
    if split == "test":
        metrics.final({"test:accuracy": report["accuracy"], "test:top5": report["top5"]})
    if elapsed is not None and artifact.openvino is not None:
        quantizer = Quantizer(job.splits.train, evaluation, loader, say, stopped)
        with callback.phase("export"):
            artifact = _quantize(job.hp, quantizer, artifact, elapsed())
    costs = {"bfloat16": artifact.bfloat16, "int8": artifact.int8}
    report["precisions"] = {name: asdict(cost) for name, cost in costs.items() if cost}
    replace_text(folder / EVALUATION, to_json(report, indent=2) + "\n")
    say(f"model: {job.environment.model_dir}; evaluation: {folder}")


def _quantize(
    hp: Hyperparameters, quantizer: Quantizer, artifact: Artifact, elapsed: float
) -> Artifact:
    """Add int8 if it is requested or takes a small share of the job's time.

    Returns:
        The artifact as it is now on disk.
    """
    if hp.quantize == "off":
        return artifact
    if hp.quantize == "auto":
        spare = SHARE * elapsed
        expected = quantizer.seconds(artifact) if spare > START_SECONDS else START_SECONDS
        if expected > spare:
            say(
                f"no int8 (quantize=auto): it would take about {expected:.0f} s, more than "
                f"{100 * SHARE:.0f} % of the job's time; quantize=int8 always adds it"
            )
            return artifact
    return quantizer.add(artifact, hp.quantize_tolerance)
