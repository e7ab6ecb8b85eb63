"""`berth fit` beside recipes people copy, with the same backbone and the same minutes.

    python tests/benchmarks/fit.py [--data NAME=FOLDER] [--minutes 2] [--seeds 0] [--only fit]

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

While fit runs, each model that it would leave at that moment (by its accuracy on the validation
images) is copied with the time; afterwards these are asked for test/ too. So the script also prints
fit's test accuracy by minutes, and the first minute with each contender's final one, beside the
minutes that contender had.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data.transforms_factory import create_transform
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn
from torchvision import datasets
from torchvision import transforms as T

from container.architectures import build_network
from container.artifact import WEIGHTS, Artifact, checksum
from container.data.index import Index
from container.data.loader import EpochLoader
from container.errors import ArtifactError
from container.models import load_classifier, load_tensors
from container.results.evaluation import evaluate
from container.training.pretrained import PACKAGED_MEAN, PACKAGED_STD
from container.training.weights import find_weights, fit_weights

ARCH = "efficientnet_lite0"
ROOT = Path(__file__).parents[2]
TRIALS, EPOCHS = 20, 10

Curve = list[tuple[float, float]]
"""Minutes and the test accuracy of the model there is then; the last is the final one."""


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


@dataclass(frozen=True)
class Snapshot:
    """A model that a fit job had at some time.

    Attributes:
        minutes: since its process began.
        validation: its accuracy on the validation images.
        artifact: which it belongs to, or for weights of a round the first one.
        weights: a safetensors file.
        image_size: of the network's input.
    """

    minutes: float
    validation: float
    artifact: Artifact
    weights: Path
    image_size: int

    def tested(self, data: Path) -> float:
        """Its accuracy on the test images."""
        size, geometry = self.image_size, self.artifact.geometry
        if size != geometry.crop:
            geometry = replace(
                geometry, crop=size, resize=round(geometry.resize * size / geometry.crop)
            )
        classifier = load_classifier(replace(self.artifact, image_size=size))
        load_tensors(classifier.network, load_file(self.weights))
        index = Index.from_folder(data / "test", self.artifact.classes)
        loader = EpochLoader(
            index, geometry, batch_size=32, seed=0, train=False, workers=2, image_size=size
        )
        return evaluate(classifier, index, loader, torch.device("cpu")).accuracy


class Watcher(threading.Thread):
    """Copies the models of a fit job as they are written.

    Args:
        base: the job's tree.
        into: where copies go.
    """

    def __init__(self, base: Path, into: Path) -> None:
        super().__init__(daemon=True)
        self._base, self._into, self.began = base, into, time.monotonic()
        self._seen: dict[Path, int] = {}
        self._ended = threading.Event()
        self.found: list[Snapshot] = []

    def run(self) -> None:
        """Look until the job has ended."""
        while not self._ended.wait(0.5):
            for path in (
                self._base / "model" / "model.json",
                *sorted(self._base.glob("checkpoints/fit/round-*/best.json")),
            ):
                written = path.stat().st_mtime_ns if path.exists() else None
                if written != self._seen.get(path) and self._copy(path):
                    self._seen[path] = written or 0

    def end(self) -> list[Snapshot]:
        """Stop looking; those that were the best so far on the validation images."""
        self._ended.set()
        self.join()
        kept: list[Snapshot] = []
        for each in self.found:
            if not kept or each.validation > kept[-1].validation:
                kept.append(each)
        return kept

    def _copy(self, path: Path) -> bool:
        """Copy what a description belongs to; False where it is being replaced."""
        minutes = (time.monotonic() - self.began) / 60
        folder = self._into / str(len(self.found))
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if path.name == "model.json":
                shutil.copytree(path.parent, folder, ignore=shutil.ignore_patterns(".partial"))
                artifact = Artifact.read(folder)
                size = artifact.image_size
                validation = float(artifact.provenance["validation_accuracy"])
            else:
                folder.mkdir()
                stored = json.loads(path.read_text())
                shutil.copyfile(path.with_suffix(".safetensors"), folder / WEIGHTS)
                lines = (path.parent / "metrics.jsonl").read_text().splitlines()
                epochs = {each["epoch"]: each for each in map(json.loads, lines)}
                validation = float(epochs[stored["counters"]["epoch"]]["validation:accuracy"])
                artifact, size = self.found[0].artifact, int(stored["run"]["image_size"])
                if checksum(folder / WEIGHTS) != stored["sha256"]:
                    return False
        except (OSError, shutil.Error, ArtifactError, KeyError):
            return False
        self.found.append(Snapshot(minutes, validation, artifact, folder / WEIGHTS, size))
        return True


def by_fit(data: Path, minutes: float, seed: int) -> Curve:
    with tempfile.TemporaryDirectory() as scratch:
        base, copies = Path(scratch) / "ml", Path(scratch) / "copies"
        copies.mkdir()
        tree(base, data, {"fit_minutes": minutes, "seed": seed})
        watcher = Watcher(base, copies)
        watcher.start()
        job(base)
        whole = (time.monotonic() - watcher.began) / 60
        shown = ("chosen:", "tried:", "not tried", "left out", "leaderboard", "fit:")
        for line in (base / "log").read_text().splitlines():
            if line.startswith(shown) or ": accuracy " in line:
                print(f"    {line}")
        curve = [(each.minutes, each.tested(data)) for each in watcher.end()]
        return [*curve, (whole, evaluation(base))]


def by_head(data: Path, _minutes: float, seed: int) -> Curve:
    began = time.monotonic()
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
    return [((time.monotonic() - began) / 60, best[1])]


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


def by_tutorial(data: Path, minutes: float, seed: int) -> Curve:
    began = time.monotonic()
    until = began + 60 * minutes
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
    spent = (time.monotonic() - began) / 60
    print(f"    {done} epochs begun")
    return [(spent, tested(built, data, normalized(T.Resize(256), T.CenterCrop(224))))]


def by_timm(data: Path, minutes: float, seed: int) -> Curve:
    began = time.monotonic()
    until = began + 60 * minutes
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
    spent = (time.monotonic() - began) / 60
    print(f"    {before + 1} epochs begun")
    plain = create_transform(
        224, is_training=False, crop_pct=0.875, mean=PACKAGED_MEAN, std=PACKAGED_STD
    )
    return [(spent, tested(built, data, plain))]


CONTENDERS: dict[str, Callable[[Path, float, int], Curve]] = {
    "fit": by_fit,
    "tutorial": by_tutorial,
    "timm": by_timm,
    "head": by_head,
}


def compared(fit: Curve, other: Curve) -> str:
    """Since when fit's model has another contender's final accuracy, beside that one's minutes."""
    minutes, accuracy = other[-1]
    enough = [at for at, reached in fit if reached >= accuracy]
    if not enough:
        return "which fit does not reach"
    return (
        f"fit has as much after {min(enough):.2f} minutes, {min(enough) / minutes:.2f} of its time"
    )


