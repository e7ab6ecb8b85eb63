"""Files of a network's weights: state dicts as training scripts leave them, never unpickled."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from container.errors import WeightsError

CHECKPOINT_KEYS = ("checkpoint", "state_dict", "model_state_dict", "model", "network", "net")
"""Where training scripts keep the network among other things: Lightning, timm, PyTorch's tutorials,
torchvision's references."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
"""What DataParallel, torch.compile and a module around the network put before each name."""
SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Weights:
    """A state dict and where it came from: a description and a SHA-256."""

    state: Mapping[str, Tensor]
    source: str
    sha256: str


def read_weights(path: Path) -> Weights:
    """The state dict in a file, out of whatever is around it.

    Raises:
        WeightsError: the file cannot be read or holds something else.
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
        raise WeightsError(f"{path}: expected a state dict of tensors ({line(error)})") from None
    with path.open("rb") as file:
        return Weights(state, str(path), hashlib.file_digest(file, "sha256").hexdigest())


def _unwrapped(found: object) -> dict[str, Tensor]:
    """The state dict in a saved file: alone, in a checkpoint, or of a wrapped network.

    Raises:
        ValueError: there is none.
    """
    for name in (*CHECKPOINT_KEYS, *CHECKPOINT_KEYS):  # one may lie within another
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found:
        raise ValueError("it holds something else")
    state = {str(key): value for key, value in found.items() if key != "n_averaged"}
    odd = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(f"it holds something else: {odd[0]!r}")
    for prefix in (*WRAPPER_PREFIXES, *WRAPPER_PREFIXES):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def digest_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors, by their names' order."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def line(error: Exception) -> str:
    """An error's first line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def save_state(
    state: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors of any layout as safetensors, for whoever the umask lets read a new file.

    safetensors itself writes for the owner alone, and a server, a job that resumes and the user of
    an image are often another user.

    Raises:
        OSError, SafetensorError: as safetensors does, for a full disk too.
    """
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata)
    usual = path.with_name(f"{path.name}.mode")
    usual.touch()
    try:
        path.chmod(stat.S_IMODE(usual.stat().st_mode))
    finally:
        usual.unlink()
