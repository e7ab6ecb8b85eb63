"""Inference engines: OpenVINO on a CPU, PyTorch on a GPU.

OpenVINO runs the export in the artifact without torch, whose import is most of the start-up time
and memory of a CPU server. PyTorch serves where there is a GPU, and artifacts without export.
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
"""Images in one pass on a GPU: past this the pass grows about as fast as the batch."""


def cpu_batch(cpus: int) -> int:
    """Images in one pass on `cpus` cores: two per core, beyond which only activations grow."""
    return max(4, 2 * cpus)


REFERENCE_TOLERANCE = 0.01
"""How far the reference image's probabilities may be from those where the model was made: a hundred
times what processors differ by, and far from what wrong code gives."""


class EngineError(BerthError):
    """The engine cannot start, or its output is not a probability."""


class Engine(Protocol):
    """One loaded model on one device."""

    name: str
    max_batch: int
    exact: bool
    """Whether it computes in float32, so that its answers are those of any other machine."""

    def predict(self, batch: Pixels) -> Probabilities:
        """RGB pixels 0..255, (N, crop, crop, 3), to probabilities (N, classes)."""


class OpenVinoEngine:
    """The artifact's exported graph on the CPU.

    One stream over all cores, because with one request at a time a second stream's cores idle, and
    with several the stacked batch keeps one stream's cores as busy as two streams would be: the
    measured throughput is the same and the latency half. The batch is dynamic: a graph compiled
    for each fixed size is no faster and holds its own copy of the weights.

    float32 by default, whatever the processor may prefer: bfloat16 is about twice as
    fast where it exists, but moves probabilities by more than the 1e-4 that evaluation and serving
    promise to agree to; int8 is faster still where it has instructions for it, and moves them more.
    Cores are not pinned: containers that share a host would all pin themselves to the same ones.
    """

    def __init__(self, artifact: Artifact, cpus: int, *, precision: str = "float32") -> None:
        graph = artifact.openvino_int8 if precision == "int8" else artifact.openvino
        if graph is None:
            raise EngineError(f"{artifact.path}: holds no OpenVINO export")
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

    On a GPU: float16 by default, channels last, and pixels copied from pinned
    memory, as uint8 where they are uint8. On a CPU: float32, for artifacts without an export.
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
            # For float32, convolutions would else use TF32, whose ten bits are float16's.
            torch.backends.cudnn.allow_tf32 = False
        else:
            torch.set_num_threads(cpus)
        # mypy reads `memory_format` as an overload that Module.to lacks together with a device.
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
    """The fastest engine this host has for the artifact; fallbacks are logged.

    Args:
        artifact: the model.
        cpus: cores it may use.
        gpu: whether it may use a GPU.
        precision: float32, bfloat16, int8, fastest, or auto: float32 on a CPU, float16 on a GPU.
            bfloat16 and int8, which is for CPUs, are used only where the artifact records that
            enough accuracy remains.

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
            f"{artifact.path}: holds no OpenVINO export, and PyTorch, the other way to serve it, "
            "is not installed; the image berth:latest, made without TARGET=serve, has it"
        )
    LOG.warning(
        "%s: holds no OpenVINO export; serving with PyTorch in float32, slower to start and to "
        "answer",
        artifact.path,
    )
    return TorchEngine(artifact, cpus, gpu=False)


def _allowed(artifact: Artifact, precision: str, *, gpu: bool) -> str:
    """What is served in where `precision` is asked for; what forbids it is logged."""
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
    """The export in the precision that is asked for, or in the fastest."""
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
        LOG.info("float32 is all that this model and this processor can be served in")
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

    Raises EngineError unless a probability per class comes back; in float32 the same as where the
    model was made, if the artifact kept them.
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
                f"{artifact.path}: {engine.name} predicts the reference image otherwise than where "
                f"the model was made, a probability differs by {difference:.2g}, expected at most "
                f"{REFERENCE_TOLERANCE:g}: the model or this processor's code for it is wrong"
            )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
