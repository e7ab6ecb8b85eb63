"""A fit job on images without pixels, with a clock that stands still."""

from pathlib import Path

import numpy as np
import torch

from container.data.index import Index
from container.data.splits import Splits
from container.environment import Environment
from container.features.cache import FeatureCache
from container.fit.backbones import FitData
from container.fit.budget import TimeBudget
from container.fit.context import FitContext
from container.fit.state import TrialResult
from container.hyperparameters import Hyperparameters
from container.training.checkpoint import StopSignal
from tests.unit.container.fit.test_budget import Clock


class NoSignal(StopSignal):
    def __init__(self) -> None:
        self.received = ""


def index(count: int) -> Index:
    labels = np.arange(count) % 2
    paths = tuple(f"{label}/{number}.jpg" for number, label in enumerate(labels))
    return Index(Path("nowhere"), ("a", "b"), paths, labels)


def planned(
    tmp_path: Path, seconds: float, trials: list[TrialResult], images: int = 1000
) -> tuple[FitContext, Clock]:
    clock = Clock()
    environment = Environment(tmp_path, ("algo-1",), "algo-1", "lo", "fit")
    data = FitData(
        environment,
        Hyperparameters(fit_minutes=seconds / 60),
        torch.device("cpu"),
        Splits(index(images), index(images // 5), None),
        FeatureCache(tmp_path / "features", shared=False),
    )
    fit = FitContext(data, TimeBudget(seconds, clock=clock), NoSignal(), lambda _line: None)
    fit.state.trials = trials
    return fit, clock
