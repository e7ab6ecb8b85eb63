"""Inference engines: OpenVINO on a CPU, PyTorch on a GPU.

OpenVINO runs the artifact's export without torch, whose import would take most of the start-up time
and memory of a CPU server. PyTorch serves on GPUs, and artifacts without an export.
"""

import logging
import math
from typing import Any, Protocol

import numpy as np

from container.artifact import Artifact
from container.errors import ArtifactError, BerthError
from container.images.reference import reference_image
from container.openvino_runtime import core
from serve.inference.devices import torch_installed
from serve.inference.precision import (
    REDUCED,
    cost_of,
    fastest,
    has_instructions,
    model_obstacle,
    passes,
    possible,
)
from serve.payloads.images import Pixels, Probabilities

LOG = logging.getLogger("gunicorn.error")

GPU_BATCH = 32
"""Images in one pass on a GPU: beyond this, throughput hardly grows."""


def cpu_batch(cpus: int) -> int:
    """Images in one pass on `cpus` cores: two per core; more only takes more memory."""
    return max(4, 2 * cpus)


REFERENCE_TOLERANCE = 0.01
"""Largest accepted difference between the reference image's probabilities here and on the training
machine: a hundred times the difference between processors, and far below that of wrong code."""


class EngineError(BerthError):
    """The engine cannot start, or its output is not a probability."""


class Engine(Protocol):
    """One loaded model on one device."""

    name: str
    max_batch: int
    exact: bool
    """Whether it computes in float32, so that predictions agree with other machines."""

    def predict(self, batch: Pixels) -> Probabilities:
        """RGB pixels 0..255, (N, crop, crop, 3), to probabilities (N, classes)."""


class OpenVinoEngine:
    """The artifact's exported graph on the CPU.

    It uses one stream over all cores. With one request at a time the cores of a second stream would
    idle, and with several requests a batch uses the cores as well as two streams: measured
    throughput is the same and latency half. The batch size is dynamic: graphs compiled for fixed
    sizes are no faster, and each has its own copy of the weights.

    The default is float32. Where supported, bfloat16 is about twice as fast, but probabilities
    differ by more than the 1e-4 to which evaluation and serving must agree. int8 is faster still
    and differs more.

    Cores are not pinned: containers that share a host would all use the same ones.
    """

    def __init__(self, artifact: Artifact, cpus: int, *, precision: str = "float32") -> None:
        graph = artifact.openvino_int8 if precision == "int8" else artifact.openvino
        if graph is None:
            raise EngineError(f"{artifact.path}: no OpenVINO export")
        try:
            compiled = core().compile_model(
                str(graph),
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": "1",
                    "INFERENCE_NUM_THREADS": cpus,
                    "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise ArtifactError(f"{graph}: OpenVINO cannot load it: {_one_line(error)}") from error
        self._dtype = np.dtype(compiled.input(0).get_element_type().to_dtype())
        self._request = compiled.create_infer_request()
        self.max_batch = cpu_batch(cpus)
        self.exact = precision not in REDUCED
        self.name = f"OpenVINO on {cpus} CPU core{'s' if cpus > 1 else ''}" + (
            f" in {precision}" if precision in REDUCED else ""
        )

    def predict(self, batch: Pixels) -> Probabilities:
        """As `Engine.predict`."""
        if batch.dtype != self._dtype:
            rounds = self._dtype.kind in "iu" and batch.dtype.kind == "f"
            batch = (np.rint(batch).clip(0, 255) if rounds else batch).astype(self._dtype)
        self._request.infer([batch], share_inputs=True)
        # A copy: the next pass overwrites the request's own output.
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)


class TorchEngine:
    """The artifact's weights in PyTorch.

    On a GPU: float16 by default, channels last, and pixels copied from pinned memory in their own
    dtype. On a CPU: float32, for artifacts without an export.
    """

    def __init__(
        self, artifact: Artifact, cpus: int, *, gpu: bool, precision: str = "auto"
    ) -> None:
        import torch

        from container.models import load_classifier

        if gpu and not torch.cuda.is_available():
            raise EngineError("PyTorch cannot use the GPU: no driver, or one too old for its CUDA")
        self._torch = torch
        self._device = torch.device("cuda" if gpu else "cpu")
        halves = {"auto": torch.float16, "bfloat16": torch.bfloat16}
        self._half = halves.get(precision) if gpu else None
        if gpu:
            # In float32, convolutions would use TF32, whose mantissa is as short as float16's.
            torch.backends.cudnn.allow_tf32 = False
        else:
            torch.set_num_threads(cpus)
        # For mypy, Module.to has no overload with `memory_format`.
        module: Any = load_classifier(artifact, device=self._device.type)
        self._module = module.to(memory_format=torch.channels_last)
        self._pinned: dict[np.dtype[Any], Any] = {}
        self.max_batch = GPU_BATCH if gpu else cpu_batch(cpus)
        self.exact = self._half is None
        self.name = (
            f"PyTorch on {torch.cuda.get_device_name()}" if gpu else f"PyTorch on {cpus} CPU cores"
        )

    def predict(self, batch: Pixels) -> Probabilities:
        """As `Engine.predict`."""
        torch = self._torch
        on_gpu = self._device.type == "cuda"
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=self._half, enabled=self._half is not None),
        ):
            pixels = self._in_pinned_memory(batch) if on_gpu else torch.from_numpy(batch)
            pixels = pixels.to(self._device, non_blocking=True)
            probabilities: Probabilities = self._module(pixels).float().cpu().numpy()
        return probabilities

    def _in_pinned_memory(self, batch: Pixels) -> Any:
        """The batch in pinned memory, allocated once for each dtype."""
        images = self._torch.from_numpy(batch)
        if batch.dtype not in self._pinned:
            self._pinned[batch.dtype] = self._torch.empty(
                (self.max_batch, *images.shape[1:]), dtype=images.dtype, pin_memory=True
            )
        buffer = self._pinned[batch.dtype][: len(images)]
        return buffer.copy_(images)


