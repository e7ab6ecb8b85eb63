"""Fine-tuning from a probe, within a number of seconds."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from container.fit.backbones import SizedBackbone
from container.fit.budget import TimeBudget
from container.fit.choices import Choice, batch_size_for, ema_for
from container.fit.linear.probes import Probe
from container.training.callbacks import Callback
from container.training.checkpoint import CheckpointFolder, StopSignal
from container.training.distributed import World
from container.training.job import TrainingJob
from container.training.metrics import MetricLogger
from container.training.optimizer import stage_of
from container.training.state import TrainingProgress
from container.training.trainer import Trainer

FIRST_RATE = 5e-4
"""Learning rate of the head in the first round."""
FIRST_STAGE = 0.1
"""Learning rate of the first stage over the head's."""
WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""
MEASURED_STEPS = 1
"""Steps to time, after a warm-up step."""


class DeadlineCallback(Callback):
    """Ends training at a deadline.

    Args:
        budget: the job's time budget.
        until: the deadline, as a value of `budget.elapsed`.
    """

    can_stop = True

    def __init__(self, budget: TimeBudget, until: float) -> None:
        self._budget, self._until = budget, until

    def stop_reason(self) -> str | None:
        """Why training must end now; None to continue."""
        return "its time is up" if self._budget.elapsed >= self._until else None


class TimedMetrics(MetricLogger):
    """A `MetricLogger` that calls a function after each epoch.

    Args:
        folder: the folder of `metrics.jsonl`.
        ended: called with each epoch's metrics.
    """

    def __init__(self, folder: Path, ended: Callable[[Mapping[str, float]], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, active=True)
        self._ended = ended

    def epoch(self, record: Mapping[str, float]) -> None:
        """Print and keep one epoch's metrics, then call `ended`."""
        super().epoch(record)
        self._ended(record)


def recipe(
    backbone: SizedBackbone, epochs: int, rate: float, *, mirrored_alike: bool
) -> tuple[dict[str, Any], list[Choice]]:
    """The hyperparameters of a round, and the reasons for those chosen for this data.

    Args:
        epochs: number of epochs.
        rate: the head's learning rate.
        mirrored_alike: whether the probe predicts mirrored images about as well.
    """
    images = len(backbone.job.splits.train)
    per_class = images / len(backbone.job.splits.train.classes)
    batch = batch_size_for(images)
    steps = max(1, images // batch) * epochs
    network = backbone.classifier.network
    stages = len({stage_of(network, name) for name, _ in network.named_parameters()})
    augment = "standard" if mirrored_alike else "none"
    chosen: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "optimizer": "adamw",
        "learning_rate": rate,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "layer_decay": round(FIRST_STAGE ** (1 / max(1, stages - 1)), 4),
        "ema": ema_for(steps),
        "augment": augment,
        "freeze_batch_norm": True,
        "mixup": 0.1 if per_class < 200 and epochs >= 10 else 0.0,
        "label_smoothing": 0.1,
        "early_stopping_patience": max(3, epochs // 3),
    }
    why = (
        "mirrored images are predicted as well"
        if mirrored_alike
        else "mirrored images are predicted worse: classes depend on left and right"
    )
    reasons = [
        Choice(f"augment={augment}", why),
        Choice("freeze_batch_norm=true", "few steps are too few to find new statistics"),
        Choice(f"batch_size={batch}", f"{images:,} training images give {steps:,} steps"),
        Choice(f"mixup={chosen['mixup']}", f"there are {per_class:.0f} images a class"),
        Choice(f"ema={chosen['ema']}", "the average is over the last tenth of the steps"),
        Choice(
            f"learning_rate={rate:g} for the head, {FIRST_STAGE * rate:g} for the first stage",
            "early stages have general features",
        ),
    ]
    return chosen, reasons


def with_recipe(backbone: SizedBackbone, chosen: Mapping[str, Any]) -> TrainingJob:
    """The backbone's training job with a round's hyperparameters."""
    job = backbone.job
    hp = job.hp.model_copy(update=dict(chosen))
    return TrainingJob(
        environment=job.environment,
        hp=hp,
        world=World(),
        device=job.device,
        geometry=job.geometry,
        splits=job.splits,
    )


def step_seconds(backbone: SizedBackbone, batch: int) -> float:
    """Seconds of one training step of `batch` images without decoding; changes no weights."""
    network, device = backbone.classifier.network, backbone.job.device
    side = backbone.job.hp.image_size
    images = torch.rand(batch, 3, side, side, device=device).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    started = 0.0
    for step in range(MEASURED_STEPS + 1):
        if step == 1:
            started = _now(device)
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
    seconds = (_now(device) - started) / MEASURED_STEPS
    network.zero_grad(set_to_none=True)
    network.eval()
    for name, value in network.named_buffers():
        value.copy_(buffers[name])
    return seconds


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def fine_tune(
    backbone: SizedBackbone,
    probe: Probe,
    job: TrainingJob,
    budget: TimeBudget,
    *,
    began: float,
    seconds: float,
    checkpoints: CheckpointFolder,
    metrics: MetricLogger,
    stop: StopSignal,
    say: Callable[[str], None],
) -> TrainingProgress:
    """Train the network, starting with the probe as head, and load the best epoch's weights.

    The learning rate falls to zero by the last step, or by the deadline if steps take longer than
    planned.

    Args:
        began: `budget.elapsed` at the start of the round.
        seconds: time limit of the round.

    Raises:
        Interrupted: a stop signal arrived; a checkpoint was written.
        TrainingError: no epoch ended with finite loss and weights.
    """
    backbone.use_probe(probe)
    hp = job.hp
    train = job.loader(job.splits.train, train=True)
    total = hp.epochs * len(train)

    def rate_at(step: int) -> float:
        done = max(step / total, min(1.0, (budget.elapsed - began) / seconds))
        warm = min(1.0, (step + 1) / max(1.0, WARMUP * total))
        return hp.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    trainer = Trainer(
        hp,
        backbone.classifier,
        backbone.head,
        job.splits.train,
        train,
        job.loader(job.splits.validation),
        device=job.device,
        world=World(),
        checkpoints=checkpoints,
        stop=stop,
        metrics=metrics,
        say=say,
        callback=DeadlineCallback(budget, began + seconds),
        rate_at=rate_at,
    )
    return trainer.fit()
