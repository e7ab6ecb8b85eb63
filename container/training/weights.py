"""Initial weights of a job: found, loaded strictly, and recorded by digest.

`imagenet` is searched for in the `weights` channel, in the image (baked in at build), in installed
packages, then at the hub of torchvision or timm. The source is returned and printed; nothing falls
back to random weights.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from container.architectures import build_network, has_small_stem, known
from container.artifact import DESCRIPTION, WEIGHTS
from container.errors import BerthError, WeightsError
from container.files.fields import FieldError, Fields
from container.files.json_files import read_object
from container.hyperparameters import Hyperparameters
from container.images.geometry import CROP_SHARE, SMALL, Geometry
from container.images.preprocessing import Preprocessing
from container.models import load_tensors
from container.training.pretrained import Pretrained
from container.training.state_dicts import SUFFIXES, Weights, read_weights


@dataclass(frozen=True)
class Initialization:
    """How a job's network is initialised, with everything resolved that `hp` left open.

    Attributes:
        stem: standard, small or full.
        weights: the pretrained weights; None without any, and on ranks other than the main one, as
            DDP broadcasts them.
        preprocessing: the preprocessing that the weights were trained with.
        hp: the hyperparameters; an `image_size` that was not given is that of the weights.
    """

    stem: str
    weights: Weights | None
    preprocessing: Preprocessing
    hp: Hyperparameters

    @classmethod
    def find(cls, hp: Hyperparameters, channel: Path | None, *, main: bool) -> "Initialization":
        """Resolve what `hp` leaves open and check it before any image is read.

        Takes a fraction of a second: the network is built on the meta device where its architecture
        allows.

        Raises:
            ModelError: the architecture is unknown, or its stem, head or image size is impossible.
            WeightsError: the weights are missing or do not fit.
        """
        preprocessing = find_preprocessing(hp.weights, hp.arch, channel)
        if "image_size" not in hp.model_fields_set:
            hp = hp.model_copy(update={"image_size": preprocessing.image_size})
        stem: str = hp.stem
        if stem == "auto":
            earlier = earlier_stem(hp.weights, hp.arch, channel)
            small = hp.image_size <= 64 and hp.weights.lower() == "none" and has_small_stem(hp.arch)
            stem = earlier or ("small" if small else "standard")
        build = partial(
            build_network,
            hp.arch,
            2,
            image_size=hp.image_size,
            stem=stem,
            head_hidden=hp.head_hidden,
            dropout=hp.dropout,
        )
        try:
            with torch.device("meta"):
                network, head = build()
        except BerthError:
            # Some architectures compute with tensors while they are built.
            network, head = build()
        weights = find_weights(hp.weights, hp.arch, channel) if main else None
        if weights is not None:
            require_fit(network, weights, head)
        return cls(stem, weights, preprocessing, hp)


def find_weights(name: str, arch: str, channel: Path | None) -> Weights | None:
    """The weights that `name` refers to; None for `none`.

    Args:
        name: `imagenet`, `none`, or a path, absolute or inside the weights channel, to a
            .safetensors or .pth file or a directory with a `model.safetensors`.
        arch: the architecture.
        channel: the `weights` channel's folder, if the job has one.

    Raises:
        WeightsError: they were not found, or the file is not a state dict.
    """
    if name.lower() == "none":
        return None
    if name.lower() == "imagenet":
        return Pretrained.find(arch, channel).load()
    path = _resolve(name, channel)
    if not path.is_file():
        raise WeightsError(f"hyperparameter 'weights': no file {path}; expected imagenet, none "
                           f"or a path to one of {', '.join(SUFFIXES)}")  # fmt: skip
    return read_weights(path)


def find_preprocessing(name: str, arch: str, channel: Path | None) -> Preprocessing:
    """The preprocessing that the weights `name` were trained with.

    For an earlier job's model it is in the `model.json` beside it. For another file it is the
    architecture's usual preprocessing, and for `none` it has ImageNet's statistics.

    Raises:
        ModelError: the architecture is unknown.
        WeightsError: the weights are missing, or the description cannot be read.
    """
    if name.lower() == "none":
        known(arch)
        return Preprocessing()
    if name.lower() == "imagenet":
        return Pretrained.find(arch, channel).preprocessing
    description = _resolve(name, channel).with_name(DESCRIPTION)
    if not description.is_file():
        return Pretrained(known(arch), None).preprocessing
    stored = Fields(read_object(description, WeightsError))
    default = Preprocessing()
    try:
        if not stored.has("geometry"):
            return default
        geometry = Geometry.from_json(stored.object("geometry").items())
        return Preprocessing(
            image_size=geometry.crop,
            # Images of up to 64 pixels were resized without a margin.
            crop_share=geometry.crop / geometry.resize if geometry.crop > SMALL else CROP_SHARE,
            interpolation=geometry.interpolation,
            mean=stored.three("mean") if stored.has("mean") else default.mean,
            std=stored.three("std", positive=True) if stored.has("std") else default.std,
        )
    except (FieldError, ValueError) as error:
        raise WeightsError(f"{description}: not an artifact's description: {error}") from None


def _resolve(name: str, channel: Path | None) -> Path:
    path = Path(name)
    if channel is not None and not path.is_absolute():
        path = channel / name
    return path / WEIGHTS if path.is_dir() else path


def earlier_stem(name: str, arch: str, channel: Path | None) -> str | None:
    """The stem of the earlier job's model that `name` refers to; None for other weights.

    Raises:
        WeightsError: the model has another architecture, or its description cannot be read.
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


def fit_weights(network: nn.Module, weights: Weights, head: str) -> bool:
    """Load weights into a network.

    Args:
        head: name of the head's module. A stored head of the same shape is loaded too (continuing
            from an earlier job's model); another is skipped (different classes).

    Returns:
        Whether the head was loaded too.

    Raises:
        WeightsError: a tensor is missing, unknown, or of another shape.
    """
    body, stored_head, same_head = _fitted(network, weights, head)
    load_tensors(network, body | (stored_head if same_head else {}), strict=False)
    return same_head


def require_fit(network: nn.Module, weights: Weights, head: str) -> None:
    """Raise what `fit_weights` would, without loading; the network may be on the meta device."""
    _fitted(network, weights, head)


def _fitted(
    network: nn.Module, weights: Weights, head: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """The stored tensors of the backbone, those of the head, and whether the latter fit."""
    own = network.state_dict()

    def of_head(key: str) -> bool:
        return key == head or key.startswith(f"{head}.")

    # torchvision's files have the auxiliary heads of GoogLeNet and Inception, which are not built.
    # Its DenseNet files have old layer names: norm.1, now norm1.
    stored = {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)", r"\1\2", key): tensor
        for key, tensor in weights.state.items()
        if not key.startswith(("aux", "AuxLogits"))
    }
    stored_head = {key: tensor for key, tensor in stored.items() if of_head(key)}
    same_head = {k: v.shape for k, v in stored_head.items()} == {
        k: v.shape for k, v in own.items() if of_head(k)
    }
    body = {key: tensor for key, tensor in stored.items() if not of_head(key)}
    problems = [
        f"{key} is {tuple(body[key].shape)}, expected {tuple(own[key].shape)}"
        for key in body.keys() & own.keys()
        if body[key].shape != own[key].shape
    ]
    # Files from before PyTorch 0.4.1 lack these counters, which only matter if momentum is None.
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
