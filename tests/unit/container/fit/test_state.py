from pathlib import Path

import pytest
import torch

from container.errors import CheckpointError
from container.fit.choices import Choice
from container.fit.leaderboard import Leaderboard
from container.fit.linear.probes import Probe
from container.fit.state import FineTuningRound, FitState, TrialResult
from container.training.checkpoint import CheckpointFolder
from tests.unit.container.fit.test_leaderboard import probe, tuned


def folder(path: Path, seed: int = 0) -> CheckpointFolder:
    return CheckpointFolder(path, {"seed": seed}, print)


def test_the_state_is_restored_from_a_checkpoint(tmp_path: Path) -> None:
    state = FitState(
        trials=[TrialResult("resnet18", 224, 0.9, 0.02)],
        tried=True,
        board=Leaderboard([probe(80), tuned(85)]),
        probes={0: Probe(torch.randn(2, 4), torch.randn(2), 0.01)},
        final=Probe(torch.randn(2, 4), torch.randn(2), 0.01),
        rounds=[FineTuningRound(0, {"epochs": 3}, 60.0, 12.0, done=True, best_epoch=2)],
        choices=[Choice("this", "that")],
        points=[{"minutes": 0.2, "accuracy": 0.8, "name": "probe"}],
        learning={"advice": "more"},
        threads=2,
    )
    state.save(folder(tmp_path), 33.5)
    again = FitState.load(folder(tmp_path))
    assert again.spent == 33.5
    assert torch.equal(again.probes.pop(0).weight, state.probes.pop(0).weight)
    assert torch.equal(again.final.bias, state.final.bias)
    again.final = state.final = None
    assert again == state


def test_without_a_checkpoint_the_state_is_empty(tmp_path: Path) -> None:
    assert FitState.load(folder(tmp_path)) == FitState()


def test_another_jobs_state_is_refused(tmp_path: Path) -> None:
    FitState().save(folder(tmp_path), 1.0)
    with pytest.raises(CheckpointError, match="seed=0"):
        FitState.load(folder(tmp_path, seed=1))
