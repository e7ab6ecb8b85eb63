"""What the hook saves: names, values, steps."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.settings import HookSettings
from container.monitoring.debugger.smdebug_fixes import ModeKeys, open_trial
from tests.unit.container.monitoring.debugger.training import (
    ResNet,
    random_data,
    settings_for,
    tiny_network,
    train_tiny,
)

LOSS = "CrossEntropyLoss_output_0"
EVERYTHING = (
    "losses",
    "weights",
    "biases",
    "gradients",
    "relu_input",
    "relu_output",
    "inputs",
    "labels",
    "predictions",
)


def configured(base: Path, hook: dict[str, Any], *collections: dict[str, Any]) -> HookSettings:
    path = base / "input" / "config" / "debughookconfig.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"HookParameters": hook, "CollectionConfigurations": collections}))
    return HookSettings.read(base)


def test_tensor_names_equal_smdebugs(tmp_path: Path) -> None:
    trial = train_tiny(ResNet(), random_data(), 1, settings_for(tmp_path, collections=EVERYTHING))
    names = {name: trial.tensor_names(collection=name) for name in EVERYTHING}
    weights = ["bn1.weight", "conv1.weight", "conv2.weight", "fc.weight"]
    assert names == {
        "losses": [LOSS],
        "weights": [f"ResNet_{name}" for name in weights],
        "biases": ["ResNet_bn1.bias", "ResNet_fc.bias"],
        "gradients": sorted(
            f"gradient/ResNet_{name}" for name in [*weights, "bn1.bias", "fc.bias"]
        ),
        "relu_input": ["relu_input_0", "relu_input_1"],
        "relu_output": ["relu_output_0", "relu_output_1"],
        "inputs": ["input_images"],
        "labels": ["labels"],
        "predictions": ["predictions"],
    }
    assert trial.tensor_names() == sorted(name for found in names.values() for name in found)


def test_values_are_those_of_the_step(tmp_path: Path) -> None:
    network, kept = tiny_network(), []
    trial = train_tiny(
        network,
        random_data(),
        3,
        settings_for(tmp_path, collections=EVERYTHING),
        before_step=lambda _: kept.append(copy.deepcopy(network.state_dict())),
    )
    before, after = kept[1], kept[2]
    weight = trial.tensor("Sequential_0.weight").value(1, mode=ModeKeys.TRAIN)
    gradient = trial.tensor("gradient/Sequential_0.weight").value(1, mode=ModeKeys.TRAIN)
    np.testing.assert_array_equal(weight, before["0.weight"])
    np.testing.assert_allclose(weight - 0.1 * gradient, after["0.weight"], atol=1e-7)
    labels = trial.tensor("labels").value(1)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, random_data()[1][16:32])
    np.testing.assert_array_equal(trial.tensor("input_images").value(1), random_data()[0][16:32])
    predictions = trial.tensor("predictions").value(1)
    assert predictions.dtype == np.float32
    loss = -np.log(predictions[range(16), labels]).mean()
    assert trial.tensor(LOSS).value(1) == pytest.approx(loss, rel=1e-5)


def test_an_input_overwritten_in_place_is_saved_unchanged(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, collections=("relu_input", "relu_output"))
    trial = train_tiny(ResNet(), random_data(), 1, settings)
    for place in (0, 1):
        given = trial.tensor(f"relu_input_{place}").value(0)
        assert given.min() < 0
        np.testing.assert_array_equal(
            trial.tensor(f"relu_output_{place}").value(0), np.maximum(given, 0)
        )


def test_activations_are_found_under_any_layer_name(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(192, 4), nn.Tanh(), nn.Sigmoid(), nn.ReLU6(), nn.SiLU()
    )
    collections = ("tanh_input", "sigmoid_output", "relu_output", "activations")
    trial = train_tiny(network, random_data(), 1, settings_for(tmp_path, collections=collections))
    assert trial.tensor_names(collection="tanh_input") == ["2_tanh_input_0"]
    assert trial.tensor_names(collection="sigmoid_output") == ["3_sigmoid_output_0"]
    assert trial.tensor_names(collection="relu_output") == ["4_relu_output_0"]
    assert trial.tensor_names(collection="activations") == [
        "2_tanh_output_0",
        "3_sigmoid_output_0",
        "4_relu_output_0",
        "5_silu_output_0",
    ]


def test_all_tensors_are_saved(tmp_path: Path) -> None:
    trial = train_tiny(ResNet(), random_data(), 1, settings_for(tmp_path, collections=("all",)))
    assert {"conv2_output_0", "ResNet_input_0", "ResNet_output_0", "labels", LOSS} <= set(
        trial.tensor_names()
    )
    assert trial.tensor_names(collection="all") == trial.tensor_names()


def test_the_first_samples_of_a_large_layer_are_saved(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, collections=("relu_output", "inputs"))
    small = replace(settings, layer_bytes=5 * 8 * 8 * 8 * 4)
    trial = train_tiny(tiny_network(), random_data(16), 1, small)
    assert trial.tensor("1_relu_output_0").value(0).shape == (5, 8, 8, 8)
    assert trial.tensor("input_images").value(0).shape == (16, 3, 8, 8)
    given = {"CollectionName": "relu_output"}
    exact = configured(tmp_path / "exact", {"save_interval": "1"}, given)
    assert exact.layer_bytes is None
    again = train_tiny(tiny_network(), random_data(16), 1, replace(settings, layer_bytes=1))
    assert again.tensor("1_relu_output_0").value(0).shape == (1, 8, 8, 8)


def test_hook_parameters_choose_tensors(tmp_path: Path) -> None:
    chosen = configured(tmp_path / "a", {"save_interval": "1", "include_regex": "^5_out,0.bias"})
    trial = train_tiny(tiny_network(), random_data(), 1, chosen)
    assert trial.tensor_names(collection="default") == [
        "5_output_0",
        "Sequential_0.bias",
        "gradient/Sequential_0.bias",
    ]
    whole = configured(tmp_path / "b", {"save_interval": "1", "save_all": "True"})
    everything = train_tiny(tiny_network(), random_data(), 1, whole).tensor_names()
    assert {"4_input_0", "labels", "gradient/Sequential_5.bias"} <= set(everything)


def test_only_requested_collections_are_saved(tmp_path: Path) -> None:
    trial = train_tiny(ResNet(), random_data(), 1, settings_for(tmp_path, collections=("biases",)))
    assert trial.tensor_names() == [LOSS, "ResNet_bn1.bias", "ResNet_fc.bias"]


def test_modes_count_their_own_steps(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, save_interval=3)
    data = random_data(64)
    trial = train_tiny(tiny_network(), data, 7, settings, validation=random_data(32, seed=1))
    # Four training steps, two validation steps, three training steps, two validation steps.
    assert trial.steps(ModeKeys.TRAIN) == [0, 3, 6]
    assert trial.steps(ModeKeys.EVAL) == [0, 1, 2, 3]
    assert trial.steps() == [0, 3, 4, 5, 8, 9, 10]
    assert trial.mode_modestep(8) == (ModeKeys.TRAIN, 6)
    assert trial.tensor("Sequential_0.weight").steps(ModeKeys.EVAL) == [0, 3]
    assert trial.tensor("gradient/Sequential_0.weight").steps(ModeKeys.EVAL) == []
    assert trial.loaded_all_steps


def test_the_configuration_file_sets_the_steps_to_save(tmp_path: Path) -> None:
    settings = configured(
        tmp_path,
        {"train.save_interval": "4", "eval.save_interval": "2", "train.end_step": "6"},
        {
            "CollectionName": "weights",
            "CollectionParameters": {"train.save_interval": "100", "train.save_steps": "1,5"},
        },
        {
            "CollectionName": "gradients",
            "CollectionParameters": {
                "save_interval": "3",
                "start_step": "2",
                "train.end_step": "100",
            },
        },
    )
    trial = train_tiny(
        tiny_network(), random_data(64), 9, settings, validation=random_data(48, seed=1)
    )
    assert trial.tensor(LOSS).steps(ModeKeys.TRAIN) == [0, 4]
    assert trial.tensor(LOSS).steps(ModeKeys.EVAL) == [0, 2, 4, 6, 8]
    assert trial.tensor("Sequential_0.weight").steps(ModeKeys.TRAIN) == [0, 1, 5]
    assert trial.tensor("gradient/Sequential_0.weight").steps(ModeKeys.TRAIN) == [3, 6]


def test_reductions_instead_of_tensors(tmp_path: Path) -> None:
    settings = configured(
        tmp_path,
        {"save_interval": "1"},
        {"CollectionName": "weights", "CollectionParameters": {"reductions": "abs_max,std"}},
        {
            "CollectionName": "biases",
            "CollectionParameters": {"reductions": "l2_norm", "save_raw_tensor": "True"},
        },
        {"CollectionName": "labels", "CollectionParameters": {"reductions": "mean,variance"}},
        {
            "CollectionName": "gradients",
            "CollectionParameters": {"save_shape": "true"},
        },
    )
    network = tiny_network()
    weight = network[0].weight.detach().clone()
    trial = train_tiny(network, random_data(), 1, settings)
    values = trial.tensor("Sequential_0.weight").reduction_values(0)
    assert values[("max", True)] == pytest.approx(float(weight.abs().max()))
    assert values[("std", False)] == pytest.approx(float(weight.std()))
    bias = trial.tensor("Sequential_0.bias")
    norm = np.linalg.norm(bias.value(0))
    assert bias.reduction_values(0)[("l2", False)] == pytest.approx(norm, rel=1e-5)
    assert trial.tensor("labels").reduction_values(0)[("mean", False)] == 1.5
    assert list(trial.tensor("gradient/Sequential_0.weight").shape(0)) == [8, 3, 3, 3]


def test_a_standard_deviation_of_a_single_number_is_nan_without_a_warning(tmp_path: Path) -> None:
    given = {"CollectionName": "biases", "CollectionParameters": {"reductions": "std,mean"}}
    settings = configured(tmp_path, {"save_interval": "1"}, given)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 1), nn.Linear(1, 4))
    values = train_tiny(network, random_data(), 1, settings).tensor("Sequential_1.bias")
    assert np.isnan(values.reduction_values(0)[("std", False)])
    assert np.isfinite(values.reduction_values(0)[("mean", False)])


def test_training_is_the_same_with_and_without_the_hook(tmp_path: Path) -> None:
    def train(hook: TensorHook | None) -> tuple[dict[str, Tensor], Tensor]:
        torch.manual_seed(1)
        network = ResNet()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        inputs, labels = random_data(16)
        watched = hook_on(network) if hook is not None else None
        for _ in range(4):
            if watched:
                watched.step("train")
            loss = F.cross_entropy(network(inputs), labels)
            if watched:
                watched.record("losses", loss)
                watched.record("inputs", inputs)
            optimizer.zero_grad()
            loss.backward()
            if watched:
                watched.gradients()
            optimizer.step()
        if watched:
            watched.close()
        return network.state_dict(), torch.rand(3)

    def hook_on(network: nn.Module) -> TensorHook:
        return TensorHook(settings, network)

    settings = settings_for(tmp_path, collections=("all",), save_interval=2, tensorboard=True)
    plain, drawn = train(None)
    debugged, drawn_too = train(TensorHook(settings_for(tmp_path / "unused"), ResNet()))
    assert all(torch.equal(plain[name], debugged[name]) for name in plain)
    assert torch.equal(drawn, drawn_too)
    assert len(open_trial(settings.path).steps()) == 2


def test_half_precision(tmp_path: Path) -> None:
    network = ResNet().to(memory_format=torch.channels_last)
    hook = TensorHook(settings_for(tmp_path, collections=("all",)), network)
    inputs, labels = random_data(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hook.step("train")
        logits = network(inputs.contiguous(memory_format=torch.channels_last))
    hook.record("losses", F.cross_entropy(logits.float(), labels))
    logits.float().sum().backward()
    hook.close()
    trial = open_trial(tmp_path / "output" / "tensors")
    outputs = trial.tensor("ResNet_output_0").value(0)
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, logits.detach().float())
    assert trial.tensor("conv1_output_0").value(0).shape == (8, 4, 8, 8)


def test_float16_values_keep_their_type_and_their_reductions_do_not_overflow(
    tmp_path: Path,
) -> None:
    reduced = {
        "include_regex": "Flatten_output",
        "reductions": "sum",
        "save_raw_tensor": "True",
    }
    settings = configured(
        tmp_path,
        {"save_interval": "1"},
        {"CollectionName": "mine", "CollectionParameters": reduced},
    )
    network = nn.Flatten()
    hook = TensorHook(settings, network)
    hook.step("train")
    network(torch.full((2, 4), 60000.0, dtype=torch.float16))
    hook.close()
    tensor = open_trial(settings.path).tensor("Flatten_output_0")
    assert tensor.value(0).dtype == np.float16
    assert tensor.reduction_values(0)[("sum", False)] == 480000


def test_frozen_parameters_and_undefined_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tiny_network()
    network[0].requires_grad_(False)
    with torch.no_grad():
        network[5].bias[0] = float("nan")
    settings = settings_for(tmp_path, tensorboard=True)
    trial = train_tiny(network, random_data(), 2, settings)
    assert "gradient/Sequential_0.weight" not in trial.tensor_names()
    assert "Sequential_0.weight" in trial.tensor_names()
    assert np.isnan(trial.tensor(LOSS).value(1))
    assert np.isnan(trial.tensor("Sequential_5.bias").value(1)).all()
    assert capsys.readouterr().out == ""


def test_gradients_are_saved_without_a_call(tmp_path: Path) -> None:
    network = tiny_network()
    hook = TensorHook(settings_for(tmp_path), network)
    hook.step("train")
    network(random_data(4)[0]).sum().backward()
    expected = network[0].weight.grad
    assert expected is not None
    hook.step("eval")
    hook.close()
    saved = open_trial(tmp_path / "output" / "tensors").tensor("gradient/Sequential_0.weight")
    np.testing.assert_array_equal(saved.value(0, mode=ModeKeys.TRAIN), expected)


def test_a_wrapped_network_and_its_average(tmp_path: Path) -> None:
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        network = ResNet()
        wrapped = DistributedDataParallel(network)
        average = AveragedModel(network)
        with torch.no_grad():
            average.module.conv1.weight.zero_()
        settings = settings_for(tmp_path, collections=EVERYTHING)
        hook = TensorHook(settings, network)
        inputs, labels = random_data(8)
        hook.step("train")
        loss = F.cross_entropy(wrapped(inputs), labels)
        hook.record("losses", loss)
        loss.backward()
        hook.gradients()
        average.module.eval()
        with torch.inference_mode():
            hook.step("eval", average.module)
            average.module(inputs)
        hook.close()
    finally:
        distributed.destroy_process_group()
    trial = open_trial(settings.path)
    assert trial.workers() == ["worker_0"]
    weight = trial.tensor("ResNet_conv1.weight")
    assert weight.value(0, mode=ModeKeys.TRAIN).any()
    assert not weight.value(0, mode=ModeKeys.EVAL).any()
    assert trial.tensor("relu_output_1").steps(ModeKeys.EVAL) == [0]
    assert trial.tensor("gradient/ResNet_fc.bias").value(0).any()


def test_closing_the_hook_restores_the_networks_export(tmp_path: Path) -> None:
    network, (images, _) = tiny_network(), random_data(2)
    hook = TensorHook(settings_for(tmp_path, collections=EVERYTHING), network)
    hook.step("train")
    expected = network(images).detach()
    hook.close()
    program = torch.export.export(network, (images,))
    assert torch.equal(program.module()(images), expected)
