"""Post-training quantization to int8: compared with float32 and kept if accuracy holds.

On processors with VNNI or AMX, int8 does four multiplications in the time of one in float32. Its
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

from container.artifact import OPENVINO_INT8, Artifact, checksum
from container.data.index import Index
from container.data.loader import EpochLoader
from container.errors import BerthError, TrainingError, first_line
from container.openvino_runtime import core
from container.precisions import Int8
from container.results.evaluation import EvaluationResult, precision_cost
from container.results.export import update_description

CALIBRATION_IMAGES = 128
"""Training images to calibrate the ranges of activations with. Twice as many took twice as long and
changed no label of 153 photographs; a quarter of them changed one."""

CALIBRATION_BYTES = 512 << 20
"""Memory for their pixels; fewer images are used if they are large."""

HELD_OUT_IMAGES = 512
"""Images to compare int8 with float32 on, at most."""

METHODS = ("fast", "accurate")
"""The second is tried if the first loses too much accuracy."""

START_SECONDS = 10.0
"""Fixed cost of quantizing: starting the process, NNCF's analysis, compiling graphs."""

PASSES = 8
"""Cost of calibrating with one image, in forward passes."""

SHARE = 0.1
"""Time that `quantize=auto` may take, as a share of the job's time so far."""

_POLL = 0.2


class QuantizationError(TrainingError):
    """Quantization failed."""


class Quantizer:
    """Adds an int8 graph to a finished artifact.

    Args:
        calibration: training images; their labels are not used.
        held_out: the evaluation in float32 of other images.
        load: returns a loader of some images in order.
        say: where messages go.
        stopped: returns whether the job must stop, which aborts quantization.
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
        """Quantize, compare, and keep the graph if it loses at most `tolerance` percentage points.

        The comparison is recorded in any case. The artifact stays valid throughout: the graph is
        written before its description.

        Returns:
            The artifact as it is now on disk.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="int8-") as temporary:
                cost, graph = self._best(artifact, tolerance, Path(temporary))
                files = _keep(graph, artifact.path) if cost.good_enough else {}
        except (BerthError, OSError) as error:
            # A full disk or an unreadable image must not fail a finished job.
            reason = error.strerror if isinstance(error, OSError) else None
            self._say(f"no int8: {reason or error}")
            return artifact
        self._say(f"in int8: {cost}")
        if not cost.good_enough:
            self._say(
                f"int8 is not kept: accuracy is {100 * cost.accuracy:.2f} % in int8 and "
                f"{100 * cost.float32_accuracy:.2f} % in float32; at most {tolerance:g} "
                "percentage points may be lost (quantize_tolerance)"
            )
        kept = artifact.checksums
        checksums = None if kept is None else kept | files
        artifact = replace(artifact, int8=cost, checksums=checksums)
        update_description(artifact)
        return artifact

    def seconds(self, artifact: Artifact) -> float:
        """Estimate the seconds that `add` takes, by timing the float32 graph."""
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
        images = self._write_calibration(artifact, pixels)
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

    def _write_calibration(self, artifact: Artifact, path: Path) -> int:
        """Write calibration pixels, uint8 (N, crop, crop, 3), to a .npy; returns N."""
        size = 3 * artifact.geometry.crop**2
        most = min(CALIBRATION_IMAGES, max(1, CALIBRATION_BYTES // size))
        index = self._calibration
        chosen = index.spread(most).tolist()
        pixels = [artifact.geometry.load(index.read(at), index.paths[at]) for at in chosen]
        np.save(path, np.stack(pixels))
        return len(chosen)

    def _quantize(self, artifact: Artifact, pixels: Path, method: str, into: Path) -> None:
        """Run NNCF. Raises QuantizationError if it fails or the job must stop."""
        command = [sys.executable, "-m", "container.results.quantization_process"]
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
                        raise QuantizationError("the job is stopping")
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
    """Probabilities of the loader's images by an OpenVINO graph, float32 (N, C).

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
        raise QuantizationError(first_line(error)) from None
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
