"""Images a second of full fine-tuning, beside torchvision's reference loop and timm's.

    python tests/benchmarks/training.py [--folder FOLDER] [--arch resnet18] [--rounds 5]

FOLDER holds <class>/<image>; without one, 128 pictures of 500x375 are made. A round is one epoch of
each, from files to weights, in turn: berth's Trainer with SGD; torchvision's reference recipe
(RandomResizedCrop, flip, SGD, cross-entropy); timm's train.py (create_loader, create_optimizer_v2,
timm's own network). All train on the processor with the same cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from timm.optim._optim_factory import create_optimizer_v2
from torch.nn import functional as F
from torchvision import datasets, models
from torchvision import transforms as T

from container.architectures import build_network
from container.data.index import Index
from container.data.loader import EpochLoader
from container.hyperparameters import Hyperparameters
from container.images.geometry import Geometry
from container.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from container.memory import available_memory
from container.models import Classifier
from container.training.checkpoint import CheckpointFolder, StopSignal
from container.training.distributed import World
from container.training.metrics import MetricLogger
from container.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1]))

from photographs import photographs

BATCH = 32
WORKERS = 1
Epoch = Callable[[], int]
"""Trains one epoch and returns how many images it took."""


def berths(folder: Path, arch: str, size: int, scratch: Path) -> Epoch:
    hp = Hyperparameters.parse(
        {"arch": arch, "optimizer": "sgd", "learning_rate": 0.001, "batch_size": BATCH, "epochs": 1}
        | {"image_size": size, "schedule": "constant"}
    )
    index = Index.from_folder(folder)
    network, head = build_network(arch, len(index.classes), image_size=size)
    classifier = Classifier(network)
    options: dict[str, Any] = {"batch_size": BATCH, "seed": 0, "image_size": size}
    loader = EpochLoader(
        index,
        Geometry.for_size(size),
        train=True,
        workers=WORKERS,
        keep=available_memory() // 8,
        **options,
    )
    validation = EpochLoader(
        index.take([0, len(index) - 1]), Geometry.for_size(size), train=False, workers=0, **options
    )
    stop, count = StopSignal(), iter(range(1_000_000))

    def epoch() -> int:
        Trainer(
            hp,
            classifier,
            head,
            index,
            loader,
            validation,
            device=torch.device("cpu"),
            world=World(),
            checkpoints=CheckpointFolder(scratch / str(next(count)), {}, print),
            stop=stop,
            metrics=MetricLogger(scratch, active=False),
            say=lambda _message: None,
        ).fit()
        return len(index)

    return epoch


def loop(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, loader: Iterable[Any]
) -> Epoch:
    def epoch() -> int:
        images = 0
        network.train()
        for inputs, labels in loader:
            loss = F.cross_entropy(network(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # both log it
            images += len(labels)
        return images

    return epoch


def torchvisions(folder: Path, arch: str, size: int, _scratch: Path) -> Epoch:
    steps = [T.RandomResizedCrop(size), T.RandomHorizontalFlip(), T.ToTensor()]
    steps.append(T.Normalize(IMAGENET_MEAN, IMAGENET_STD))
    data = datasets.ImageFolder(folder, T.Compose(steps))
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    network = models.get_model(arch, weights=None, num_classes=len(data.classes))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    return loop(network, optimizer, loader)


def timms(folder: Path, arch: str, size: int, _scratch: Path) -> Epoch:
    data = create_dataset("", root=str(folder), split="train", is_training=True)
    loader = create_loader(
        data,
        input_size=(3, size, size),
        batch_size=BATCH,
        is_training=True,
        num_workers=WORKERS,
        use_prefetcher=False,
        persistent_workers=True,
        device=torch.device("cpu"),
    )
    network = timm.create_model(arch, num_classes=2)
    return loop(network, create_optimizer_v2(network, "sgd", lr=0.001, momentum=0.9), loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    makers = {"berth": berths, "torchvision": torchvisions, "timm": timms}
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or photographs(Path(made) / "photographs", 128)
        epochs = {
            name: make(folder, arguments.arch, arguments.size, Path(made))
            for name, make in makers.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in makers}
        for number in range(arguments.rounds + 1):
            for name, epoch in epochs.items():
                started = time.perf_counter()
                images = epoch()
                if number:  # the first warms up
                    rates[name].append(images / (time.perf_counter() - started))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"{arguments.arch}, {arguments.size} px: images/s, median of {arguments.rounds} epochs")
    for name, median in medians.items():
        print(f"  {name:12} {median:7.1f}   berth is {medians['berth'] / median:.2f}x")


if __name__ == "__main__":
    main()
