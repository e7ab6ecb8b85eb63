"""Pretrained weights: found where the job can reach them, fitted strictly, recorded by digest.

`imagenet` is searched for in the `weights` channel, then in the image (baked in at build), then at
torchvision's hub. Which one was used is returned and printed; nothing falls back to random weights.

    python -m container.training.weights bake resnet18 resnet50 --into /opt/berth/weights
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models as zoo

from container.artifact import DESCRIPTION, WEIGHTS
from container.errors import BerthError, WeightsError
from container.files.json_files import read_object
from container.hyperparameters import Hyperparameters
from container.models import build_network, has_small_stem, load_tensors

BAKED = Path("/opt/berth/weights")
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


@dataclass(frozen=True)
class Initialization:
    """The stem and the pretrained weights of a job's network; None where there are none to load.

    Ranks other than the main one load none: DDP broadcasts them.
    """

    stem: str
    weights: Weights | None

    @classmethod
    def find(cls, hp: Hyperparameters, channel: Path | None, *, main: bool) -> "Initialization":
        """Resolve what `hp` leaves open, and check that it fits together, before an image is read.

        The network is built without memory for its tensors where torchvision can do so (RegNet
        computes its widths with tensors), so this costs a fraction of a second.

        Raises:
            ModelError: the architecture, its stem, head or image size are not possible.
            WeightsError: the weights are not there or do not fit.
        """
        stem: str = hp.stem
        if stem == "auto":
            earlier = earlier_stem(hp.weights, hp.arch, channel)
            small = hp.image_size <= 64 and hp.weights.lower() == "none" and has_small_stem(hp.arch)
            stem = earlier or ("small" if small else "standard")
        with torch.device("cpu" if hp.arch.startswith("regnet") else "meta"):
            network, head = build_network(
                hp.arch,
                2,
                image_size=hp.image_size,
                stem=stem,
                head_hidden=hp.head_hidden,
                dropout=hp.dropout,
            )
        weights = find_weights(hp.weights, hp.arch, channel) if main else None
        if weights is not None:
            require_fit(network, weights, head)
        return cls(stem, weights)


def find_weights(name: str, arch: str, channel: Path | None) -> Weights | None:
    """The weights that a job requests; None for `none`.

    Args:
        name: `imagenet`, `none`, or a path, absolute or inside the weights channel, to a
            .safetensors or .pth file or a directory with a `model.safetensors`.
        arch: torchvision's name of the architecture.
        channel: the `weights` channel's folder, if the job has one.

    Raises:
        WeightsError: they are nowhere to be found, or the file is not a state dict.
    """
    if name.lower() == "none":
        return None
    if name.lower() == "imagenet":
        return _imagenet(arch, channel)
    path = _resolve(name, channel)
    if not path.is_file():
        raise WeightsError(f"hyperparameter 'weights': no file {path}; expected imagenet, none "
                           f"or a path to one of {', '.join(SUFFIXES)}")  # fmt: skip
    return _read(path)


def _resolve(name: str, channel: Path | None) -> Path:
    path = Path(name)
    if channel is not None and not path.is_absolute():
        path = channel / name
    return path / WEIGHTS if path.is_dir() else path


def earlier_stem(name: str, arch: str, channel: Path | None) -> str | None:
    """The stem of the earlier job's model that `name` stands for; None for other weights.

    Raises:
        WeightsError: it is a model of another architecture, or its description cannot be read.
    """
    if name.lower() in {"none", "imagenet"}:
        return None
    path = _resolve(name, channel).with_name(DESCRIPTION)
    if not path.is_file():
        return None
    stored = read_object(path, WeightsError)
    if stored.get("arch", arch) != arch:
        raise WeightsError(
            f"{path}: a model of {stored['arch']!r}, but hyperparameter 'arch' is {arch!r}; "
            "they must be the same"
        )
    stem = stored.get("stem")
    return stem if stem in {"standard", "small", "full"} else None


def _imagenet(arch: str, channel: Path | None) -> Weights:
    folders = [folder for folder in (channel, baked_folder()) if folder is not None]
    for folder in folders:
        for suffix in SUFFIXES:
            for path in sorted(folder.glob(f"{arch}[.-]*")) if folder.is_dir() else ():
                if path.suffix == suffix:
                    return _read(path)
        if folder == channel:
            raise WeightsError(
                f"channel 'weights' ({folder}) has no {arch}.safetensors or {arch}-*.pth; it holds "
                f"{', '.join(sorted(p.name for p in folder.iterdir())[:5]) or 'nothing'}"
            )
    return _download(arch)


def baked_folder() -> Path:
    """Where weights baked into the image lie; `BERTH_WEIGHTS_DIR` names another folder."""
    return Path(os.environ.get("BERTH_WEIGHTS_DIR", BAKED))


def _download(arch: str) -> Weights:
    weights = zoo.get_model_weights(arch).DEFAULT
    try:
        state = zoo.get_model(arch, weights=weights, progress=sys.stdout.isatty()).state_dict()
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"hyperparameter 'weights': imagenet weights of {arch} are not in a weights channel "
            f"nor in {baked_folder()}, and downloading them failed ({error}); bring them in a "
            "channel named weights, bake them into the image, or say weights=none"
        ) from None
    return Weights(state, weights.url, _digest_state(state))


def _read(path: Path) -> Weights:
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif path.suffix in SUFFIXES:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ValueError(f"the suffix is not one of {', '.join(SUFFIXES)}")
        state = _unwrapped(state)
    except Exception as error:
        raise WeightsError(f"{path}: expected a state dict of tensors ({_line(error)})") from None
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


def fit_weights(network: nn.Module, weights: Weights, head: str) -> bool:
    """Load weights into a network, every tensor but those of its head.

    Args:
        head: name of the head's module; a stored head is used when it has the same shape (going on
            from an earlier job's model) and left out otherwise (another set of classes).

    Returns:
        Whether the head was loaded too.

    Raises:
        WeightsError: a tensor is missing, extra, or of another shape.
    """
    body, stored_head, same_head = _fitted(network, weights, head)
    load_tensors(network, body | (stored_head if same_head else {}), strict=False)
    return same_head


def require_fit(network: nn.Module, weights: Weights, head: str) -> None:
    """Raises as `fit_weights` does, and loads nothing: the network may be without memory."""
    _fitted(network, weights, head)


def _fitted(
    network: nn.Module, weights: Weights, head: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """The tensors of the body, those of the head, and whether the latter fit."""
    own = network.state_dict()

    def of_head(key: str) -> bool:
        return key == head or key.startswith(f"{head}.")

    # torchvision's files carry the auxiliary heads of GoogLeNet and Inception, built without here.
    # Its DenseNet files name layers as torchvision once did: norm.1, now norm1.
    given = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)", r"\1\2", key): tensor
        for key, tensor in weights.state.items()
        if not key.startswith(("aux", "AuxLogits"))
    }
    stored_head = {key: tensor for key, tensor in given.items() if of_head(key)}
    same_head = {k: v.shape for k, v in stored_head.items()} == {
        k: v.shape for k, v in own.items() if of_head(k)
    }
    body = {key: tensor for key, tensor in given.items() if not of_head(key)}
    problems = [
        f"{key} is {tuple(body[key].shape)}, expected {tuple(own[key].shape)}"
        for key in body.keys() & own.keys()
        if body[key].shape != own[key].shape
    ]
    # Files from before PyTorch 0.4.1 lack the counters, which only a momentum of None would use.
    problems += [
        f"{key} is missing"
        for key in own
        if not of_head(key) and key not in body and not key.endswith(".num_batches_tracked")
    ]
    problems += [f"{key} is not of this architecture" for key in body if key not in own]
    if problems:
        raise WeightsError(
            f"{weights.source}: does not fit the network: {min(problems)}"
            + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        )
    return body, stored_head, same_head


def _digest_state(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def bake(archs: list[str], into: Path) -> None:
    """Download torchvision's default weights and keep them as `<arch>.safetensors` in `into`.

    Raises:
        WeightsError: a download failed.
    """
    into.mkdir(parents=True, exist_ok=True)
    for arch in archs:
        weights = _download(arch)
        state = {key: tensor.contiguous() for key, tensor in weights.state.items()}
        save_file(state, into / f"{arch}.safetensors", metadata={"source": weights.source})
        print(f"{arch}: {weights.source} -> {into / arch}.safetensors", flush=True)


def main() -> None:
    """The command line: `bake ARCH... --into FOLDER`."""
    parser = argparse.ArgumentParser(prog="python -m container.training.weights")
    commands = parser.add_subparsers(required=True)
    baking = commands.add_parser("bake", help="keep torchvision's weights as safetensors")
    baking.add_argument("archs", nargs="*", metavar="ARCH", choices=zoo.list_models(module=zoo))
    baking.add_argument("--into", type=Path, default=BAKED)
    arguments = parser.parse_args()
    try:
        bake(arguments.archs, arguments.into)
    except BerthError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