def run_seed(name: str, data: Path, minutes: float, seed: int, only: list[str]) -> dict[str, Curve]:
    """Each contender's curve."""
    found: dict[str, Curve] = {}
    for contender in only:
        found[contender] = curve = CONTENDERS[contender](data, minutes, seed)
        print(
            f"{name}, {minutes:g} minutes, seed {seed}: {contender}: test accuracy "
            f"{curve[-1][1]:.4f} after {curve[-1][0]:.2f} minutes",
            flush=True,
        )
        for at, accuracy in curve[:-1]:
            print(f"    after {at:.2f} minutes {accuracy:.4f}")
        if contender != "fit" and "fit" in found:
            print(f"    {compared(found['fit'], curve)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = dict(each.split("=", 1) for each in given.data)
        if not folders:
            folders = {"digits": str(Path(scratch) / "digits")}
        for name, folder in folders.items():
            if name == "digits" and not Path(folder).exists():
                digits(Path(folder))
            data = Path(folder).resolve()
            found = [run_seed(name, data, given.minutes, seed, given.only) for seed in given.seeds]
            for contender in given.only:
                accuracies = [each[contender][-1][1] for each in found]
                print(
                    f"{name}: {contender:<8} median of {len(accuracies)}: "
                    f"{statistics.median(accuracies):.4f}"
                )


if __name__ == "__main__":
    main()
