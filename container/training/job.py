"""A training job's configuration and data, shared by its stages."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from container.cpus import available_cpus
from container.data.index import Index
from container.data.loader import EpochLoader
from container.data.splits import Splits
from container.environment import Environment
from container.hyperparameters import Hyperparameters
from container.images.geometry import Geometry
from container.memory import available_memory
from container.training.checkpoint import CheckpointFolder
from container.training.distributed import World

MONITORING_HYPERPARAMETERS = (
    "debug",
    "save_interval",
    "collections",
    "tensorboard",
    "debug_all_ranks",
    "rules",
    "rule_parameters",
    "stop_on",
    "rules_file",
    "profile",
    "profile_interval",
    "profile_steps",
)
"""Hyperparameters that do not affect the trained model."""


@dataclass(frozen=True)
class TrainingJob:
    """One rank's job.

    Attributes:
        environment: its folders and hosts.
        hp: its hyperparameters.
        world: this rank and the number of ranks.
        device: this rank's GPU, or the CPU.
        geometry: how images become the network's square input.
        splits: the images.
    """

    environment: Environment
    hp: Hyperparameters
    world: World
    device: torch.device
    geometry: Geometry
    splits: Splits

    @property
    def device_name(self) -> str:
        """The device's name and the number of processes, for logs."""
        ranks = f", {self.world.size} processes" if self.world.size > 1 else ""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}{ranks}"
        return f"cpu with {torch.get_num_threads()} threads{ranks}"

    @property
    def workers(self) -> int:
        """Worker processes of each of this rank's loaders."""
        if self.hp.workers is not None:
            return self.hp.workers
        return min(8, max(1, available_cpus() // self.world.local_size))

    def loader(self, index: Index, *, train: bool = False, alone: bool = False) -> EpochLoader:
        """The loader of one split: this rank's share of it, or all of it when `alone`."""
        return EpochLoader(
            index,
            self.geometry,
            image_size=self.hp.image_size,
            batch_size=self.hp.batch_size,
            seed=self.hp.seed,
            train=train,
            random_crop=self.hp.augment != "none",
            workers=self.workers,
            rank=0 if alone else self.world.rank,
            world=1 if alone else self.world.size,
            keep=self._kept_bytes() if self.hp.epochs > 1 and not alone else 0,
        )

    def _kept_bytes(self) -> int:
        """Bytes of decoded images that a loader of this rank may keep: an eighth of free memory."""
        return available_memory() // (8 * self.world.local_size)

    def checkpoints(
        self, path: Path, say: Callable[[str], None], more: Mapping[str, Any] | None = None
    ) -> CheckpointFolder:
        """The checkpoints in `path`, of runs with the same `identity` and the same `more`."""
        defaults = Hyperparameters().model_dump(mode="json") | validation_identity(self.splits)
        return CheckpointFolder(path, self.identity | dict(more or {}), say, defaults=defaults)

    @property
    def identity(self) -> dict[str, Any]:
        """Values by name that must equal those of a checkpoint to resume from it."""
        may_change = {
            "epochs",
            "workers",
            "early_stopping_patience",
            "checkpoint_minutes",
            "on_bad_image",
            "compile",
            "feature_cache",
            "augment_views",
            "features_only",
            "quantize",
            "quantize_tolerance",
            *MONITORING_HYPERPARAMETERS,
        }
        hyperparameters = self.hp.model_dump(mode="json", exclude=may_change)
        return hyperparameters | data_identity(self.splits) | {"processes": self.world.size}


def data_identity(splits: Splits) -> dict[str, Any]:
    """Values by name that identify the images to train on and to choose the best epoch by."""
    return {
        "classes": list(splits.train.classes),
        "train images": len(splits.train),
        "train digest": digest(splits.train),
    } | validation_identity(splits)


def validation_identity(splits: Splits) -> dict[str, Any]:
    """The part of `data_identity` that checkpoints of older versions lack."""
    return {
        "validation images": len(splits.validation),
        "validation digest": digest(splits.validation),
    }


def digest(index: Index) -> str:
    """SHA-256 of an index's paths in order: they contain the labels, but for those of shards."""
    found = hashlib.sha256("\0".join(index.paths).encode())
    if index.members is not None:
        found.update(index.labels.astype("<i8").tobytes())
    return found.hexdigest()
