"""Writes the artifact: weights, description, and an OpenVINO graph checked against PyTorch.

All files are written to a temporary folder and renamed, the description last, so `/opt/ml/model`
never holds a partial artifact.
"""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from container.artifact import DESCRIPTION, OPENVINO, WEIGHTS, Artifact, checksum
from container.errors import TrainingError, first_line
from container.images.reference import reference_image
from container.models import Classifier, not_finite
from container.openvino_runtime import core, openvino
from container.results.conversion import TOLERANCE, convert
from container.training.checkpoint import disk_full, is_disk_full, written_aside
from container.training.optimizer import REMEDIES
from container.training.state_dicts import save_state

Convert = Callable[[Classifier, npt.NDArray[np.float32]], Any]
"""Converts a classifier to an OpenVINO graph, traced with pixels float32 (N, H, W, 3)."""


def write_artifact(
    artifact: Artifact,
    classifier: Classifier,
    held_out: npt.NDArray[np.uint8] | None,
    say: Callable[[str], None],
    convert_classifier: Convert | None = None,
    expected: npt.NDArray[np.float32] | None = None,
) -> Artifact:
    """Write the artifact to `artifact.path`.

    Args:
        artifact: the description, without `export` and `checksums`.
        classifier: the trained model, on any device.
        held_out: uint8 pixels (N, crop, crop, 3) of images not trained on, to check the export
            with; None writes no export (an interrupted job has no time for one).
        say: where messages go.
        convert_classifier: converts the classifier; by default `convert`.
        expected: PyTorch's probabilities of those images, float32 (N, C), if known.

    Returns:
        The artifact with `export` and `checksums`.

    Raises:
        TrainingError: the weights or probabilities are not finite, or the disk is full; the model
            directory is left unchanged.
    """
    classifier = copy.deepcopy(classifier).cpu().eval()
    name = not_finite(classifier.network)
    if name is not None:
        raise TrainingError(f"no model: {name} holds values that are not finite; {REMEDIES}")
    artifact.path.mkdir(parents=True, exist_ok=True)
    with _aside(artifact.path) as folder:
        save_state(classifier.network.state_dict(), folder / WEIGHTS)
        export = None
        if held_out is not None:
            export = _export(
                classifier,
                held_out,
                folder / OPENVINO,
                say,
                convert_classifier or convert,
                expected,
            )
        checksums = {
            file.relative_to(folder).as_posix(): checksum(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        artifact = replace(artifact, export=export, checksums=checksums)
        (folder / DESCRIPTION).write_text(artifact.describe(), encoding="utf-8")
    return artifact


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A temporary folder in `path`; its files move to `path` if the block succeeds, JSON last."""
    folder = path / ".partial"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
        for name in (WEIGHTS, Path(OPENVINO).parent.name, DESCRIPTION):
            target = path / name
            if target.is_dir():
                shutil.rmtree(target)
            if (folder / name).exists():
                (folder / name).replace(target)
    except (OSError, RuntimeError) as error:
        if is_disk_full(error):
            raise disk_full(path / WEIGHTS) from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _export(
    classifier: Classifier,
    held_out: npt.NDArray[np.uint8],
    path: Path,
    say: Callable[[str], None],
    convert_classifier: Convert,
    expected: npt.NDArray[np.float32] | None,
) -> dict[str, Any] | None:
    """Convert, check and save; None, with a log line, if conversion fails or results differ."""
    ov = openvino()
    pixels = held_out.astype(np.float32)
    if expected is None:
        with torch.inference_mode():
            expected = classifier(torch.from_numpy(pixels)).numpy()
    if not np.isfinite(expected).all():
        raise TrainingError(f"no model: its probabilities are not finite; {REMEDIES}")
    try:
        graph = convert_classifier(classifier, pixels)
        compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        difference = float(np.abs(compiled(pixels)[0] - expected).max())
        reference = compiled(reference_image(pixels.shape[1])[None].astype(np.float32))[0][0]
    except Exception as error:
        say(f"no OpenVINO export: {first_line(error)}; this model will be served by PyTorch")
        return None
    if not difference <= TOLERANCE:
        say(
            f"no OpenVINO export: its probabilities differ from PyTorch's by {difference:.1e} "
            f"(at most {TOLERANCE:.0e} is accepted); this model will be served by PyTorch"
        )
        return None
    path.parent.mkdir(parents=True)
    ov.save_model(graph, path, compress_to_fp16=False)
    say(f"OpenVINO export: probabilities within {difference:.1e} of PyTorch's")
    return {
        "openvino": OPENVINO,
        "max_difference": difference,
        "images": len(pixels),
        "reference": [round(float(probability), 6) for probability in reference],
    }


def update_description(artifact: Artifact) -> None:
    """Rewrite `model.json`. Raises TrainingError if the disk is full."""
    with written_aside(artifact.path / DESCRIPTION) as aside:
        aside.write_text(artifact.describe(), encoding="utf-8")
