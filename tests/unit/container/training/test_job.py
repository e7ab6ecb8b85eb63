"""A job resumes from checkpoints of the same images only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from container.data.index import Index
from container.data.splits import Splits
from container.environment import Environment
from container.errors import CheckpointError
from container.hyperparameters import Hyperparameters
from container.images.geometry import Geometry
from container.training.checkpoint import CheckpointFolder
from container.training.distributed import World
from container.training.job import TrainingJob

TRAIN = ("ants/1.jpg", "bees/1.jpg", "bees/2.jpg")
VALIDATION = ("ants/9.jpg", "bees/9.jpg")


def job(train: Sequence[str] = TRAIN, validation: Sequence[str] = VALIDATION) -> TrainingJob:
    splits = Splits(index(train), index(validation), None)
    environment = Environment(Path("nowhere"), ("algo-1",), "algo-1", "eth0", "job")
    geometry = Geometry(resize=32, crop=32)
    hp = Hyperparameters()
    return TrainingJob(environment, hp, World(), torch.device("cpu"), geometry, splits)


def index(paths: Sequence[str]) -> Index:
    labels = np.array([int(path.startswith("bees")) for path in paths])
    return Index(Path("nowhere"), ("ants", "bees"), paths, labels)


def checkpoints(folder: Path, of: TrainingJob) -> CheckpointFolder:
    return of.checkpoints(folder, print)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (job(train=(*TRAIN, "bees/3.jpg")), "train images=3"),
        (job(train=(*TRAIN[:2], "bees/3.jpg")), "train digest="),
        (job(validation=VALIDATION[:1]), "validation images=2"),
        (job(validation=("ants/8.jpg", "bees/9.jpg")), "validation digest="),
    ],
)
def test_checkpoints_of_other_images_are_refused(
    tmp_path: Path, other: TrainingJob, named: str
) -> None:
    checkpoints(tmp_path, job()).save(1, {"w": torch.zeros(1)}, {"step": 1})
    assert checkpoints(tmp_path, job()).load_last() is not None
    with pytest.raises(CheckpointError, match=named):
        checkpoints(tmp_path, other).load_last()


def test_checkpoints_without_validation_images_are_accepted(tmp_path: Path) -> None:
    """Older versions did not store them."""
    old = {name: value for name, value in job().identity.items() if "validation " not in name}
    CheckpointFolder(tmp_path, old, print).save(1, {"w": torch.zeros(1)}, {"step": 1})
    assert checkpoints(tmp_path, job()).load_last() is not None
