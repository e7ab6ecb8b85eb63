"""How the hook behaves with interruptions, ranks and full disks, and how it detaches."""

import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.settings import HookSettings, HookSettingsError
from container.monitoring.debugger.smdebug_fixes import (
    END_MARKER,
    ModeKeys,
    create_trial,
    open_trial,
)
from tests.unit.container.monitoring.debugger.training import (
    ResNet,
    one_step,
    random_data,
    settings_for,
    tiny_network,
    train_tiny,
    validate,
)

LOSS = "CrossEntropyLoss_output_0"
LAYERS = ("weights", "gradients", "relu_input", "relu_output")


def attached(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_between_saved_steps_the_network_has_no_hooks(tmp_path: Path) -> None:
    network = ResNet()
    hook = TensorHook(settings_for(tmp_path, collections=LAYERS, save_interval=2), network)
    assert attached(network) == 0
    assert hook.step("train")
    assert attached(network) == 2
    assert not hook.step("train")
    assert attached(network) == 0
    hook.record("losses", torch.tensor(1.0))
    assert hook.step("train")
    hook.close()
    hook.close()
    assert attached(network) == 0
    assert not hook.step("train")
    hook.record("losses", torch.tensor(1.0))
    assert open_trial(tmp_path / "output" / "tensors").tensor_names(collection="losses") == []


def test_every_rank_saves_if_configured(tmp_path: Path) -> None:
    settings = HookSettings.read(tmp_path, save_interval=1, all_ranks=True)
    hooks = [TensorHook(settings, tiny_network(), rank=rank, world=2) for rank in (0, 1)]
    for hook in reversed(hooks):
        hook.step("train")
        hook.record("losses", torch.tensor(1.0))
        assert not (settings.path / END_MARKER).exists()
        hook.close()
    trial = open_trial(settings.path)
    assert trial.workers() == ["worker_0", "worker_1"]
    assert trial.steps() == [0]
    assert trial.tensor(LOSS).workers(0) == ["worker_0", "worker_1"]


def test_by_default_only_rank_0_saves(tmp_path: Path) -> None:
    settings = HookSettings.read(tmp_path, save_interval=1)
    hook = TensorHook(settings, tiny_network(), rank=1, world=2)
    assert not hook.step("train")
    hook.record("losses", torch.tensor(1.0))
    hook.close()
    assert not settings.path.exists()


def test_the_end_marker_is_written_on_sagemaker_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "job")
    trial = train_tiny(tiny_network(), random_data(), 2, settings_for(tmp_path))
    assert (tmp_path / "output" / "tensors" / END_MARKER).exists()
    assert trial.steps() == [0, 1]
    assert trial.loaded_all_steps


def test_a_trial_can_be_opened_before_the_first_step(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    hook = TensorHook(settings, tiny_network())
    trial = create_trial(str(settings.path))
    assert trial.steps() == []
    one_step(hook, hook._network)
    hook.step("train")
    assert trial.steps() == [0]
    assert len(trial.tensor_names(collection="gradients")) == 6
    hook.close()


def test_an_interrupted_job_resumes(tmp_path: Path) -> None:
    settings, data, held_out = settings_for(tmp_path), random_data(64), random_data(32, seed=1)
    whole = train_tiny(tiny_network(), data, 8, settings_for(tmp_path / "w"), validation=held_out)
    network, hook = tiny_network(), None
    train_tiny(network, data, 6, settings, validation=held_out, validate_every=4)
    # The checkpoint was written at step 5, and of step 7 half.
    half = settings.path / "index" / "000000000" / "000000000010_worker_0.json.tmp"
    half.write_text('{"meta"')
    hook = TensorHook(settings, network, first_step=5, first_eval_step=2)
    assert not (settings.path / END_MARKER).exists()
    for _ in range(3):
        one_step(hook, network)
    validate(hook, network, held_out)
    hook.close()
    trial = open_trial(settings.path)
    assert trial.steps() == whole.steps() == list(range(12))
    assert trial.steps(ModeKeys.TRAIN) == whole.steps(ModeKeys.TRAIN)
    assert [trial.mode_modestep(step) for step in range(12)] == [
        whole.mode_modestep(step) for step in range(12)
    ]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit every file to `size` bytes inside the block, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_saving_stops_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path, collections=LAYERS, tensorboard=True)
    torch.manual_seed(3)
    network, twin = ResNet().eval(), ResNet().eval()
    twin.load_state_dict(network.state_dict())
    hook = TensorHook(settings, network)
    losses = [one_step(hook, network)]
    hook.step("eval")
    with largest_file(2000):
        losses += [one_step(hook, network) for _ in range(3)]
        hook.close()
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("File too large; saving no more tensors, training continues")
    idle = TensorHook(settings, twin, rank=1)
    assert losses == [one_step(idle, twin) for _ in range(4)]
    assert attached(network) == 0
    assert not [path.name for path in settings.path.rglob("*.tmp")]
    trial = open_trial(settings.path)
    assert trial.steps() == [0, 1]
    assert trial.loaded_all_steps


def test_disk_space_is_reserved_for_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tiny_network()
    hook = TensorHook(settings_for(tmp_path), network)
    one_step(hook, network)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for _ in range(2):
        one_step(hook, network)
    hook.close()
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "1000 MB are left on the disk, 1024 of them reserved for the model" in out
    assert open_trial(tmp_path / "output" / "tensors").steps() == [0]


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "output").write_text("a file")
    network = tiny_network()
    hook = TensorHook(settings_for(tmp_path), network)
    one_step(hook, network)
    hook.close()
    assert capsys.readouterr().out.count("saving no more tensors") == 1


def test_settings_that_smdebug_does_not_understand(tmp_path: Path) -> None:
    wrong = {"HookParameters": {"save_interval": "x"}, "CollectionConfigurations": []}
    settings = HookSettings(tmp_path / "tensors", None, wrong, "debughookconfig.json")
    with pytest.raises(HookSettingsError, match=r"^debughookconfig\.json: invalid literal"):
        TensorHook(settings, tiny_network())


def test_a_compiled_network_is_reported_to_hide_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    settings = settings_for(tmp_path, collections=("relu_output",))
    trial = train_tiny(tiny_network(), random_data(), 3, settings)
    assert trial.tensor_names() == [LOSS]
    assert capsys.readouterr().out.count("a compiled network hides them") == 1


def test_no_thread_of_the_hook_keeps_running(tmp_path: Path) -> None:
    before = threading.active_count()
    train_tiny(tiny_network(), random_data(), 2, settings_for(tmp_path))
    assert threading.active_count() == before
