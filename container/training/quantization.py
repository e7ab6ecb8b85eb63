"""The model in int8: quantised after training, measured beside float32, kept if it is as good.

int8 multiplies four numbers where float32 multiplies one, on processors with VNNI or AMX; its
weights take a quarter of the space.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from container.artifact import DESCRIPTION, OPENVINO_INT8, Artifact, checksum
from container.data.index import Index
from container.data.loader import EpochLoader
from container.errors import BerthError, TrainingError
from container.openvino_runtime import core
from container.precisions import Int8
from container.training.checkpoint import written_aside
from container.training.evaluation import EvaluationResult, precision_cost

CALIBRATION_IMAGES = 128
"""Training images the ranges of activations come from: twice as many took twice as long and
changed no label of 153 photographs, a quarter of them changed one."""

CALIBRATION_BYTES = 512 << 20
"""Memory their pixels may take; larger images are fewer."""

HELD_OUT_IMAGES = 512
"""Images int8 is compared with float32 on, at most."""

METHODS = ("fast", "accurate")
"""The second is tried where the first costs too much accuracy."""

START_SECONDS = 10.0
"""Quantising's time besides that for images: the process, NNCF's analysis, compiling graphs."""

PASSES = 8
"""Passes through the graph that calibrating with one image takes the time of."""

SHARE = 0.1
"""Share of a job's time so far that `quantize=auto` may add."""

_POLL = 0.2


class QuantizationError(TrainingError):
    """There is no int8 graph; the message says why."""


class Quantizer:
    """Adds int8 to a finished artifact.

    Args:
        calibration: images of the kind the model was trained on; their labels are not used.
        held_out: the evaluation in float32, of other images.
        load: gives the loader that goes through some images in order.
        say: where messages go.
        stopped: whether the job is to stop, which ends the quantisation.
    """

    def __init__(
        self,
        calibration: Index,
        held_out: EvaluationResult,
        load: Callable[[Index], EpochLoader],
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._calibration = calibration
        chosen = held_out.index.spread(HELD_OUT_IMAGES)
        index = held_out.index.take(chosen)
        self._exact = EvaluationResult(index, held_out.probabilities[chosen])
        self._load, self._say, self._stopped = load, say, stopped

    def add(self, artifact: Artifact, tolerance: float) -> Artifact:
        """Quantise, measure, and keep the graph if no more than `tolerance` points are lost.

        What it costs is described in any case. The model is whole at every moment: the graph comes
        before its description.

        Returns:
            The artifact as it is on disk then.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="int8-") as temporary:
                cost, graph = self._best(artifact, tolerance, Path(temporary))
                files = _keep(graph, artifact.path) if cost.good_enough else {}
        except (BerthError, OSError) as error:
            # A finished job is not lost for want of space or of an image.
            reason = error.strerror if isinstance(error, OSError) else None
            self._say(f"no int8: {reason or error}")
            return artifact
        self._say(f"in int8: {cost}")
        if not cost.good_enough:
            self._say(
                f"int8 is not kept: accuracy {100 * cost.accuracy:.2f} % in int8, "
                f"{100 * cost.float32_accuracy:.2f} % in float32, at most {tolerance:g} "
                "percentage points may be lost (quantize_tolerance)"
            )
        kept = artifact.checksums
        checksums = None if kept is None else kept | files
        artifact = replace(artifact, int8=cost, checksums=checksums)
        with written_aside(artifact.path / DESCRIPTION) as aside:
            aside.write_text(artifact.describe(), encoding="utf-8")
        return artifact

    def seconds(self, artifact: Artifact) -> float:
        """An estimate of what `add` takes, from two passes through the float32 graph."""
        crop = artifact.geometry.crop
        images = min(CALIBRATION_IMAGES, len(self._calibration))
        infer = core().compile_model(str(artifact.openvino), "CPU")
        grey = np.full((1, crop, crop, 3), 127, np.float32)
        infer(grey)
        started = time.monotonic()
        infer(grey)
        one_pass = time.monotonic() - started
        return START_SECONDS + (PASSES * images + len(self._exact.index)) * one_pass

    def _best(self, artifact: Artifact, tolerance: float, folder: Path) -> tuple[Int8, Path]:
        """The first method's cost and graph within the tolerance; else the most accurate."""
        pixels = folder / "pixels.npy"
        images = self._calibrate_with(artifact, pixels)
        found: list[tuple[Int8, Path]] = []
        for method in METHODS:
            graph = folder / method / Path(OPENVINO_INT8).name
            graph.parent.mkdir()
            self._quantize(artifact, pixels, method, graph)
            cost = precision_cost(self._exact, predict_graph(graph, self._load(self._exact.index)))
            found.append(
                (Int8(**asdict(cost), tolerance=tolerance, calibration_images=images), graph)
            )
            if found[-1][0].good_enough:
                break
        return max(found, key=lambda each: each[0].accuracy)

    def _calibrate_with(self, artifact: Artifact, path: Path) -> int:
        """Write pixels, uint8 (N, crop, crop, 3), to a .npy; returns N."""
        size = 3 * artifact.geometry.crop**2
        most = min(CALIBRATION_IMAGES, max(1, CALIBRATION_BYTES // size))
        index = self._calibration
        chosen = index.spread(most).tolist()
        pixels = [artifact.geometry.load(index.read(at), index.paths[at]) for at in chosen]
        np.save(path, np.stack(pixels))
        return len(chosen)

    def _quantize(self, artifact: Artifact, pixels: Path, method: str, into: Path) -> None:
        """Run NNCF. Raises QuantizationError when it fails or the job is to stop."""
        command = [sys.executable, "-m", "container.training.quantization_process"]
        command += [str(artifact.openvino), str(pixels), method, str(into)]
        log = into.with_suffix(".log")
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            ) as process,
        ):
            try:
                while process.poll() is None:
                    if self._stopped():
                        raise QuantizationError("the job is to stop")
                    try:
                        process.wait(_POLL)
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                process.kill()
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        word, _, reason = (lines[-1] if lines else "").partition(" ")
        if word != "ok" or process.returncode:
            reason = reason if word == "error" else f"NNCF ended with status {process.returncode}"
            raise QuantizationError(reason)


def predict_graph(graph: Path, loader: EpochLoader) -> npt.NDArray[np.float32]:
    """The images' probabilities by an OpenVINO graph, float32 (N, C).

    Raises:
        QuantizationError: OpenVINO cannot run the graph.
    """
    try:
        compiled = core().compile_model(str(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        rows: list[Any] = []
        for images, _ in loader.batches(0):
            pixels = images.permute(0, 2, 3, 1).contiguous().numpy().astype(np.float32)
            rows.append(np.array(compiled(pixels)[0], dtype=np.float32))
    except RuntimeError as error:
        raise QuantizationError((str(error).splitlines() or ["OpenVINO"])[0]) from None
    return np.concatenate(rows)


def _keep(graph: Path, model_dir: Path) -> dict[str, str]:
    """Copy a graph into the model directory; returns its files' SHA-256. Raises OSError."""
    final = (model_dir / OPENVINO_INT8).parent
    aside = final.with_name(f".{final.name}")
    for folder in (aside, final):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        aside.mkdir()
        for file in (graph, graph.with_suffix(".bin")):
            shutil.copyfile(file, aside / file.name)
        aside.rename(final)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return {
        file.relative_to(model_dir).as_posix(): checksum(file) for file in sorted(final.iterdir())
    }
