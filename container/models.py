"""The network: any torchvision classifier by name, with a head of the job's own.

A `Classifier` is what is trained, exported and served: normalisation, network and softmax in one
module, so that the preprocessing exists once.
"""

import difflib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models as zoo

from container.artifact import Artifact
from container.errors import ArtifactError, BerthError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Channel statistics torchvision's weights were trained with, on pixels scaled to 0..1."""


class ModelError(BerthError):
    """The architecture is unknown or cannot take the job's options."""


class Classifier(nn.Module):
    """Pixels to class probabilities.

    Args:
        network: maps normalised float images (N, 3, H, W) to logits (N, C).
        mean: channel means of pixels scaled to 0..1, RGB.
        std: channel standard deviations, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Pixels 0..255 (N, 3, H, W), uint8 or float, to normalised float32."""
        return (images.to(torch.float32) - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB pixels 0..255 (N, H, W, 3), uint8 or float32, to float32 probabilities (N, C)."""
        logits = self.network(self.normalize(pixels.permute(0, 3, 1, 2)))
        return torch.softmax(logits.float(), dim=1)


def build_network(
    arch: str,
    classes: int,
    *,
    image_size: int,
    stem: str = "standard",
    head_hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> tuple[nn.Module, str]:
    """A torchvision classifier with random weights and a new head.

    Returns:
        The network, and the name of the module that is its head.

    Raises:
        ModelError: the architecture is unknown, has no such stem, has no head that can be replaced,
            or cannot take images of this size.
    """
    try:
        network: nn.Module = zoo.get_model(_known(arch), weights=None, **_options(arch, image_size))
    except (AssertionError, ValueError) as error:
        raise _misfit(arch, image_size, error) from None
    if stem != "standard":
        _replace_stem(network, arch, full=stem == "full")
    head = _replace_head(network, arch, classes, head_hidden, dropout)
    _check_size(network, arch, image_size)
    return network, head


def has_small_stem(arch: str) -> bool:
    """Whether `stem=small` and `stem=full` exist for an architecture: the ResNet family."""
    return arch in _RESNETS


def load_classifier(artifact: Artifact, device: str = "cpu") -> Classifier:
    """The artifact's model in torch, in eval mode, wherever it was trained.

    Raises:
        ArtifactError: the weights are unreadable or do not fit the architecture `model.json` names.
    """
    network, _ = build_network(
        artifact.arch,
        len(artifact.classes),
        image_size=artifact.image_size,
        stem=artifact.stem,
        head_hidden=artifact.head_hidden,
        dropout=artifact.dropout,
    )
    try:
        load_tensors(network, load_file(artifact.weights))
    except Exception as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ArtifactError(
            f"{artifact.weights}: expected the weights of {artifact.arch} with "
            f"{len(artifact.classes)} classes, found {cause}"
        ) from None
    return Classifier(network, artifact.mean, artifact.std).eval().to(device)


_RESNETS = frozenset(
    name for name in zoo.list_models(module=zoo) if "resnet" in name or "resnext" in name
)


def _known(arch: str) -> str:
    known = zoo.list_models(module=zoo)
    if arch in known:
        return arch
    near = difflib.get_close_matches(arch.lower(), known, n=3, cutoff=0.4)
    raise ModelError(
        f"hyperparameter 'arch': {arch!r} is not a torchvision classifier; "
        f"the nearest are {', '.join(near or known[:3])}"
    )


def _options(arch: str, image_size: int) -> dict[str, object]:
    """Constructor arguments some families need: no auxiliary heads, no slow or fixed-size start."""
    if arch in {"googlenet", "inception_v3"}:
        # Their weights expect inputs scaled to -1..1; transform_input does that to normalised ones.
        return {"aux_logits": False, "init_weights": False, "transform_input": True}
    if arch.startswith("vit_"):
        return {"image_size": image_size}
    if arch == "maxvit_t":
        return {"input_size": (image_size, image_size)}
    return {}


def _replace_stem(network: nn.Module, arch: str, *, full: bool) -> None:
    if arch not in _RESNETS:
        raise ModelError(
            f"hyperparameter 'stem': {arch} has only its standard stem; "
            "small and full need a ResNet"
        )
    conv = cast(nn.Conv2d, network.conv1)
    network.conv1 = nn.Conv2d(3, conv.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if full:
        network.maxpool = nn.Identity()


def _replace_head(
    network: nn.Module, arch: str, classes: int, hidden: Sequence[int], dropout: float
) -> str:
    """Put a head of our own where torchvision's 1000-way layer stands; returns its name."""
    layers: list[tuple[str, nn.Module]] = [
        (name, module)
        for name, module in network.named_modules()
        if getattr(module, "out_features", getattr(module, "out_channels", 0)) == 1000
    ]
    if not layers:
        raise ModelError(f"hyperparameter 'arch': {arch} has no 1000-way layer to replace")
    name, layer = layers[-1]
    if isinstance(layer, nn.Conv2d):
        if hidden:
            raise ModelError(f"hyperparameter 'head_hidden': {arch} has a convolutional head")
        head: nn.Module = nn.Conv2d(layer.in_channels, classes, kernel_size=1)
    else:
        head = _mlp(cast(nn.Linear, layer).in_features, hidden, classes, dropout)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, head)
    return name


def _mlp(width: int, hidden: Sequence[int], classes: int, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [nn.Linear(width, size), nn.ReLU(inplace=True)]
        width = size
    layers += [nn.Dropout(dropout)] if dropout else []
    layers += [nn.Linear(width, classes)]
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _misfit(arch: str, image_size: int, error: Exception) -> ModelError:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(f"hyperparameter 'image_size': {image_size} does not fit {arch} ({cause})")


def _check_size(network: nn.Module, arch: str, image_size: int) -> None:
    """Check by one forward pass that the network can take this image size."""
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _misfit(arch, image_size, error) from None
    finally:
        network.train()


def not_finite(module: nn.Module) -> str | None:
    """The name of a parameter or buffer that holds NaN or an infinity; None when all are finite."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """`load_state_dict` of tensors without versions, taken to be those of the installed modules.

    What a safetensors file keeps of a `state_dict` is its tensors. Some modules also read the
    version that PyTorch stores beside them (`_metadata`): MNASNet loads nothing without it.

    Raises:
        RuntimeError: they do not fit, as `torch.nn.Module.load_state_dict` has it.
    """
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=strict)
