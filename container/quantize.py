"""Quantises a model that a job has left, with images that it was not trained on.

    python -m container.quantize MODEL PHOTOS --output model-int8.tar.gz

MODEL is a model.tar.gz or a model directory, which is only read; PHOTOS holds class folders.
Every second image is one that activations' ranges come from, the others measure what int8 costs.
The exit code is 1, and nothing is written, when that is more than the tolerance.
"""

import argparse
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from container.artifact import Artifact
from container.cpus import available_cpus
from container.data.index import Index
from container.data.loader import EpochLoader
from container.data.splits import read_index
from container.errors import ArtifactError, BerthError, DataError
from container.files.archives import ArchiveLimits, BadArchive, members
from container.hyperparameters import Hyperparameters
from container.results.evaluation import EvaluationResult
from container.results.quantization import Quantizer, predict_graph

LIMITS = ArchiveLimits(100_000, 16 << 30, 16 << 30)
"""What an archive of a model may hold."""
BATCH = 16
"""Images in one pass."""


def quantize(
    model: Path, photos: Path, output: Path, tolerance: float, say: Callable[[str], None]
) -> bool:
    """Write the archive of a model with int8 beside float32; whether it was as good.

    Args:
        model: a model.tar.gz or a model directory.
        photos: class folders of images not trained on.
        output: the .tar.gz that is written.
        tolerance: percentage points of accuracy that may be lost.
        say: where messages go.

    Raises:
        ArtifactError: the model cannot be read or has no OpenVINO graph.
        DataError: there are too few images.
    """
    with tempfile.TemporaryDirectory(prefix="quantize-", dir=output.parent) as temporary:
        folder = Path(temporary) / "model"
        _copy(model, folder)
        artifact = Artifact.read(folder)
        if artifact.openvino is None:
            raise ArtifactError(f"{model}: holds no OpenVINO graph, which int8 would be made of")
        index = read_index(photos, artifact.classes)
        if len(index) < 2:
            raise DataError(f"{photos}: found {len(index)} images, expected at least 2")
        calibration, held_out = (index.take(np.arange(start, len(index), 2)) for start in (1, 0))

        def load(images: Index) -> EpochLoader:
            return EpochLoader(
                images,
                artifact.geometry,
                image_size=artifact.geometry.crop,
                batch_size=BATCH,
                seed=0,
                train=False,
                workers=min(8, available_cpus()),
            )

        say(f"{len(held_out)} images measure the cost, {len(calibration)} others calibrate")
        exact = EvaluationResult(held_out, predict_graph(artifact.openvino, load(held_out)))
        artifact = Quantizer(calibration, exact, load, say).add(artifact, tolerance)
        if artifact.openvino_int8 is None:
            return False
        packed = Path(temporary) / output.name
        with tarfile.open(packed, "w:gz") as archive:
            for file in sorted(artifact.path.iterdir()):
                archive.add(file, arcname=file.name)
        packed.replace(output)
    say(f"{output}: serves in int8 with BERTH_PRECISION=int8")
    return True


def _copy(model: Path, folder: Path) -> None:
    """Unpack or copy a model into a new folder. Raises ArtifactError."""
    try:
        if model.is_dir():
            shutil.copytree(model, folder)
            return
        folder.mkdir()
        for member in members(model, LIMITS.within(folder)):
            if member.is_folder:
                (folder / member.path).mkdir(parents=True, exist_ok=True)
            else:
                member.copy_to(folder / member.path)
    except (BadArchive, OSError, shutil.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ArtifactError(
            f"{model}: {why}, expected a model.tar.gz or a model directory"
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Quantise from the command line; 0 when the model was written, 1 otherwise."""
    default = Hyperparameters.model_fields["quantize_tolerance"].default
    parser = argparse.ArgumentParser(
        prog="python -m container.quantize", description="Add int8 to a trained model."
    )
    parser.add_argument("model", type=Path, help="a model.tar.gz, or a model directory")
    parser.add_argument("photos", type=Path, help="class folders of images not trained on")
    parser.add_argument("--output", type=Path, required=True, help="the .tar.gz to write")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=default,
        help="percentage points of accuracy that may be lost (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.tolerance <= 100:
        parser.error(f"--tolerance: found {options.tolerance:g}, expected 0 to 100")
    if not options.output.parent.is_dir():
        parser.error(f"--output: found no folder {options.output.parent}")
    if options.output.is_dir():
        parser.error(f"--output: found the folder {options.output}, expected a file to write")
    try:
        done = quantize(options.model, options.photos, options.output, options.tolerance, _print)
    except BerthError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if done else 1


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
