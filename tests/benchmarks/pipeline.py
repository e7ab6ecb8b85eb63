"""Images a second out of the loader, beside torchvision's and timm's.

    python tests/benchmarks/pipeline.py [--folder FOLDER] [--rounds 6] [--workers 1 2]

FOLDER holds <class>/<image>; without one, 256 pictures of 500x375 are made. Each is asked for
random crops, mirrored at random, as its documentation has it: ImageFolder, RandomResizedCrop,
ToTensor, Normalize and DataLoader; timm's create_loader with its defaults for training. Each round
makes the loaders anew, in another order, and measures their first epoch, which starts workers, and
a later one: ours keeps what it decodes while there is memory, and `forgetful` keeps
nothing. Last, how near our pixels are to those of an exact resize of the whole image.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
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
from container.models import Classifier

sys.path.insert(0, str(Path(__file__).parents[1]))

from photographs import photographs

BATCH = 32


def forgetful(folder: Path, size: int, workers: int) -> Callable[[int], Iterable[Any]]:
    return ours(folder, size, workers, keep=0)


def ours(
    folder: Path, size: int, workers: int, keep: int | None = None
) -> Callable[[int], Iterable[Any]]:
    index = Index.from_folder(folder)
    geometry = Geometry.for_size(size)
    augment = make_augment("standard", size, 0.0, 0.0, len(index.classes))
    normalize = Classifier(torch.nn.Identity(), IMAGENET_MEAN, IMAGENET_STD).normalize
    loader = EpochLoader(
        index,
        geometry,
        image_size=size,
        batch_size=BATCH,
        seed=0,
        train=True,
        workers=workers,
        keep=available_memory() // 8 if keep is None else keep,
    )

    def epoch(number: int) -> Iterable[Any]:
        for images, labels in loader.batches(number):
            changed, targets = augment(images, labels)
            yield normalize(changed), targets

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


class Epoch(NamedTuple):
    """Images a second, and milliseconds of a core an image, the workers' included."""

    rate: float
    core: float


def measured(batches: Iterable[Any]) -> Epoch:
    started, before, images = time.perf_counter(), core_seconds(), 0
    after = before
    for batch, _ in batches:
        images += len(batch)
        # While the workers live: those that end are no longer asked.
        after = core_seconds()
    return Epoch(images / (time.perf_counter() - started), 1000 * (after - before) / images)


def core_seconds() -> float:
    """Seconds of cores that this process and those it started have used."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children())]
    return sum(each.user + each.system for each in times)


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
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        measure(arguments, arguments.folder or photographs(Path(made), 256))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    makers = {
        "berth": ours,
        "forgetful": forgetful,
        "torchvision": torchvisions,
        "timm": timms,
    }
    names = list(makers)
    for workers in arguments.workers:
        epochs: dict[str, list[tuple[Epoch, Epoch]]] = {name: [] for name in names}
        # An epoch that does not count: what is loaded and started once a process is paid for.
        for name in names:
            measured(makers[name](folder, arguments.size, workers)(0))
        for number in range(arguments.rounds):
            start = number % len(names)
            for name in names[start:] + names[:start]:
                loader = makers[name](folder, arguments.size, workers)
                epochs[name].append((measured(loader(0)), measured(loader(1))))
        print(f"{workers} workers, medians of {arguments.rounds} rounds")
        for at, what in enumerate(("first epoch", "later epochs")):
            ours_ = [epoch[at] for epoch in epochs["berth"]]
            for name in names:
                theirs = [epoch[at] for epoch in epochs[name]]
                pairs = list(zip(ours_, theirs, strict=True))
                print(
                    f"  {what:12} {name:12}"
                    f" {statistics.median(each.rate for each in theirs):6.0f} images/s,"
                    f" {statistics.median(each.core for each in theirs):5.2f} core ms an image;"
                    f" berth's rate is {statistics.median(a.rate / b.rate for a, b in pairs):.2f}x,"
                    f" its core ms {statistics.median(a.core / b.core for a, b in pairs):.2f}x",
                    flush=True,
                )
    print(f"PSNR against an exact resize: {psnr(folder, arguments.size):.1f} dB (median)")


if __name__ == "__main__":
    main()
