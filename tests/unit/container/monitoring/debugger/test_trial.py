"""Trials that are read while a job writes them, also with damaged files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from smdebug.core.modes import ModeKeys
from smdebug.exceptions import (
    StepNotYetAvailable,
    StepUnavailable,
    TensorUnavailableForStep,
)
from torch import nn

from container.monitoring.debugger import trial as trials
from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.trial import GrowingTrial, ended, ready
from tests.unit.container.monitoring.debugger.training import random_data, settings_for, train_tiny

LOSS = "CrossEntropyLoss_output_0"


class Saving:
    """Saves one loss per step, equal to the step's number."""

    def __init__(self, folder: Path) -> None:
        settings = settings_for(folder, collections=["losses"])
        self.path = settings.path
        self.hook = TensorHook(settings, nn.Linear(1, 1))
        self._step = 0

    def step(self, count: int = 1, mode: Any = "train") -> None:
        for _ in range(count):
            self.hook.step(mode)
            self.hook.record("losses", torch.tensor(float(self._step)))
            self._step += 1

    def index(self, step: int) -> Path:
        return self.path / "index" / "000000000" / f"{step:012}_worker_0.json"

    def events(self, step: int) -> Path:
        return self.path / "events" / f"{step:012}" / f"{step:012}_worker_0.tfevents"


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[Saving]:
    saving = Saving(tmp_path)
    yield saving
    saving.hook.close()


def test_a_folder_is_ready_when_every_process_has_described_its_tensors(saving: Saving) -> None:
    assert not ready(saving.path.parent / "nowhere")
    assert ready(saving.path)
    (file,) = saving.path.rglob("*_collections.json")
    whole = file.read_text()
    for content in ("", whole[:40], '{"_meta": {"num_workers": 1}}', "[]", "1"):
        file.write_text(content)
        assert not ready(saving.path), content
    file.write_text(whole.replace('"num_workers": 1', '"num_workers": 2'))
    assert not ready(saving.path)
    assert ready(saving.path, 0), "there may be no more of them on this machine"
    file.with_name("worker_1_collections.json").write_text(whole)
    assert ready(saving.path)


def test_processes_on_other_machines_are_not_waited_for(saving: Saving) -> None:
    (file,) = saving.path.rglob("*_collections.json")
    file.write_text(file.read_text().replace('"num_workers": 1', '"num_workers": 2'))
    saving.step(3)
    trial = GrowingTrial(saving.path)
    assert trial.num_workers == 1
    assert trial.workers() == ["worker_0"]
    assert trial.steps() == [0, 1]


def test_saved_steps_appear_at_the_next_refresh(saving: Saving) -> None:
    saving.step(3)  # the third is closed when the fourth begins
    trial = GrowingTrial(saving.path)
    assert trial.steps() == [0, 1]
    saving.step(2, mode="eval")
    assert trial.steps() == [0, 1], "every rule sees the same steps until the next refresh"
    trial.refresh_data()
    assert trial.steps() == [0, 1, 2, 3]
    assert trial.steps(mode=ModeKeys.EVAL) == [0]
    assert not ended(saving.path)
    saving.hook.close()
    assert ended(saving.path)
    trial.refresh_data()
    trial.finish()
    assert trial.tensor(LOSS).value(4) == 4.0
    assert [trial.mode(step).name for step in trial.steps()] == ["TRAIN"] * 3 + ["EVAL"] * 2
    assert trial.time_of(4) == saving.index(4).stat().st_mtime


def test_a_missing_step_is_not_waited_for(saving: Saving) -> None:
    saving.step(3)
    trial = GrowingTrial(saving.path)
    trial.wait_for_steps([0, 1])
    with pytest.raises(StepNotYetAvailable):
        trial.wait_for_steps([0, 7])
    saving.hook.close()
    trial.refresh_data()
    trial.finish()
    with pytest.raises(StepUnavailable):
        trial.wait_for_steps([7])


