import os
from pathlib import Path

import pytest
import torch

from container.training.state_dicts import read_weights, save_state


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_weights_have_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "a.safetensors"
    before = os.umask(umask)
    try:
        save_state({"w": torch.ones(2)}, path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_of_any_memory_layout_are_saved(tmp_path: Path) -> None:
    state = {"w": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2)}
    save_state(state, tmp_path / "a.safetensors", {"source": "here"})
    read = read_weights(tmp_path / "a.safetensors").state
    assert set(read) == set(state)
    for name, tensor in state.items():
        torch.testing.assert_close(read[name], tensor)
