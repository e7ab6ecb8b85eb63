"""Writes loss, learning rate and gradient norm of steps to `curves.jsonl`."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from container.files.json_files import to_json
from container.training.callbacks import StepMetrics

POINTS = 2000
"""Steps of a job to write, evenly spaced: more than a screen has pixels across."""
BUFFERED = 50
"""Points buffered before their tensors are read, as reading synchronises with the GPU."""


class Curves:
    """Writes evenly spaced steps of a job; a resumed job appends.

    Args:
        path: the file.
        steps: steps of the whole job.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        self._every = max(1, steps // POINTS)
        self._buffer: list[tuple[StepMetrics, float]] = []

    def begin(self, first_step: int) -> None:
        """Delete lines of an interrupted run for steps that will be trained again."""
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step(line) < first_step]
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def wants(self, step: int) -> bool:
        """Whether this step will be written."""
        return step % self._every == 0

    def add(self, metrics: StepMetrics) -> None:
        """Buffer a step if it will be written."""
        if self.wants(metrics.step):
            self._buffer.append((metrics, time.time()))
            if len(self._buffer) >= BUFFERED:
                self.flush()

    def flush(self) -> None:
        """Write the buffered steps."""
        if not self._buffer:
            return
        missing = torch.tensor(float("nan"), device=self._buffer[0][0].loss.device)
        rows = [(metrics.loss, metrics.gradient_norm) for metrics, _ in self._buffer]
        values = torch.stack([_pair(loss, norm, missing) for loss, norm in rows]).tolist()
        with self._path.open("a", encoding="utf-8") as file:
            for (metrics, moment), (loss, norm) in zip(self._buffer, values, strict=True):
                line = {
                    "step": metrics.step,
                    "epoch": metrics.epoch,
                    "time": round(moment, 3),
                    "loss": loss,
                    "learning_rate": metrics.learning_rate,
                    "gradient_norm": norm,
                }
                file.write(to_json(line) + "\n")
        self._buffer.clear()


def _pair(loss: Tensor, norm: Tensor | None, missing: Tensor) -> Tensor:
    return torch.stack([loss.float(), missing if norm is None else norm.float()])


def _step(line: str) -> float:
    """The step of a line; infinity for a truncated line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
