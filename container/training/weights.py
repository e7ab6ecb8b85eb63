"""What a job starts from: its weights found, fitted strictly, and recorded by digest.

`imagenet` is searched for in the `weights` channel, then in the image (baked in at build), in
installed packages, then at the hub of torchvision or timm. Which one was used is returned and
printed; nothing falls back to random weights.
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
    """What a job's network starts from, with all that `hp` left open.

    Attributes:
        stem: the first layers' name.
        weights: the pretrained weights; None where there are none to load: ranks other than the
            main one load none, as DDP broadcasts them.
        preprocessing: what the weights expect of an image.
        hp: the hyperparameters, `image_size` the weights' own where it was not given.
    """

    stem: str
    weights: Weights | None
    preprocessing: Preprocessing
    hp: Hyperparameters

    @classmethod
    def find(cls, hp: Hyperparameters, channel: Path | None, *, main: bool) -> "Initialization":
        """Resolve what `hp` leaves open, and check that it fits together, before an image is read.

        The network is built without memory for its tensors where its family can do so, so this
        costs a fraction of a second.

        Raises:
            ModelError: the architecture, its stem, head or image size are not possible.
            WeightsError: the weights are not there or do not fit.
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
            # Some families compute with tensors as they are built, which needs their memory.
            network, head = build()
        weights = find_weights(hp.weights, hp.arch, channel) if main else None
        if weights is not None:
            require_fit(network, weights, head)
        return cls(stem, weights, preprocessing, hp)


def find_weights(name: str, arch: str, channel: Path | None) -> Weights | None:
    """The weights that a job requests; None for `none`.

    Args:
        name: `imagenet`, `none`, or a path, absolute or inside the weights channel, to a
            .safetensors or .pth file or a directory with a `model.safetensors`.
        arch: the architecture.
        channel: the `weights` channel's folder, if the job has one.

    Raises:
        WeightsError: they are nowhere to be found, or the file is not a state dict.
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
    """What the weights that a job requests were trained with.

    For an earlier job's model it is what `model.json` beside it says, for another file what is
    usual for the architecture, for `none` ImageNet's statistics.

    Raises:
        ModelError: the architecture is unknown.
        WeightsError: the weights are not where they should be, or a description is unreadable.
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
            # Up to 64 pixels there was no margin to keep.
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
