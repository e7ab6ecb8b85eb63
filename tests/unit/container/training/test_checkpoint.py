import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from container.errors import CheckpointError, TrainingError
from container.training import checkpoint
from container.training.checkpoint import (
    CheckpointFolder,
    StopSignal,
    flatten_optimizer,
    unflatten_optimizer,
    written_aside,
)


@pytest.fixture
def said() -> list[Any]:
    return []


@pytest.fixture
def folder(tmp_path: Path, said: list[Any]) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints", {"lr": 0.1, "widths": (1, 2)}, said.append)


def test_nothing_to_resume_from(folder: CheckpointFolder) -> None:
    assert folder.load_last() is None
    assert folder.load_best() is None


def test_the_last_checkpoint_is_loaded(folder: CheckpointFolder) -> None:
    for step in (1, 2, 3):
        folder.save(step, {"w": torch.full((2,), float(step))}, {"step": step})
    last = folder.load_last()
    assert last.counters == {"step": 3}
    assert torch.equal(last.tensors["w"], torch.full((2,), 3.0))


def test_only_two_checkpoints_are_kept(folder: CheckpointFolder, tmp_path: Path) -> None:
    for step in range(5):
        folder.save(step, {"w": torch.zeros(1)}, {})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [
        "checkpoint-00000003.json",
        "checkpoint-00000003.safetensors",
        "checkpoint-00000004.json",
        "checkpoint-00000004.safetensors",
    ]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty json", "no tensors", "no json"])
def test_a_corrupt_checkpoint_falls_back_to_the_previous_one(
    folder: CheckpointFolder, tmp_path: Path, said: list[Any], damage: str
) -> None:
    folder.save(1, {"w": torch.arange(1000.0)}, {"step": 1})
    folder.save(2, {"w": torch.arange(1000.0) * 2}, {"step": 2})
    path = tmp_path / "checkpoints" / "checkpoint-00000002.safetensors"
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "empty json":
        path.with_suffix(".json").write_text("")
    elif damage == "no tensors":
        path.unlink()
    else:
        path.with_suffix(".json").unlink()
    assert folder.load_last().counters == {"step": 1}
    if damage != "no json":
        assert "checkpoint-00000002.safetensors" in said[0]
        assert "the previous one" in said[0]


def test_an_error_without_a_message_is_named(
    folder: CheckpointFolder, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(_path: Path) -> None:
        raise MemoryError

    folder.save(1, {"w": torch.zeros(1)}, {"step": 1})
    monkeypatch.setattr(checkpoint, "load_file", out_of_memory)
    assert folder.load_last() is None
    assert "MemoryError" in said[0]


def test_a_checkpoint_of_another_run_is_refused(
    folder: CheckpointFolder, tmp_path: Path, said: list[Any]
) -> None:
    folder.save(1, {"w": torch.zeros(1)}, {})
    other = CheckpointFolder(tmp_path / "checkpoints", {"lr": 0.2, "widths": (1, 2)}, said.append)
    with pytest.raises(CheckpointError, match=r"lr=0.1 where this one has 0.2"):
        other.load_last()


def test_values_missing_from_older_checkpoints_have_defaults(
    folder: CheckpointFolder, tmp_path: Path, said: list[Any]
) -> None:
    folder.save(1, {"w": torch.zeros(1)}, {"step": 1})

    def newer(accumulated: int) -> CheckpointFolder:
        run = {"lr": 0.1, "widths": (1, 2), "accumulated": accumulated}
        defaults = {"lr": 0.2, "accumulated": 1}
        return CheckpointFolder(tmp_path / "checkpoints", run, said.append, defaults=defaults)

    last = newer(1).load_last()
    assert last is not None
    assert last.counters == {"step": 1}
    with pytest.raises(CheckpointError, match=r"accumulated=1 where this one has 4"):
        newer(4).load_last()


def test_the_best_checkpoint_is_separate(folder: CheckpointFolder) -> None:
    folder.save_best({"w": torch.ones(1)}, {"epoch": 1})
    folder.save_best({"w": torch.ones(1) * 2}, {"epoch": 4})
    folder.save(9, {"w": torch.zeros(1)}, {})
    assert folder.load_best().counters == {"epoch": 4}
    assert folder.load_best().tensors["w"].item() == 2


def test_a_full_disk_leaves_the_old_file_and_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill() -> None:
        with written_aside(path) as aside:
            aside.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(TrainingError, match=r"disk full: .*file could not be written"):
        fill()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_reported_by_safetensors(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("Error while serializing: IoError(Os { code: 28, "
                           'message: "No space left on device" })')  # fmt: skip

    monkeypatch.setattr(checkpoint, "save_state", full)
    with pytest.raises(TrainingError, match="disk full"):
        folder.save(1, {"w": torch.zeros(1)}, {})


def test_other_errors_are_raised_unchanged(tmp_path: Path) -> None:
    def fail() -> None:
        with written_aside(tmp_path / "file"):
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adam])
def test_optimizer_state_round_trips(folder: CheckpointFolder, kind: type[Any]) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return layer, kind(layer.parameters(), lr=0.1, **options)

    def step(layer: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()

    layer, optimizer = make()
    step(layer, optimizer)
    tensors, values = flatten_optimizer(optimizer.state_dict())
    tensors |= {f"model/{key}": value for key, value in layer.state_dict().items()}
    folder.save(1, tensors, {"optimizer": values})
    step(layer, optimizer)

    again, resumed = make()
    stored = folder.load_last()
    again.load_state_dict(
        {k.removeprefix("model/"): v for k, v in stored.tensors.items() if k.startswith("model/")}
    )
    groups = resumed.state_dict()["param_groups"]
    resumed.load_state_dict(
        unflatten_optimizer(stored.tensors, stored.counters["optimizer"], groups)
    )
    step(again, resumed)
    assert torch.equal(again.weight, layer.weight)


def test_counters_are_json(folder: CheckpointFolder, tmp_path: Path) -> None:
    folder.save(1, {"w": torch.zeros(1)}, {"history": [{"epoch": 1}]})
    stored = json.loads((tmp_path / "checkpoints" / "checkpoint-00000001.json").read_text())
    assert stored["counters"]["history"] == [{"epoch": 1}]


def test_sigterm_is_recorded() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = StopSignal()
        assert stop.received == ""
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
