from pathlib import Path

import pytest

from serve.inference.devices import first_free, gpus


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_host_without_device_files_has_none(tmp_path: Path) -> None:
    assert gpus({"NVIDIA_VISIBLE_DEVICES": "all"}, tmp_path) == ()
    assert gpus({}, tmp_path / "missing") == ()


def test_each_device_file_is_one_gpu(dev: Path) -> None:
    assert gpus({}, dev) == ("0", "1", "2")


@pytest.mark.parametrize("value", ["", "-1", "none", "NoDevFiles"])
def test_cuda_visible_devices_may_hide_all_gpus(dev: Path, value: str) -> None:
    assert gpus({"CUDA_VISIBLE_DEVICES": value}, dev) == ()


@pytest.mark.parametrize("value", ["", "none", "void"])
def test_nvidia_visible_devices_may_hide_all_gpus(dev: Path, value: str) -> None:
    assert gpus({"NVIDIA_VISIBLE_DEVICES": value}, dev) == ()


def test_cuda_visible_devices_chooses(dev: Path) -> None:
    assert gpus({"CUDA_VISIBLE_DEVICES": "1, GPU-8f2c"}, dev) == ("1", "GPU-8f2c")


def test_wsl_has_one_device_and_needs_nvidia_visible_devices(tmp_path: Path) -> None:
    (tmp_path / "dxg").touch()
    assert gpus({"NVIDIA_VISIBLE_DEVICES": "all"}, tmp_path) == ("0",)
    assert gpus({}, tmp_path) == ()


def test_a_new_worker_gets_a_free_gpu() -> None:
    assert first_free(("0", "1"), [None]) == "0"
    assert first_free(("0", "1"), ["0"]) == "1"
    assert first_free(("0", "1"), ["1"]) == "0"
    assert first_free((), []) is None
