"""The context of a running fit job: data, time budget, state and loaded backbones."""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from container.features.extraction import Features
from container.fit.backbones import FitData, SizedBackbone
from container.fit.budget import SAFETY, TimeBudget, spoken
from container.fit.choices import Choice
from container.fit.images import median_side
from container.fit.leaderboard import LeaderboardEntry
from container.fit.linear.selection import LabelledFeatures
from container.fit.linear.validation import subset
from container.fit.state import FitState
from container.fit.threads import counts
from container.training.checkpoint import CheckpointFolder, Interrupted, StopSignal
from container.training.job import data_identity, validation_identity

END_SECONDS = 20.0
"""Reserved for artifact and export until the first artifact is measured, at a slowness of 1."""
SLOWNESS_SECONDS = 0.2
"""Shortest computation whose slowness is measured."""
PICTURES = 5.0
"""Time to draw all charts, in multiples of matplotlib's import: 4 to 5 on a busy two-core
machine."""
IMPORT_SECONDS = 0.5
"""Lower bound for matplotlib's import, which may have happened before."""
SAMPLE = 200
"""Images to measure the size of."""


@dataclass
class FitContext:
    """What the stages of a fit job share.

    Attributes:
        data: what backbones are tried on.
        budget: the time.
        stop: the stop signal.
        say: where messages go.
        export: whether the model is converted to OpenVINO as well.
        state: what is done.
        features: of all training and validation images, by backbone and size.
        threads: numbers of the processor's threads to try, the most first.
        slowness: seconds for a second of computation; above 1 where other processes compute too.
    """

    data: FitData
    budget: TimeBudget
    stop: StopSignal
    say: Callable[[str], None]
    export: bool = True
    state: FitState = field(default_factory=FitState)
    features: dict[tuple[str, int], tuple[Features, Features]] = field(default_factory=dict)
    threads: tuple[int, ...] = field(default_factory=lambda: counts(torch.get_num_threads()))
    slowness: float = 1.0
    _loaded: dict[tuple[str, int], SizedBackbone] = field(default_factory=dict)

    @cached_property
    def checkpoints(self) -> CheckpointFolder:
        """Where the state is kept."""
        hp, splits = self.data.hp, self.data.splits
        identity = {
            "fit": True,
            "arch": hp.arch if "arch" in hp.model_fields_set else None,
            "image_size": hp.image_size if "image_size" in hp.model_fields_set else None,
            "weights": hp.weights,
            "seed": hp.seed,
            "validation_split": hp.validation_split,
        }
        return CheckpointFolder(
            self.data.environment.checkpoint_dir / "fit",
            identity | data_identity(splits),
            self.say,
            defaults=validation_identity(splits),
        )

    def round_folder(self, number: int) -> Path:
        """Where a round of fine-tuning, from 1, keeps its state and its metrics."""
        return self.data.environment.checkpoint_dir / "fit" / f"round-{number}"

    @cached_property
    def side(self) -> int:
        """The median shorter side of the training images, in pixels."""
        train = self.data.splits.train
        order = np.random.default_rng(self.data.hp.seed).permutation(len(train))
        return median_side(train, order[:SAMPLE])

    def use_fewer(self) -> None:
        """Leave out training and validation images that there is no time for, as the state has it.

        The same ones by seed; the checkpoints stay those of all images.
        """
        if not self.state.fewer:
            return
        _ = self.checkpoints
        splits, seed = self.data.splits, self.data.hp.seed
        train, validation = (
            each.take(subset(each.labels, images, seed))
            for each, images in zip(
                (splits.train, splits.validation), self.state.fewer, strict=True
            )
        )
        splits = replace(splits, train=train, validation=validation)
        self.data = replace(self.data, splits=splits)
        self._loaded.clear()

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(len(index) for _, index in self.data.splits.items())

    def choose(self, what: str, why: str) -> None:
        """Log a decision and keep it."""
        choice = Choice(what, why)
        self.state.choices.append(choice)
        self.say(str(choice))

    def save(self) -> None:
        """Save the state. Raises TrainingError if the disk is full."""
        self.state.save(self.checkpoints, self.budget.elapsed)

    def require_running(self) -> None:
        """Raise Interrupted if a stop signal arrived."""
        if self.stop.received:
            raise Interrupted(
                f"stopped by {self.stop.received} after {spoken(self.budget.elapsed)}; "
                "finished work is kept"
            )

    def reserve(self, seconds_per_image: float) -> None:
        """Reserve time for the end: evaluation at `seconds_per_image`, artifact and charts."""
        costs, held_out = self.budget.costs, self.data.splits.test or self.data.splits.validation
        if "pictures" not in costs:
            began = time.monotonic()
            importlib.import_module("container.results.charts")
            took = max(IMPORT_SECONDS, time.monotonic() - began)
            self.budget.measured("pictures", PICTURES * took)
        artifact = costs.get("artifact", self.slowness * END_SECONDS)
        evaluation = seconds_per_image * len(held_out)
        self.budget.reserve = SAFETY * (artifact + costs["pictures"] + evaluation)

    @contextmanager
    def computing(self, name: str) -> Iterator[None]:
        """Measure the cost of the block's computation, and how slow the machine is."""
        began, used = time.monotonic(), time.process_time()
        yield
        seconds, used = time.monotonic() - began, time.process_time() - used
        self.budget.measured(name, seconds)
        if seconds > SLOWNESS_SECONDS:
            self.slowness = max(1.0, seconds / max(used, 1e-3))

    def point(self, accuracy: float, name: str) -> None:
        """Record an accuracy on the validation images, with the current time."""
        self.state.points.append(
            {"minutes": self.budget.elapsed / 60, "accuracy": accuracy, "name": name}
        )

    def margin(self, size: int) -> bool:
        """Whether to crop images to this size as when the weights were trained.

        Smaller images are enlarged without a crop.
        """
        return size <= self.side

    def backbone(self, arch: str, size: int) -> SizedBackbone:
        """A backbone, loaded once."""
        if (arch, size) not in self._loaded:
            loaded = SizedBackbone.load(self.data, arch, size, margin=self.margin(size))
            self._loaded[arch, size] = loaded
        return self._loaded[arch, size]

    def forget(self, arch: str, size: int) -> None:
        """Reload a backbone with its pretrained weights when it is next needed."""
        self._loaded.pop((arch, size), None)

    def of(self, entry: LeaderboardEntry) -> SizedBackbone:
        """The backbone of a classifier."""
        return self.backbone(entry.arch, entry.image_size)

    def extract(self, arch: str, size: int) -> tuple[LabelledFeatures, LabelledFeatures]:
        """The features of all training and all validation images."""
        if (arch, size) not in self.features:
            extractor, splits = self.backbone(arch, size).extractor, self.data.splits
            self.features[arch, size] = (
                extractor.extract(splits.train, name="train"),
                extractor.extract(splits.validation, name="validation"),
            )
        train, validation = self.features[arch, size]
        return (
            LabelledFeatures(train.values, train.labels),
            LabelledFeatures(validation.values, validation.labels),
        )
