"""With the same configuration and training, this hook and smdebug's own save the same tensors."""

import atexit
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smdebug.pytorch import Hook, modes
from torch import nn

from container.monitoring.debugger.settings import HookSettings
from container.monitoring.debugger.smdebug_fixes import open_trial
from tests.unit.container.monitoring.debugger.training import random_data, train_tiny

STEPS, VALIDATE_EVERY, BATCH = 9, 4, 16
LOSSES = {"CollectionName": "losses"}
FILES: dict[str, dict[str, Any]] = {
    "the SDK's default": {"HookParameters": None, "CollectionConfigurations": None},
    "an interval": {
        "HookParameters": {"save_interval": "3"},
        "CollectionConfigurations": [
            LOSSES,
            {"CollectionName": "weights", "CollectionParameters": {}},
            {"CollectionName": "biases", "CollectionParameters": None},
            {"CollectionName": "gradients"},
        ],
    },
    "modes": {
        "HookParameters": {"train.save_interval": "4", "eval.save_interval": "1"},
        "CollectionConfigurations": [
            {"CollectionName": "gradients", "CollectionParameters": {"save_steps": "1,2,7"}},
            {
                "CollectionName": "weights",
                "CollectionParameters": {"eval.start_step": "2", "train.end_step": "4"},
            },
            {"CollectionName": "losses", "CollectionParameters": {"save_interval": "2"}},
        ],
    },
    "layers": {
        "HookParameters": {"save_interval": "5", "include_regex": "conv_out, ^Net_input"},
        "CollectionConfigurations": [
            {
                "CollectionName": "relu_output",
                "CollectionParameters": {"include_regex": ".*relu_output", "start_step": "1"},
            },
            {"CollectionName": "tops", "CollectionParameters": {"include_regex": "last.weight$"}},
        ],
    },
    "reductions": {
        "HookParameters": {"save_interval": "4", "reductions": "mean,abs_max,l1_norm"},
        "CollectionConfigurations": [
            LOSSES,
            {"CollectionName": "weights"},
            {
                "CollectionName": "gradients",
                "CollectionParameters": {"reductions": "std,variance,abs_l2_norm,prod,sum,min"},
            },
        ],
    },
    "everything": {
        "HookParameters": {"save_interval": "4", "save_all": "True"},
        "CollectionConfigurations": [],
    },
}


class Net(nn.Sequential):
    """Layers whose names smdebug does not need help with."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(3, 4, 3, padding=1),
                norm=nn.BatchNorm2d(4),
                relu=nn.ReLU(),
                flat=nn.Flatten(),
                last=nn.Linear(4 * 8 * 8, 4),
            )
        )


def with_smdebug(file: Path) -> None:
    """Train as `train_tiny` does, with smdebug's own hook."""
    network, criterion, (inputs, labels) = Net(), nn.CrossEntropyLoss(), random_data(64)
    hook = Hook.create_from_json_file(str(file))
    hook.register_module(network)
    hook.register_loss(criterion)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    held_out = random_data(32, seed=1)
    for step in range(STEPS):
        batch = slice((step % 4) * BATCH, (step % 4) * BATCH + BATCH)
        network.train()
        hook.set_mode(modes.TRAIN)
        optimizer.zero_grad(set_to_none=True)
        criterion(network(inputs[batch]), labels[batch]).backward()
        optimizer.step()
        if (step + 1) % VALIDATE_EVERY == 0 or step == STEPS - 1:
            network.eval()
            hook.set_mode(modes.EVAL)
            with torch.no_grad():
                for start in range(0, 32, BATCH):
                    part = slice(start, start + BATCH)
                    criterion(network(held_out[0][part]), held_out[1][part])
    hook.close()
    for handler in (
        hook._cleanup,
        hook.profiler_config_parser.stop_post_hook_close_python_profiling,
    ):
        atexit.unregister(handler)


def saved(trial: Any) -> dict[tuple[str, int, str, Any], Any]:
    """Return every value and reduction by mode, step and name."""
    found: dict[tuple[str, int, str, Any], Any] = {}
    for name in trial.tensor_names():
        tensor = trial.tensor(name)
        for mode in (modes.TRAIN, modes.EVAL):
            for step in tensor.steps(mode):
                kept = tensor._mode_steps[mode].step(step)["worker_0"]
                reductions = tensor.reduction_values(step, mode)
                found |= {(mode.name, step, name, key): v for key, v in reductions.items()}
                if kept.location is not None:
                    found[mode.name, step, name, None] = tensor.value(step, mode)
    return found


@pytest.mark.parametrize("kind", FILES)
def test_the_same_tensors_at_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "debughookconfig.json"
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    file.write_text(json.dumps(FILES[kind] | {"LocalPath": str(theirs)}))
    with_smdebug(file)
    file.write_text(json.dumps(FILES[kind] | {"LocalPath": str(ours)}))
    monkeypatch.setenv("SMDEBUG_CONFIG_FILE_PATH", str(file))
    trial = train_tiny(
        Net(),
        random_data(64),
        STEPS,
        HookSettings.read(tmp_path),
        validation=random_data(32, seed=1),
        validate_every=VALIDATE_EVERY,
        batch_size=BATCH,
    )
    expected, found = saved(open_trial(theirs)), saved(trial)
    assert expected
    beyond_smdebug = {"input_images", "labels", "predictions"}
    unseen = {"CrossEntropyLoss_input_0", "CrossEntropyLoss_input_1"}  # a function has no inputs
    assert {k for k in found if k[2] not in beyond_smdebug} == {
        k for k in expected if k[2] not in unseen
    }
    for key in expected.keys() & found.keys():
        np.testing.assert_allclose(
            found[key], expected[key], rtol=1e-5, atol=1e-7, err_msg=str(key)
        )
    for name, collection in open_trial(theirs).collections().items():
        assert trial.collection(name).to_json_dict()["include_regex"] == collection.include_regex
        assert trial.collection(name).save_config == collection.save_config
        assert trial.collection(name).reduction_config == collection.reduction_config
