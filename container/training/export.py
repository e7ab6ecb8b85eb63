"""Writing the artifact: weights, description, and an OpenVINO graph checked against PyTorch.

All files are written to a temporary folder and renamed, the description last, so that
`/opt/ml/model` never holds a partial artifact.
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
from torch import nn

from container.artifact import DESCRIPTION, OPENVINO, WEIGHTS, Artifact, checksum
from container.errors import TrainingError
from container.images.reference import reference_image
from container.models import Classifier, not_finite
from container.openvino_runtime import core, openvino
from container.training.checkpoint import disk_full, is_disk_full
from container.training.optimizer import REMEDIES
from container.training.state_dicts import save_state

Convert = Callable[[Classifier, npt.NDArray[np.float32]], Any]
"""Makes an OpenVINO graph of a classifier, given pixels float32 (N, H, W, 3)."""

TOLERANCE = 1e-4
"""Largest probability difference from PyTorch an export may show."""


def write_artifact(
    artifact: Artifact,
    classifier: Classifier,
    held_out: npt.NDArray[np.uint8] | None,
    say: Callable[[str], None],
    convert_whole: Convert | None = None,
    expected: npt.NDArray[np.float32] | None = None,
) -> Artifact:
    """Leave the artifact in `artifact.path`.

    Args:
        artifact: what to describe; its `export` is filled in here.
        classifier: the trained model, on any device.
        held_out: uint8 pixels (N, crop, crop, 3) of images not trained on, to check the export
            with; None writes no export (an interrupted job has no time for one).
        say: where messages go.
        convert_whole: makes the graph, by default `convert`.
        expected: probabilities of those images by PyTorch, float32 (N, C), where they are known.

    Raises:
        TrainingError: the weights or the probabilities are not finite, which could not be
            served, or the disk is full; the model directory is as it was.
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
            make = convert_whole or convert
            export = _export(classifier, held_out, folder / OPENVINO, say, make, expected)
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
    """A folder within `path` whose files move into it when the block ends well, JSON last."""
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
    make: Convert,
    expected: npt.NDArray[np.float32] | None,
) -> dict[str, Any] | None:
    """Convert, check and save; None, with a log line, when the export is not the same model."""
    ov = openvino()
    pixels = held_out.astype(np.float32)
    if expected is None:
        with torch.inference_mode():
            expected = classifier(torch.from_numpy(pixels)).numpy()
    if not np.isfinite(expected).all():
        raise TrainingError(f"no model: its probabilities are not finite; {REMEDIES}")
    try:
        graph = make(classifier, pixels)
        compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        difference = float(np.abs(compiled(pixels)[0] - expected).max())
        reference = compiled(reference_image(pixels.shape[1])[None].astype(np.float32))[0][0]
    except Exception as error:
        say(f"no OpenVINO export: {_line(error)}; this model will be served by PyTorch")
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


def convert(
    module: nn.Module, pixels: npt.NDArray[np.float32], output: str = "probabilities"
) -> Any:
    """A module that maps pixels to a matrix as an OpenVINO graph of any number of images.

    Args:
        module: in eval mode, on the processor.
        pixels: float32 (N, H, W, 3), RGB 0..255, to trace it with.
        output: the name of its output.
    """
    # Two images: a dynamic dimension traced at size one is taken for a constant.
    example = torch.from_numpy(np.resize(pixels, (2, *pixels.shape[1:])))
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    graph = openvino().convert_model(program)
    graph.reshape([-1, *pixels.shape[1:]])
    graph.input(0).set_names({"pixels"})
    graph.output(0).set_names({output})
    return graph


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