def load_engine(artifact: Artifact, *, cpus: int, gpu: bool, precision: str = "auto") -> Engine:
    """Load the artifact with the fastest engine of this host; logs fallbacks.

    Args:
        artifact: the model.
        cpus: number of cores to use.
        gpu: whether it may use a GPU.
        precision: float32, bfloat16, int8 (CPUs only), fastest, or auto: float32 on a CPU and
            float16 on a GPU. bfloat16 and int8 are used only if the artifact records sufficient
            accuracy.

    Raises:
        BerthError: no engine can load it; the message names the file and the cause.
    """
    if gpu and torch_installed():
        try:
            allowed = _allowed(artifact, precision, gpu=True)
            return TorchEngine(artifact, cpus, gpu=True, precision=allowed)
        except EngineError as error:
            LOG.warning("%s; serving on the CPU instead", error)
    if artifact.openvino is not None:
        return _on_cpu(artifact, cpus, _allowed(artifact, precision, gpu=False))
    if not torch_installed():
        raise ArtifactError(
            f"{artifact.path}: no OpenVINO export, and PyTorch is not installed; the image "
            "berth:latest, built without TARGET=serve, has it"
        )
    LOG.warning(
        "%s: no OpenVINO export; serving with PyTorch in float32, which starts and predicts more "
        "slowly",
        artifact.path,
    )
    return TorchEngine(artifact, cpus, gpu=False)


def _allowed(artifact: Artifact, precision: str, *, gpu: bool) -> str:
    """The precision to use for a requested one; logs why if they differ."""
    problem = model_obstacle(artifact, precision) if precision in REDUCED else ""
    if gpu and precision in ("int8", "fastest"):
        if precision == "int8":
            LOG.warning("int8 is for CPUs; serving in float16")
        return "auto"
    if problem:
        LOG.warning("%s: %s; serving in float32", artifact.path, problem)
        return "float32"
    return precision


def _on_cpu(artifact: Artifact, cpus: int, precision: str) -> "OpenVinoEngine":
    """Load the export in the given precision, or in the fastest."""
    if precision in REDUCED and not has_instructions(precision):
        LOG.warning("this processor has no %s; serving in float32", precision)
        precision = "float32"
    if precision == "fastest":
        return _fastest(artifact, cpus)
    if precision in ("auto", "float32") and (others := possible(artifact)[1:]):
        costs = "; ".join(f"{each}: {cost_of(artifact, each)}" for each in others)
        LOG.info("BERTH_PRECISION=fastest may serve this model faster, in %s", costs)
    return OpenVinoEngine(artifact, cpus, precision=precision)


def _fastest(artifact: Artifact, cpus: int) -> "OpenVinoEngine":
    engines = {
        precision: OpenVinoEngine(artifact, cpus, precision=precision)
        for precision in possible(artifact)
    }
    if len(engines) == 1:
        LOG.info("fastest: float32, the only precision of this model on this processor")
        return engines["float32"]
    crop = artifact.geometry.crop
    found = passes([engine.predict for engine in engines.values()], crop)
    seconds = dict(zip(engines, found, strict=True))
    chosen = fastest(seconds)
    shown = ", ".join(f"{each} {1000 * taken:.2f} ms" for each, taken in seconds.items())
    cost = f" ({cost_of(artifact, chosen)})" if chosen in REDUCED else ""
    LOG.info("fastest: %s%s; a pass with one image: %s", chosen, cost, shown)
    return engines[chosen]


def check(engine: Engine, artifact: Artifact) -> None:
    """Predict the reference image.

    Raises EngineError unless there is a probability per class; in float32 they must also equal
    those recorded in the artifact, if there are any.
    """
    probabilities = engine.predict(reference_image(artifact.geometry.crop)[None])
    expected = (1, len(artifact.classes))
    if probabilities.shape != expected:
        raise EngineError(
            f"{artifact.path}: the model gives {probabilities.shape} probabilities for one image, "
            f"expected {expected} for the classes model.json lists"
        )
    total = float(probabilities.sum())
    if not math.isclose(total, 1.0, abs_tol=1e-2):
        raise EngineError(
            f"{artifact.path}: the probabilities of one image sum to {total:.3g}, expected 1; "
            "the weights may hold NaN or infinity"
        )
    if engine.exact and artifact.reference is not None:
        difference = float(np.abs(probabilities[0] - np.array(artifact.reference)).max())
        if not difference <= REFERENCE_TOLERANCE:
            raise EngineError(
                f"{artifact.path}: {engine.name} predicts the reference image differently than the "
                f"training job: a probability differs by {difference:.2g}, expected at most "
                f"{REFERENCE_TOLERANCE:g}; the model or the engine's code for this CPU is wrong"
            )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
