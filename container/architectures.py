"""Architectures by name: torchvision's and timm's classifiers with a new head.

A name in both is torchvision's; `timm/NAME` is always timm's. timm is imported only for its own
names.
"""

import difflib
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torchvision import models as zoo

from container.errors import BerthError, first_line
from container.images.geometry import FILTERS
from container.images.preprocessing import Preprocessing

TIMM = "timm/"
"""Prefix of a name that is always timm's."""


class ModelError(BerthError):
    """The architecture is unknown or does not support the job's options."""


def build_network(
    arch: str,
    classes: int,
    *,
    image_size: int,
    stem: str = "standard",
    head_hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> tuple[nn.Module, str]:
    """Build a torchvision or timm classifier with random weights and a new head.

    Returns:
        The network, and the name of its head module.

    Raises:
        ModelError: the architecture is unknown, has no such stem, has no replaceable head, or does
            not support this image size.
    """
    name = known(arch)
    try:
        network = _timm(name, image_size) if is_timm(name) else _torchvision(name, image_size)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _misfit(arch, image_size, error) from None
    if stem != "standard":
        _replace_stem(network, arch, full=stem == "full")
    head = _replace_head(network, arch, classes, head_hidden, dropout)
    if (name, image_size, stem) not in _FITTING:
        _check_size(network, arch, image_size)
        _FITTING.add((name, image_size, stem))
    return network, head


_FITTING: set[tuple[str, int, str]] = set()
"""Combinations of architecture, image size and stem that this process has checked."""


def known(arch: str) -> str:
    """The canonical name of an architecture: without `timm/` unless torchvision has the name too.

    Raises:
        ModelError: neither torchvision nor timm has it; the message names the nearest.
    """
    torchvision_names = zoo.list_models(module=zoo)
    if arch in torchvision_names:
        return arch
    import timm

    name = arch.removeprefix(TIMM)
    if timm.is_model(name) and ("." not in name or timm.is_model_pretrained(name)):
        return f"{TIMM}{name}" if name in torchvision_names else name
    timm_names = timm.list_pretrained(f"{name.partition('.')[0]}.*") or timm.list_models()
    names = sorted({*torchvision_names, *timm_names})
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    raise ModelError(
        f"hyperparameter 'arch': {arch!r} is not a classifier of torchvision or timm; "
        f"the nearest are {', '.join(near or torchvision_names[:3])}"
    )


def is_timm(name: str) -> bool:
    """Whether a name returned by `known` is timm's."""
    return name not in zoo.list_models(module=zoo)


def file_stem(name: str) -> str:
    """The name of an architecture's weights file, without the suffix."""
    return name.replace("/", "_")


def has_small_stem(arch: str) -> bool:
    """Whether `stem=small` and `stem=full` exist for an architecture: torchvision's ResNets."""
    return arch in _RESNETS


def timm_preprocessing(name: str) -> Preprocessing:
    """The preprocessing of timm's default weights."""
    import timm

    config: Any = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    if config is None:
        return Preprocessing()
    return Preprocessing(
        image_size=int(config.input_size[-1]),
        crop_share=float(config.crop_pct),
        interpolation=config.interpolation if config.interpolation in FILTERS else "bilinear",
        mean=_three(config.mean),
        std=_three(config.std),
    )


def torchvision_preprocessing(arch: str, file: str = "") -> Preprocessing:
    """The preprocessing of torchvision's weights: those with this file name, or the default ones.

    torchvision has two sets of weights for some networks, which differ in the resize.
    """
    offered = zoo.get_model_weights(arch)
    found = next((each for each in offered if each.url.endswith(f"/{file}")), offered.DEFAULT)
    transform = found.transforms()
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    return Preprocessing(
        image_size=crop,
        crop_share=crop / resize,
        interpolation=transform.interpolation.value,
        mean=_three(transform.mean),
        std=_three(transform.std),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _torchvision(arch: str, image_size: int) -> nn.Module:
    network: nn.Module = zoo.get_model(arch, weights=None, **_options(arch, image_size))
    return network


def _timm(name: str, image_size: int) -> nn.Module:
    """timm's network with a 1000-way head, built for `image_size` if its input size is fixed."""
    import timm

    name = name.removeprefix(TIMM)
    config: Any = timm.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    options: dict[str, Any] = {"img_size": image_size} if fixed else {}
    network: nn.Module = timm.create_model(name, num_classes=1000, **options)
    return network


_RESNETS = frozenset(
    name for name in zoo.list_models(module=zoo) if "resnet" in name or "resnext" in name
)


def _options(arch: str, image_size: int) -> dict[str, object]:
    """Constructor arguments for some architectures: image size, no auxiliary heads or slow init."""
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
    """Replace the 1000-way layer with a new head; returns its name."""
    name, layer = _last_layer(network, arch)
    if isinstance(layer, nn.Conv2d):
        if hidden:
            raise ModelError(f"hyperparameter 'head_hidden': {arch} has a convolutional head")
        head: nn.Module = nn.Conv2d(layer.in_channels, classes, kernel_size=1)
    else:
        head = _mlp(cast(nn.Linear, layer).in_features, hidden, classes, dropout)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, head)
    return name


def _last_layer(network: nn.Module, arch: str) -> tuple[str, nn.Module]:
    """The layer that outputs the 1000 logits, and its name."""
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if getattr(module, "out_features", getattr(module, "out_channels", 0)) == 1000
    ]
    classifier = getattr(network, "get_classifier", None)  # timm's
    if classifier is not None:
        layers = [pair for pair in layers if pair[1] is classifier()]
    if not layers:
        raise ModelError(
            f"hyperparameter 'arch': {arch} has no single 1000-way layer to replace with a new head"
        )
    return layers[-1]


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
    return ModelError(
        f"hyperparameter 'image_size': {image_size} does not fit {arch} ({first_line(error)})"
    )


def _check_size(network: nn.Module, arch: str, image_size: int) -> None:
    """Check with one forward pass that the network supports this image size."""
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _misfit(arch, image_size, error) from None
    finally:
        network.train()
