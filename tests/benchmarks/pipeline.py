"""Images a second out of the loader, beside torchvision's and timm's.

    python tests/benchmarks/pipeline.py [--folder FOLDER] [--rounds 5] [--workers 1 2]

FOLDER holds <class>/<image>; without one, 256 pictures of 500x375 are made. Each is asked for
random crops, mirrored at random, as its documentation has it: ImageFolder, RandomResizedCrop,
ToTensor, Normalize and DataLoader; timm's create_loader with its defaults for training. The first
epoch is measured apart: ours decodes then, and keeps what there is memory for. Last, how near our
pixels are to those of an exact resize of the whole image.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from torchvision import datasets
from torchvision import transforms as T

from container.data.augment import make_augment
from container.data.index import Index
from container.data.loader import EpochLoader
from container.images.geometry import Geometry
from container.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from container.memory import available_memory

sys.path.insert(0, str(Path(__file__).parents[1]))

from photographs import photographs

BATCH = 32


def ours(folder: Path, size: int, workers: int) -> Callable[[int], Iterable[Any]]:
    index = Index.from_folder(folder)
    geometry = Geometry.for_size(size)
    augment = make_augment("standard", size, 0.0, 0.0, len(index.classes))
    mean = 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    loader = EpochLoader(
        index,
        geometry,
        image_size=size,
        batch_size=BATCH,
        seed=0,
        train=True,
        workers=workers,
        keep=available_memory() // 8,
    )

    def epoch(number: int) -> Iterable[Any]:
        for images, labels in loader.batches(number):
            changed, targets = augment(images, labels)
            yield (changed.float() - mean) / std, targets

    return epoch


def torchvisions(folder: Path, size: int, workers: int) -> Callable[[int], Iterable[Any]]:
    steps = [
        T.RandomResizedCrop(size),
        T.RandomHorizontalFlip(),
        T.ToTensor(),
        T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    data = datasets.ImageFolder(folder, T.Compose(steps))
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    return lambda _epoch: loader


def timms(folder: Path, size: int, workers: int) -> Callable[[int], Iterable[Any]]:
    loader = create_loader(
        create_dataset("", root=str(folder), split="train", is_training=True),
        input_size=(3, size, size),
        batch_size=BATCH,
        is_training=True,
        num_workers=workers,
        use_prefetcher=False,
        persistent_workers=True,
        device=torch.device("cpu"),
    )
    return lambda _epoch: loader


def rate(batches: Iterable[Any]) -> float:
    """Images a second."""
    started, images = time.perf_counter(), 0
    for batch, _ in batches:
        images += len(batch)
    return images / (time.perf_counter() - started)


def psnr(folder: Path, size: int) -> float:
    """The median over images, in dB, of ours against a resize of the whole image, unreduced."""
    index = Index.from_folder(folder)
    geometry = Geometry.for_size(size)
    found = []
    for position in index.spread(100).tolist():
        with Image.open(index.file(position)) as image:
            exact = geometry.fit(image.convert("RGB")).astype(float)
        error = np.square(geometry.load(index.read(position)) - exact).mean()
        found.append(10 * np.log10(255**2 / max(float(error), 1e-3)))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        measure(arguments, arguments.folder or photographs(Path(made), 256))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    for workers in arguments.workers:
        makers = {"berth": ours, "torchvision": torchvisions, "timm": timms}
        loaders = {name: make(folder, arguments.size, workers) for name, make in makers.items()}
        first = {name: rate(loader(0)) for name, loader in loaders.items()}
        later: dict[str, list[float]] = {name: [] for name in loaders}
        for number in range(1, arguments.rounds + 1):
            for name, loader in loaders.items():
                later[name].append(rate(loader(number)))
        medians = {name: statistics.median(rates) for name, rates in later.items()}
        print(
            f"{workers} workers: images/s, first epoch and the median of {arguments.rounds} later"
        )
        for name, median in medians.items():
            print(
                f"  {name:12} {first[name]:7.0f} {median:7.0f}"
                f"   berth is {medians['berth'] / median:.2f}x"
            )
    print(f"PSNR against an exact resize: {psnr(folder, arguments.size):.1f} dB (median)")


if __name__ == "__main__":
    main()