def test_changed_collections_are_read_again(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, collections=["weights", "gradients"])
    hook = TensorHook(settings, nn.Linear(2, 2))
    trial = GrowingTrial(settings.path)
    assert not trial.collection("weights").tensor_names
    hook.step("train")
    hook.close()
    trial.refresh_data()
    assert trial.collection("weights").tensor_names == {"Linear_weight"}


def test_a_truncated_index_file_is_a_missing_step(saving: Saving) -> None:
    saving.step(4)
    whole = saving.index(1).read_text()
    saving.index(1).write_text(whole[: len(whole) // 2])
    trial = GrowingTrial(saving.path)
    assert trial.steps() == [0, 2]
    assert trial.unreadable == {str(saving.index(1))}
    saving.index(1).write_text(whole)
    trial.refresh_data()
    assert trial.steps() == [0, 1, 2], "it was only being copied"
    assert trial.unreadable == set()


@pytest.mark.parametrize("content", ["{}", "[]", '{"meta": {"mode": "NONE", "mode_step": 0}}', "x"])
def test_an_invalid_index_file_is_a_missing_step(saving: Saving, content: str) -> None:
    saving.step(3)
    saving.index(0).write_text(content)
    (saving.path / "index" / "notes.txt").write_text("not a folder")
    trial = GrowingTrial(saving.path)
    assert trial.steps() == [1]
    assert len(trial.unreadable) == 1


@pytest.mark.parametrize("cut", ["to nothing", "in half", "away"])
def test_truncated_values_are_treated_as_not_saved(saving: Saving, cut: str) -> None:
    saving.step(3)
    file = saving.events(1)
    if cut == "away":
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2 if cut == "in half" else 0])
    trial = GrowingTrial(saving.path)
    assert trial.tensor(LOSS).value(0) == 0.0
    with pytest.raises(TensorUnavailableForStep):
        trial.tensor(LOSS).value(1)


def test_many_steps_are_loaded_in_batches(saving: Saving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "AT_ONCE", 4)
    saving.step(10)
    saving.hook.close()
    trial = GrowingTrial(saving.path)
    assert (trial.steps(), trial.waiting) == ([0, 1, 2, 3], 6)
    trial.refresh_data()
    trial.refresh_data()
    assert (trial.steps(), trial.waiting) == (list(range(10)), 0)


def test_the_oldest_steps_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(tmp_path, collections=["losses", "weights"])
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    train_tiny(network, random_data(16), 10, settings, validation=random_data(16), validate_every=5)
    trial = GrowingTrial(settings.path)
    assert len(trial.steps()) == 12
    each = len(trial.tensor_names(step=0))
    monkeypatch.setattr(trials, "KEPT_LOCATIONS", 3 * each)
    trial.forget()
    assert trial.steps() == [9, 10, 11]
    assert trial.steps(mode=ModeKeys.TRAIN) == [8, 9]
    assert trial.tensor(LOSS).steps() == [9, 10, 11]
    assert trial.tensor(LOSS).value(11).shape == ()
    assert not trial.tensor_names(step=0)
    with pytest.raises((StepUnavailable, TensorUnavailableForStep)):
        trial.tensor(LOSS).value(0)
    monkeypatch.setattr(trials, "KEPT_LOCATIONS", 0)
    trial.forget()
    assert trial.steps() == [11], "the last step stays"


def test_a_step_is_complete_when_all_processes_have_saved_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, collections=["losses"])
    index = settings.path / "index" / "000000000"
    saving = Saving(tmp_path)
    saving.step(3)
    saving.hook.close()
    file = settings.path / "collections" / "000000000" / "worker_0_collections.json"
    described = json.loads(file.read_text())
    described["_meta"]["num_workers"] = 2
    file.write_text(json.dumps(described))
    file.with_name("worker_1_collections.json").write_text(json.dumps(described))
    trial = GrowingTrial(settings.path)
    assert trial.steps() == []
    other = (index / "000000000001_worker_0.json").read_text()
    (index / "000000000001_worker_1.json").write_text(other)
    trial.refresh_data()
    assert trial.steps() == [0, 1], "a later step that is complete completes those before it"
    trial.finish()
    assert trial.steps() == [0, 1, 2]
