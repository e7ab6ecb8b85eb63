"""Files of weights: state dicts as training scripts save them, never unpickled."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from container.errors import WeightsError, first_line

CHECKPOINT_KEYS = ("checkpoint", "state_dict", "model_state_dict", "model", "network", "net")
"""Keys of the network's state dict in checkpoints of Lightning, timm, PyTorch's tutorials and
torchvision's references."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
"""Prefixes that DataParallel, torch.compile and wrapper modules add to each name."""
SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Weights:
    """A state dict, its source in words, and its SHA-256."""

    state: Mapping[str, Tensor]
    source: str
    sha256: str


def read_weights(path: Path) -> Weights:
    """Read the network's state dict from a file, also from a checkpoint that contains it.

    Raises:
        WeightsError: the file cannot be read or holds no state dict.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix in SUFFIXES:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ValueError(f"the suffix is not one of {', '.join(SUFFIXES)}")
        state = _unwrapped(state)
    except Exception as error:
        raise WeightsError(
            f"{path}: expected a state dict of tensors ({first_line(error)})"
        ) from None
    with path.open("rb") as file:
        return Weights(state, str(path), hashlib.file_digest(file, "sha256").hexdigest())


def _unwrapped(found: object) -> dict[str, Tensor]:
    """The state dict in a loaded file: bare, in a checkpoint, or of a wrapped network.

    Raises:
        ValueError: there is none.
    """
    for name in (*CHECKPOINT_KEYS, *CHECKPOINT_KEYS):  # keys may be nested
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found:
        raise ValueError("it holds none")
    state = {str(key): value for key, value in found.items() if key != "n_averaged"}
    odd = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(f"{odd[0]!r} is not a tensor")
    for prefix in (*WRAPPER_PREFIXES, *WRAPPER_PREFIXES):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def digest_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and tensors, sorted by name."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_state(
    state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors of any memory layout as safetensors, with the permissions of a new file.

    safetensors itself makes files readable by their owner only, but the server, a resuming job or
    the user of an image often runs as another user.

    Raises:
        OSError, SafetensorError: from safetensors; also when the disk is full.
    """
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata)
    # The umask cannot be read without changing it for the whole process.
    probe = path.with_name(f"{path.name}.mode")
    probe.touch()
    try:
        path.chmod(stat.S_IMODE(probe.stat().st_mode))
    finally:
        probe.unlink()
