"""`berth fit` beside recipes people copy, with the same backbone and the same minutes.

    python tests/benchmarks/fit.py [--data NAME=FOLDER] [--minutes 2] [--seeds 1] [--only fit]

A FOLDER holds train/ and test/ of class folders; by default it is scikit-learn's digits, a fifth of
them held out. Every contender gets all of train/, starts from the packaged ImageNet weights of
EfficientNet-Lite0 and is asked for test/ at the end alone:

fit       a job with fit_minutes
tutorial  torchvision's fine-tuning tutorial as written: SGD 0.001, momentum 0.9, a tenth every 7
          epochs, batches of 4, random resized crops of 224 px, 25 epochs or until the time is up
timm      the defaults of timm's train.py: SGD 0.05 with momentum 0.9 for batches of 128, cosine
          over 300 epochs after 5 of warm-up, random resized crops, colour jitter 0.4, smoothing 0.1
head      berth's own tuning of the head: 20 random learning rates on frozen features, the one best
          on the validation images, with all the time it takes

The contenders of a seed run one after the other, so that a busy machine is as busy for each.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn
from torchvision import datasets
from torchvision import transforms as T

from container.architectures import build_network
from container.training.pretrained import PACKAGED_MEAN, PACKAGED_STD
from container.training.weights import find_weights, fit_weights

ARCH = "efficientnet_lite0"
ROOT = Path(__file__).parents[2]
TRIALS, EPOCHS = 20, 10


def digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    for place, at in enumerate(order):
        split = "test" if place < len(order) // 5 else "train"
        path = folder / split / str(found.target[at]) / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((found.images[at] * 255 / 16).astype(np.uint8)).save(path)


def tree(base: Path, data: Path, hyperparameters: dict[str, object]) -> None:
    """A job's tree with both channels."""
    config, channels = base / "input" / "config", base / "input" / "data"
    for folder in (config, channels):
        folder.mkdir(parents=True, exist_ok=True)
    texts = {name: str(value) for name, value in hyperparameters.items()}
    (config / "hyperparameters.json").write_text(json.dumps(texts))
    for split in ("train", "test"):
        if not (channels / split).exists():
            (channels / split).symlink_to(data / split)


def job(base: Path) -> None:
    """Run a job's tree as the image does."""
    code = "from container import train; train.main(export=True)"
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(base)}
    with (base / "log").open("w") as log:
        subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, stdout=log
        )


def evaluation(base: Path) -> float:
    stored = json.loads((base / "output" / "data" / "evaluation.json").read_text())
    return float(stored["accuracy"])


def by_fit(data: Path, minutes: float, seed: int) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        tree(base, data, {"fit_minutes": minutes, "seed": seed})
        job(base)
        kept = json.loads((base / "output" / "data" / "fit.json").read_text())
        print(f"    {kept['chosen']}, {kept['used_minutes']:.2f} minutes used")
        return evaluation(base)


def by_head(data: Path, _minutes: float, seed: int) -> float:
    draws = np.random.default_rng(seed)
    best = (-1.0, 0.0)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        for _ in range(TRIALS):
            rate = math.exp(draws.uniform(math.log(1e-4), math.log(1e-1)))
            tree(
                base,
                data,
                {
                    "arch": ARCH,
                    "freeze": True,
                    "augment": "none",
                    "epochs": EPOCHS,
                    "learning_rate": rate,
                    "seed": seed,
                    "checkpoint_minutes": 60,
                },
            )
            for path in (base / "checkpoints").glob("*"):
                path.unlink()
            job(base)
            lines = (base / "output" / "data" / "metrics.jsonl").read_text().splitlines()
            validation = max(json.loads(line)["validation:accuracy"] for line in lines)
            best = max(best, (validation, evaluation(base)))
    return best[1]


def classes(data: Path) -> int:
    return sum(1 for _ in (data / "train").iterdir())


def network(count: int) -> nn.Module:
    built, head = build_network(ARCH, count, image_size=224)
    weights = find_weights("imagenet", ARCH, None)
    assert weights is not None
    fit_weights(built, weights, head)
    return built


