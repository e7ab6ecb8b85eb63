"""The training loop: epochs, precision, moving average, early stopping, checkpoints.

Every source of randomness in a step is seeded by (seed, epoch, step, rank), so nothing random is
stored: a run that was interrupted anywhere and resumed ends with the same weights, bit for bit on a
CPU with the same number of threads.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from container.data.augment import make_augment
from container.data.index import Index
from container.data.loader import Batch, BatchLoader
from container.errors import TrainingError
from container.files.json_files import finite
from container.hyperparameters import Hyperparameters
from container.models import Classifier
from container.training.accumulation import (
    GroupLoss,
    ends_step,
    in_groups,
    loss_weight,
    steps_of,
    synchronized,
)
from container.training.callbacks import Callback, StepMetrics
from container.training.checkpoint import CheckpointFolder, Interrupted, StopSignal
from container.training.distributed import World
from container.training.metrics import MetricLogger, StepProgress
from container.training.optimizer import (
    REMEDIES,
    balanced_class_weights,
    clip_gradients,
    learning_rate_at,
    make_optimizer,
    set_learning_rate,
)
from container.training.precision import autocast, precision_for
from container.training.state import TrainingProgress, TrainingState, moving_average

SMALL_STEP = 1 << 23
"""Parameters times images of a step: below this, one thread needs less than a millisecond."""
STOP_CHECK_BATCHES = 8
"""Batches between two synchronisations of the stop flag, each a round trip between hosts."""


class Trainer:
    """Trains one classifier.

    Args:
        classifier: on the device, head replaced, weights loaded.
        head: name of the head within `classifier.network`, which `freeze` leaves trainable.
        index: the training images.
        train, validation: this rank's loaders. They yield pixels, uint8 (N, 3, H, W), or with
            `on_features` the head's inputs, float32 (N, F).
        device: where the classifier is.
        world: this rank.
        checkpoints: where state is kept.
        stop: the stop signal.
        metrics: where metric lines go.
        say: where messages go.
        callback: called at each stage of training.
        rate_at: returns the learning rate of a step (from 0); by default the schedule of `hp`.
        on_features: train the head alone on stored features; the backbone must be frozen.
    """

    def __init__(
        self,
        hp: Hyperparameters,
        classifier: Classifier,
        head: str,
        index: Index,
        train: BatchLoader,
        validation: BatchLoader,
        *,
        device: torch.device,
        world: World,
        checkpoints: CheckpointFolder,
        stop: StopSignal,
        metrics: MetricLogger,
        say: Callable[[str], None],
        callback: Callback | None = None,
        rate_at: Callable[[int], float] | None = None,
        on_features: bool = False,
    ) -> None:
        self.hp, self.device, self.world, self.say = hp, device, world, say
        self.classifier, self.train_loader, self.validation_loader = classifier, train, validation
        self.checkpoints, self.stop, self.metrics = checkpoints, stop, metrics
        self.callback = callback or Callback()
        steps = steps_of(len(train), hp.gradient_accumulation_steps)
        self._stop_check_steps = max(1, STOP_CHECK_BATCHES // hp.gradient_accumulation_steps)
        self._rate_at = rate_at or (lambda step: learning_rate_at(step, hp, steps))
        self._rule_fired = False
        self._head = classifier.network.get_submodule(head)
        if hp.freeze:
            classifier.network.requires_grad_(False)
            self._head.requires_grad_(True)
        classes = len(index.classes)
        self._on_features = on_features
        self._network = self._head if on_features else classifier.network
        self._augment = make_augment(
            "none" if on_features else hp.augment,
            image_size=hp.image_size,
            mixup=hp.mixup,
            cutmix=hp.cutmix,
            num_classes=classes,
        )
        if not on_features:
            classifier.to(memory_format=torch.channels_last)
        self._class_weights = (
            balanced_class_weights(index.labels, classes).to(device)
            if hp.class_weights == "balanced"
            else None
        )
        self._precision = precision_for(hp.amp, device)
        self._forward: nn.Module = self._network
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            self._forward = self._parallel = DistributedDataParallel(
                self._network,
                device_ids=[device.index] if device.type == "cuda" else None,
                # A frozen backbone's buffers do not change, and a head has none.
                broadcast_buffers=not hp.freeze,
            )
        # After DDP, which gives every rank the weights of rank 0.
        self._state = TrainingState(
            network=self._network,
            optimizer=make_optimizer(self._network, hp),
            scaler=torch.amp.GradScaler(
                device.type, enabled=self._precision == torch.float16, init_scale=2.0**12
            ),
            ema=moving_average(self._network, hp.ema),
        )
        if hp.compile:
            if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
                raise TrainingError(
                    "hyperparameter 'compile': torch.compile needs a C++ compiler and found none; "
                    "install one in an image of your own, or leave compile off"
                )
            self._forward = cast(nn.Module, torch.compile(self._forward))
        self._saved_at = time.monotonic()

    @property
    def progress(self) -> TrainingProgress:
        """The counters of the run."""
        return self._state.progress

    def fit(self) -> TrainingProgress:
        """Train to the last epoch, from the newest checkpoint if there is one.

        Afterwards the classifier holds the best epoch's weights (the moving average's with `ema`).

        Raises:
            Interrupted: SIGTERM arrived; a checkpoint of the current step was written.
            TrainingError: the loss of a step is not finite, no epoch has a finite validation
                loss, or the disk is full.
        """
        with self._threads():
            return self._fit()

    def _fit(self) -> TrainingProgress:
        self._resume()
        validated = self.progress.epoch * len(self.validation_loader)
        self.callback.on_train_start(self.progress.step, validated)
        while not (self._rule_fired or self._epochs_done() or self._out_of_patience()):
            self._train_epoch()
            self._end_epoch()
        self._require_best()
        self.restore_best()
        return self.progress

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Use one thread for a small head, whose steps are faster than synchronising threads."""
        before = torch.get_num_threads()
        size = sum(parameter.numel() for parameter in self._network.parameters())
        small = self._on_features and size * self.hp.batch_size <= SMALL_STEP
        if small and self.device.type == "cpu":
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _train_epoch(self) -> None:
        progress, size = self.progress, self.hp.gradient_accumulation_steps
        self._train_mode()
        steps, done = (steps_of(each, size) for each in (len(self.train_loader), progress.batch))
        bar = StepProgress(self.say, progress.epoch + 1, self.hp.epochs, steps, done)
        sums = torch.tensor(progress.sums, dtype=torch.float64, device=self.device)
        batches = self.train_loader.batches(progress.epoch, start=progress.batch)
        groups = in_groups(batches, size, lambda: self.callback.phase("data"))
        for group in self.callback.batches("train", groups, progress.step):
            result = self._train_step(group)
            loss, hits, images = result.mean, result.hits, result.images
            progress.step += 1
            with self.callback.phase("metrics"):
                sums += torch.stack([loss * images, hits, hits.new_tensor(images)]).to(sums)
                if self._loss_check_due():
                    self._require_finite(sums, loss)
                bar.advance(images * self.world.size, loss)
            self._save_or_interrupt(sums, loss)
            if self._rule_stops():
                break
        progress.sums = sums.tolist()
        bar.close()

    def _train_step(self, group: Iterable[Batch]) -> GroupLoss:
        state, hp, phase = self._state, self.hp, self.callback.phase
        progress, size = state.progress, hp.gradient_accumulation_steps
        rate = self._rate_at(progress.step)
        set_learning_rate(state.optimizer, rate)
        state.optimizer.zero_grad(set_to_none=True)
        total, keep = GroupLoss(self._network.parameters()), False
        for images, labels in group:
            torch.manual_seed(_step_seed(hp.seed, progress.epoch, progress.batch, self.world.rank))
            last = ends_step(progress.batch, len(self.train_loader), size)
            with phase("copy"):
                images = images.to(self.device, non_blocking=True)
                labels = labels.to(self.device, non_blocking=True)
            with phase("augment"), torch.no_grad():
                images, targets = self._augment(images, labels)
                inputs = self._inputs(images)
            keep = last and self.callback.on_before_forward("train", self._network)
            with synchronized(self._parallel, last):
                with phase("forward"):
                    with autocast(self.device, self._precision):
                        logits = self._forward(inputs)
                    loss = total.add(*self._loss(logits, targets), last=last)
                with phase("backward"):
                    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total.count(logits, labels)
            progress.batch += 1
        with phase("optimizer"):
            state.scaler.unscale_(state.optimizer)
            if keep:
                self.callback.on_after_backward()
            norm = clip_gradients(
                self._network.parameters(),
                hp.gradient_clip,
                measure=self.callback.wants_gradient_norm(progress.step),
            )
            state.scaler.step(state.optimizer)
            state.scaler.update()
            if state.ema is not None:
                state.ema.update_parameters(self._network)
        if keep:
            self._record(inputs, labels, logits, total.mean)
        metrics = StepMetrics(progress.step, progress.epoch + 1, total.mean, rate, norm)
        self.callback.on_step_end(metrics)
        return total

    def _loss(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | float]:
        """The mean loss of a batch, and the batch's weight within its step."""
        weights, smoothing = self._class_weights, self.hp.label_smoothing
        mean = F.cross_entropy(logits.float(), targets, weights, label_smoothing=smoothing)
        return mean, loss_weight(targets, weights)

    def _inputs(self, images: Tensor) -> Tensor:
        """The inputs of the trained network: normalised images, or features unchanged."""
        if self._on_features:
            return images
        # Convert the layout while pixels are bytes, a quarter of their size in float32.
        images = images.contiguous(memory_format=torch.channels_last)
        return self.classifier.normalize(images)

    def _record(self, inputs: Tensor, labels: Tensor, logits: Tensor, loss: Tensor) -> None:
        with self.callback.phase("debug"):
            self.callback.record("inputs", inputs)
            self.callback.record("labels", labels)
            self.callback.record("predictions", logits.detach().float().softmax(1))
            self.callback.record("losses", loss)

    def _loss_check_due(self) -> bool:
        """Whether to read and check the loss; rare on a GPU, where reading it synchronises."""
        every = 1 if self.device.type == "cpu" else 50
        return self.progress.step % every == 0 or self.progress.batch == len(self.train_loader)

    def _require_finite(self, sums: Tensor, loss: Tensor) -> None:
        if not math.isfinite(float(sums[0])):
            raise TrainingError(
                f"loss is {float(loss)} at step {self.progress.step} (epoch "
                f"{self.progress.epoch + 1}) with learning rate {self._rate:.3g}; {REMEDIES}"
            )

    def _require_best(self) -> None:
        """Raise TrainingError if no epoch had a finite validation loss and finite weights."""
        progress = self.progress
        if not progress.best_epoch:
            raise TrainingError(
                f"no epoch ended with a finite validation loss and finite weights (epochs trained: "
                f"{progress.epoch}, last learning rate: {self._rate:.3g}); {REMEDIES}"
            )

    @property
    def _rate(self) -> float:
        return max(float(group["lr"]) for group in self._state.optimizer.param_groups)

    def _save_or_interrupt(self, sums: Tensor, loss: Tensor) -> None:
        """Write a checkpoint if one is due or a stop signal arrived; the latter also raises."""
        if self.world.size > 1 and self.progress.step % self._stop_check_steps:
            return
        due = time.monotonic() - self._saved_at > 60 * self.hp.checkpoint_minutes
        stopping = self.world.any(bool(self.stop.received), self.device)
        if stopping or self.world.any(due, self.device):
            self._require_finite(sums, loss)
            self.progress.sums = self._total(sums.tolist())
            self._save()
        if stopping:
            self._interrupt()

    def _rule_stops(self) -> bool:
        """Whether a rule fired that ends training; the same on every rank."""
        several = self.world.size > 1
        if not self.callback.can_stop or (several and self.progress.step % self._stop_check_steps):
            return False
        reason = self.callback.stop_reason()
        if not self.world.any(reason is not None, self.device):
            return False
        self._rule_fired = True
        self.say(f"training ends with the model so far: {reason or 'a rule fired on rank 0'}")
        return True

    def _interrupt(self) -> None:
        raise Interrupted(
            f"stopped by {self.stop.received or 'another rank'} at epoch "
            f"{self.progress.epoch + 1}, step {self.progress.step}; "
            "a checkpoint was written, from which the job can resume"
        )

    def _end_epoch(self) -> None:
        progress = self.progress
        loss, hits, images = self._total(progress.sums)
        network = self._state.kept
        self.world.align(network.buffers())
        validation_loss, accuracy = self._validate(network)
        progress.epoch, progress.batch, progress.sums = progress.epoch + 1, 0, [0.0, 0.0, 0.0]
        record = {
            "epoch": progress.epoch,
            "train:loss": loss / images,
            "train:accuracy": hits / images,
            "validation:loss": validation_loss,
            "validation:accuracy": accuracy,
            "learning_rate": self._rate,
        }
        progress.history.append(finite(record))
        usable = math.isfinite(validation_loss) and self._state.is_finite
        if not usable:
            self.say(
                f"epoch {progress.epoch} is not kept: its validation loss is {validation_loss:.3g}"
                f"{'' if self._state.is_finite else ' and its weights are not finite'}; {REMEDIES}"
            )
        elif accuracy > progress.best:
            progress.best, progress.best_epoch = accuracy, progress.epoch
            if self.world.is_main:
                self.checkpoints.save_best(network.state_dict(), {"epoch": progress.epoch})
        self.metrics.epoch(record)
        self._save()
        if (
            self.world.any(bool(self.stop.received), self.device)
            and progress.epoch < self.hp.epochs
        ):
            self._interrupt()

    def _validate(self, network: nn.Module) -> tuple[float, float]:
        """Mean cross-entropy and accuracy over every rank's share of the validation images."""
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        phase = self.callback.phase
        network.eval()
        with torch.inference_mode(), autocast(self.device, self._precision):
            batches = self.validation_loader.batches(0)
            for images, labels in self.callback.batches("eval", batches, 0):
                if self.stop.received and self.world.size == 1:
                    self._save()
                    self._interrupt()
                with phase("copy"):
                    images, labels = images.to(self.device), labels.to(self.device)
                inputs = self._inputs(images)
                keep = self.callback.on_before_forward("eval", network)
                with phase("forward"):
                    logits = network(inputs).float()
                    loss = F.cross_entropy(logits, labels, reduction="sum")
                if keep:
                    self._record(inputs, labels, logits, loss / len(labels))
                with phase("metrics"):
                    hits = (logits.argmax(1) == labels).sum()
                    sums += torch.stack([loss, hits, hits.new_tensor(len(labels))]).to(sums)
        loss_sum, hits_sum, count = self._total(sums.tolist())
        return loss_sum / count, hits_sum / count

    def _total(self, sums: list[float]) -> list[float]:
        tensor = torch.tensor(sums, dtype=torch.float64, device=self.device)
        return cast(list[float], self.world.sum(tensor).tolist())

    def _train_mode(self) -> None:
        """Switch to train mode, but a frozen backbone: its batch statistics must not change."""
        self._forward.train(not self.hp.freeze)
        self._head.train()
        if self.hp.freeze_batch_norm:
            for module in self.classifier.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _epochs_done(self) -> bool:
        return self.progress.epoch >= self.hp.epochs

    def _out_of_patience(self) -> bool:
        patience = self.hp.early_stopping_patience
        waited = self.progress.epoch - self.progress.best_epoch
        if patience and self.progress.best_epoch and waited >= patience:
            self.say(f"early stopping: no better validation accuracy for {patience} epochs")
            return True
        return False

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if not self.world.is_main:
            return
        with self.callback.phase("checkpoint"):
            self._state.save(self.checkpoints)

    def _resume(self) -> None:
        checkpoint = self.world.share(self.checkpoints.load_last)
        if checkpoint is None:
            return
        self._state.load(checkpoint, main=self.world.is_main)
        self.metrics.restore(self.progress.history)
        self.say(
            f"resuming from the checkpoint at epoch {self.progress.epoch + 1}, "
            f"step {self.progress.step}"
        )

    def restore_best(self) -> None:
        """Load the best epoch's weights into the classifier; the last epoch's if they are lost."""
        self._state.restore_best(self.checkpoints, self.say)


def _step_seed(seed: int, epoch: int, batch: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, batch, rank]).generate_state(1, np.uint64)[0])
