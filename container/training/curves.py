"""Loss, learning rate and gradient norm step by step, in `curves.jsonl`."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from container.files.json_files import to_json
from container.training.callbacks import StepMetrics

POINTS = 2000
"""Steps of a job that are written, spread evenly: more than a screen is wide."""
HELD = 50
"""Points buffered before the tensors are read, as reading one waits for the GPU."""


class Curves:
    """Writes some of a job's steps; a resumed job appends.

    Args:
        path: the file.
        steps: steps the whole job has.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        self._every = max(1, steps // POINTS)
        self._held: list[tuple[StepMetrics, float]] = []

    def begin(self, first_step: int) -> None:
        """Drop lines of an interrupted run for steps that are trained again."""
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step(line) < first_step]
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def wants(self, step: int) -> bool:
        """Whether this step will be written."""
        return step % self._every == 0

    def add(self, facts: StepMetrics) -> None:
        """Buffer a step, if it is to be written."""
        if self.wants(facts.step):
            self._held.append((facts, time.time()))
            if len(self._held) >= HELD:
                self.flush()

    def flush(self) -> None:
        """Write the buffered steps."""
        if not self._held:
            return
        missing = torch.tensor(float("nan"), device=self._held[0][0].loss.device)
        pairs = [(facts.loss, facts.gradient_norm) for facts, _ in self._held]
        values = torch.stack([_pair(loss, norm, missing) for loss, norm in pairs]).tolist()
        with self._path.open("a", encoding="utf-8") as file:
            for (facts, moment), (loss, norm) in zip(self._held, values, strict=True):
                line = {
                    "step": facts.step,
                    "epoch": facts.epoch,
                    "time": round(moment, 3),
                    "loss": loss,
                    "learning_rate": facts.learning_rate,
                    "gradient_norm": norm,
                }
                file.write(to_json(line) + "\n")
        self._held.clear()


def _pair(loss: Tensor, norm: Tensor | None, missing: Tensor) -> Tensor:
    return torch.stack([loss.float(), missing if norm is None else norm.float()])


def _step(line: str) -> float:
    """The step of a line; infinity for a truncated line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