def batches(data: Path, transform: object, size: int, seed: int) -> "torch.utils.data.DataLoader":
    folder = datasets.ImageFolder(str(data / "train"), transform)
    return torch.utils.data.DataLoader(
        folder,
        batch_size=size,
        shuffle=True,
        num_workers=2,
        generator=torch.Generator().manual_seed(seed),
        drop_last=len(folder) > size,
    )


def epochs(
    loader: "torch.utils.data.DataLoader", count: int, until: float
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Batches of so many epochs, or until the time is up, with the epoch's number."""
    for epoch in range(count):
        for images, labels in loader:
            if time.monotonic() >= until:
                return
            yield epoch, images, labels


def tested(built: nn.Module, data: Path, transform: object) -> float:
    folder = datasets.ImageFolder(str(data / "test"), transform)
    hits = 0
    built.eval()
    with torch.inference_mode():
        for images, labels in torch.utils.data.DataLoader(folder, batch_size=32, num_workers=2):
            hits += int((built(images).argmax(1) == labels).sum())
    return hits / len(folder)


def normalized(*steps: object) -> object:
    return T.Compose([*steps, T.ToTensor(), T.Normalize(PACKAGED_MEAN, PACKAGED_STD)])


def by_tutorial(data: Path, minutes: float, seed: int) -> float:
    until = time.monotonic() + 60 * minutes
    torch.manual_seed(seed)
    crop = normalized(T.RandomResizedCrop(224), T.RandomHorizontalFlip())
    loader = batches(data, crop, 4, seed)
    built = network(classes(data))
    optimizer = torch.optim.SGD(built.parameters(), lr=0.001, momentum=0.9)
    built.train()
    done = 0
    for epoch, images, labels in epochs(loader, 25, until):
        for group in optimizer.param_groups:
            group["lr"] = 0.001 * 0.1 ** (epoch // 7)
        optimizer.zero_grad()
        nn.functional.cross_entropy(built(images), labels).backward()
        optimizer.step()
        done = epoch + 1
    print(f"    {done} epochs begun")
    return tested(built, data, normalized(T.Resize(256), T.CenterCrop(224)))


def by_timm(data: Path, minutes: float, seed: int) -> float:
    until = time.monotonic() + 60 * minutes
    torch.manual_seed(seed)
    transform = create_transform(
        224, is_training=True, color_jitter=0.4, mean=PACKAGED_MEAN, std=PACKAGED_STD
    )
    loader = batches(data, transform, 128, seed)
    built = network(classes(data))
    optimizer = create_optimizer_v2(
        built, opt="sgd", lr=0.1 * 128 / 256, momentum=0.9, weight_decay=2e-5
    )
    schedule = CosineLRScheduler(optimizer, t_initial=300, warmup_t=5, warmup_lr_init=1e-5)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    built.train()
    before = -1
    for epoch, images, labels in epochs(loader, 300, until):
        if epoch != before:
            schedule.step(epoch)
            before = epoch
        optimizer.zero_grad()
        loss(built(images), labels).backward()
        optimizer.step()
    print(f"    {before + 1} epochs begun")
    plain = create_transform(
        224, is_training=False, crop_pct=0.875, mean=PACKAGED_MEAN, std=PACKAGED_STD
    )
    return tested(built, data, plain)


CONTENDERS: dict[str, Callable[[Path, float, int], float]] = {
    "fit": by_fit,
    "tutorial": by_tutorial,
    "timm": by_timm,
    "head": by_head,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = dict(each.split("=", 1) for each in given.data)
        if not folders:
            digits(Path(scratch) / "digits")
            folders = {"digits": str(Path(scratch) / "digits")}
        for name, folder in folders.items():
            found: dict[str, list[float]] = {contender: [] for contender in given.only}
            for seed in range(given.seeds):
                for contender in given.only:
                    began = time.monotonic()
                    accuracy = CONTENDERS[contender](Path(folder).resolve(), given.minutes, seed)
                    seconds = time.monotonic() - began
                    found[contender].append(accuracy)
                    print(
                        f"{name}, {given.minutes:g} minutes, seed {seed}: {contender}: test "
                        f"accuracy {accuracy:.4f}, {seconds:.0f} s in all",
                        flush=True,
                    )
            for contender, accuracies in found.items():
                print(
                    f"{name}: {contender:<8} median of {len(accuracies)}: "
                    f"{statistics.median(accuracies):.4f}"
                )


if __name__ == "__main__":
    main()
