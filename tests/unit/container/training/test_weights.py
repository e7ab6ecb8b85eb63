from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models as zoo

from container.architectures import build_network
from container.errors import WeightsError
from container.training.state_dicts import Weights
from container.training.weights import find_weights, fit_weights


@pytest.fixture(scope="module")
def pretrained() -> Any:
    torch.manual_seed(1)
    return zoo.resnet18(weights=None).state_dict()


@pytest.fixture
def network() -> tuple[Any, str]:
    return build_network("resnet18", 5, image_size=32)


def test_weights_none_loads_nothing() -> None:
    assert find_weights("none", "resnet18", None) is None
    assert find_weights("None", "resnet18", None) is None


@pytest.mark.parametrize("file", ["resnet18.safetensors", "resnet18-f37072fd.pth"])
def test_the_channel_takes_precedence(
    tmp_path: Path, pretrained: Any, network: tuple[Any, str], file: str
) -> None:
    if file.endswith("pth"):
        torch.save(pretrained, tmp_path / file)
    else:
        save_file(pretrained, tmp_path / file)
    found = find_weights("imagenet", "resnet18", tmp_path)
    assert found is not None
    assert found.source == str(tmp_path / file)
    assert len(found.sha256) == 64
    net, head = network
    own_head = net.fc.weight.clone()
    assert fit_weights(net, found, head) is False
    assert torch.equal(net.conv1.weight, pretrained["conv1.weight"])
    assert torch.equal(net.fc.weight, own_head)


def test_baked_weights_are_found(
    tmp_path: Path, pretrained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path))
    save_file(pretrained, tmp_path / "resnet18.safetensors")
    assert find_weights("imagenet", "resnet18", None).source.endswith("resnet18.safetensors")


def test_a_channel_without_the_architecture_is_an_error_not_a_fallback(
    tmp_path: Path, pretrained: Any
) -> None:
    save_file(pretrained, tmp_path / "resnet50.safetensors")
    with pytest.raises(WeightsError, match=r"no resnet18.*holds resnet50.safetensors"):
        find_weights("imagenet", "resnet18", tmp_path)


def test_the_head_of_an_earlier_model_is_loaded(tmp_path: Path, network: tuple[Any, str]) -> None:
    other: Any
    other, _ = build_network("resnet18", 5, image_size=32)
    save_file(other.state_dict(), tmp_path / "model.safetensors")
    net, head = network
    found = find_weights(str(tmp_path), "resnet18", None)
    assert found is not None
    assert fit_weights(net, found, head) is True
    assert torch.equal(net.fc.weight, other.fc.weight)


def test_wrong_shape_names_the_tensor(pretrained: Any) -> None:
    net, head = build_network("resnet18", 5, image_size=32, stem="small")
    with pytest.raises(
        WeightsError, match=r"conv1.weight is \(64, 3, 7, 7\), expected \(64, 3, 3, 3\)"
    ):
        fit_weights(net, Weights(pretrained, "file", ""), head)


def test_another_architecture_is_refused(pretrained: Any) -> None:
    net, head = build_network("resnet34", 5, image_size=32)
    with pytest.raises(WeightsError, match="is missing .and"):
        fit_weights(net, Weights(pretrained, "file", ""), head)


def test_old_densenet_names_are_converted() -> None:
    torch.manual_seed(0)
    modern = zoo.densenet121(weights=None).state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("conv2", "conv.2")
        if "denselayer" in key
        else key: value
        for key, value in modern.items()
    }
    net, head = build_network("densenet121", 3, image_size=32)
    fit_weights(net, Weights(old, "file", ""), head)
    key = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(net.state_dict()[key], modern[key])


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.bin"])
def test_a_file_that_is_not_a_state_dict(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=f"{name}: expected a state dict"):
        find_weights(name, "resnet18", tmp_path)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="evil.pth"):
        find_weights("evil.pth", "resnet18", tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file .*nowhere.pth"):
        find_weights("nowhere.pth", "resnet18", tmp_path)


def _without_counters(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if "num_batches_tracked" not in key}


@pytest.mark.parametrize(
    "wrap",
    [
        _without_counters,
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"param_groups": []}},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "args": None},
        lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
        lambda state: {"n_averaged": torch.tensor(1), **{f"module.{k}": state[k] for k in state}},
    ],
)
def test_state_dicts_within_common_checkpoint_formats(
    tmp_path: Path, pretrained: Any, network: tuple[Any, str], wrap: Callable[..., Any]
) -> None:
    torch.save(wrap(pretrained), tmp_path / "w.pth")
    net, head = network
    found = find_weights("w.pth", "resnet18", tmp_path)
    assert found is not None
    fit_weights(net, found, head)
    assert torch.equal(net.layer4[1].conv2.weight, pretrained["layer4.1.conv2.weight"])
    assert torch.equal(net.bn1.running_mean, pretrained["bn1.running_mean"])


@pytest.mark.parametrize("saved", [{}, {"state_dict": 3}, {"a": 1}, [torch.zeros(1)], "text"])
def test_files_without_a_state_dict_are_refused(
    tmp_path: Path, saved: dict[str, int] | list[Tensor] | str
) -> None:
    torch.save(saved, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="w.pth: expected a state dict"):
        find_weights("w.pth", "resnet18", tmp_path)
