"""Training on features: when a job does so, its loaders, its evaluation and its export."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from container.data.decodable import NAME, DecodableFiles
from container.data.index import Index
from container.data.order import EpochOrder
from container.environment import Environment
from container.errors import FeatureError
from container.features.cache import FOLDER, FeatureCache, cache_root
from container.features.extraction import FeatureExtractor, Features
from container.features.graph import join_head
from container.features.key import View
from container.features.loader import FeatureLoader
from container.features.output import find_channel, write_features
from container.hyperparameters import Hyperparameters
from container.models import Classifier
from container.monitoring.requested import is_debugged
from container.results.evaluation import tf32_disabled
from container.results.export import Convert
from container.training.distributed import World
from container.training.job import TrainingJob
from container.training.metrics import say

TOLERANCE = 1e-5
"""Largest accepted difference between probabilities from cached features and from the network, for
the evaluation to use the features."""


def wants_features(hp: Hyperparameters, debugged: bool, say: Callable[[str], None]) -> bool:
    """Whether a job's hyperparameters allow training on features; the head may still not.

    Raises:
        FeatureError: they do not, but they require it.
    """
    required = hp.feature_cache == "on" or hp.features_only
    if hp.feature_cache == "off" or not (hp.freeze or required):
        return False
    reason = None
    if not hp.freeze:
        reason = "freeze=false trains the backbone, whose features change"
    elif hp.cutmix:
        reason = "cutmix needs images, not features"
    elif debugged:
        reason = "the debugger saves the backbone's tensors too; set debug=false"
    return reason is None or _forbidden(hp, reason, say)


def _forbidden(hp: Hyperparameters, reason: str, say: Callable[[str], None]) -> bool:
    if hp.features_only:
        raise FeatureError(f"hyperparameter 'features_only': found true, but {reason}")
    if hp.feature_cache == "on":
        raise FeatureError(f"hyperparameter 'feature_cache': found on, but {reason}")
    say(f"every epoch runs the backbone (feature_cache=auto): {reason}")
    return False


def given_features(environment: Environment, world: World) -> Path | None:
    """The folder of features in the job's `features` channel; None without such a channel.

    Raises:
        FeatureError: the channel has none.
    """
    unpacked = environment.base / FOLDER / "channel"
    found = find_channel(environment.features_channel, unpacked) if world.local_rank == 0 else None
    return world.gather(found)[world.rank - world.local_rank]


def decodable_files(
    environment: Environment, hp: Hyperparameters, given: Path | None
) -> DecodableFiles:
    """The files that earlier jobs decoded, recorded in the cache or the features channel."""
    persistent = environment.warm_pool is not None or hp.features_only
    kept = cache_root(environment) / NAME if persistent else None
    return DecodableFiles(kept, [] if given is None else [given / NAME])


@dataclass(frozen=True)
class JobFeatures:
    """The features of a job's splits.

    Attributes:
        job: the job.
        extractor: the extractor that computed them.
        train: the features of each view of the training images.
        validation, test: the features of the held-out images; None without such a split.
    """

    job: TrainingJob
    extractor: FeatureExtractor
    train: Sequence[Features]
    validation: Features
    test: Features | None

    @classmethod
    def of(
        cls,
        job: TrainingJob,
        classifier: Classifier,
        head: str,
        stem: str,
        channel: Path | None,
        stopped: Callable[[], bool],
        *,
        graph: bool,
        say: Callable[[str], None],
    ) -> "JobFeatures | None":
        """Compute or find the features; None, with a log line, if the head does not allow it.

        Args:
            channel: the folder of features in the job's channel.
            stopped: returns whether the job must stop.
            graph: whether the model will be converted to OpenVINO.

        Raises:
            FeatureError: features are required, but the head does not allow them.
        """
        hp = job.hp
        if not wants_features(hp, is_debugged(job.environment.base, hp.debug), say):
            if channel is not None:
                raise FeatureError(
                    "channel 'features': found one, expected none in a job that trains through "
                    "its backbone (freeze=true, feature_cache=auto or on, cutmix=0, no debug)"
                )
            return None
        cache = FeatureCache.find(job.environment, channel, say, stopped)
        try:
            extractor = FeatureExtractor(
                classifier,
                head,
                arch=hp.arch,
                stem=stem,
                geometry=job.geometry,
                cache=cache,
                workers=job.workers,
                device=job.device,
                world=job.world,
                keep_graph=graph,
                say=say,
            )
        except FeatureError as error:
            _forbidden(hp, str(error), say)
            return None
        splits = job.splits
        count = min(hp.augment_views, hp.epochs) if hp.augment != "none" else 1
        views: list[View | None] = [
            None if hp.augment == "none" else View(hp.augment, hp.seed, number)
            for number in range(count)
        ]
        return cls(
            job,
            extractor,
            [extractor.extract(splits.train, view, name="train") for view in views],
            extractor.extract(splits.validation, name="validation"),
            None if splits.test is None else extractor.extract(splits.test, name="test"),
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Values by name that must equal those of a checkpoint to resume from it."""
        return {"features": [view.key.name for view in self.train]}

    def loader(self, *, train: bool) -> FeatureLoader:
        """The loader of this rank's share of the training or the validation images."""
        hp, world = self.job.hp, self.job.world
        views = self.train if train else [self.validation]
        order = EpochOrder(
            len(views[0].labels), hp.batch_size, hp.seed, train, world.rank, world.size
        )
        return FeatureLoader(views, order)

    def write_model(self) -> None:
        """Write the features as the job's model, for another job's `features` channel."""
        kept = [*self.train, self.validation, *([self.test] if self.test else [])]
        folders = {each.key.name: self.extractor.cache.folder(each.key.name) for each in kept}
        graph = self.extractor.engines.folder
        model_dir = self.job.environment.model_dir
        decodable = self.extractor.cache.root / NAME
        write_features([*folders.values(), *([graph] if graph else []), decodable], model_dir)
        say(
            f"model: {model_dir}: the features of {len(folders)} sets of images; nothing is trained"
        )

    def shortcut(self, classifier: Classifier, head: str, say: Callable[[str], None]) -> "HeadOnly":
        """Results for the end of the job that need not run the backbone again."""
        return HeadOnly(self, classifier, head, say)


@dataclass(frozen=True)
class HeadOnly:
    """A classifier whose head alone was trained, on features.

    Attributes:
        features: the features of its job.
        classifier: the complete classifier.
        head: name of its head.
        say: where messages go.
    """

    features: JobFeatures
    classifier: Classifier
    head: str
    say: Callable[[str], None]

    @property
    def convert(self) -> Convert | None:
        """Joins the backbone's cached graph with the head; None without a cached graph."""
        graph = self.features.extractor.engines.load(self.features.validation.key.parts)
        if graph is None:
            return None
        return lambda model, _pixels: join_head(graph, model.network.get_submodule(self.head))

    def probabilities(
        self,
        held_out: Index,
        checked: npt.NDArray[np.int64],
        expected: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32] | None:
        """Probabilities of a held-out split from its features, float32 (N, C).

        None if they differ from the network's, which are `expected` for the images `checked`.
        """
        job = self.features.job
        is_validation = held_out is job.splits.validation
        features = self.features.validation if is_validation else self.features.test
        if features is None or features.values.dtype != np.float32:
            return None
        with tf32_disabled():
            found = _by_head(self.classifier, self.head, features, job.device)
        differs = float(np.abs(expected - found[checked]).max())
        if differs <= TOLERANCE:
            return found
        self.say(
            f"evaluation runs the backbone: probabilities from cached features differ by "
            f"{differs:.1e} (at most {TOLERANCE:.0e} is accepted)"
        )
        return None

    def predict_bfloat16(self, images: Index) -> npt.NDArray[np.float32] | None:
        """Probabilities of some held-out images from features in bfloat16, which are cached too."""
        job = self.features.job
        if job.world.size > 1:  # the other processes have left
            return None
        features = self.features.extractor.extract(
            images, name="held-out", precision="bfloat16", in_channel=False
        )
        with torch.autocast(job.device.type, dtype=torch.bfloat16):
            return _by_head(self.classifier, self.head, features, job.device)


def _by_head(
    classifier: Classifier, head: str, features: Features, device: torch.device
) -> npt.NDArray[np.float32]:
    module = classifier.eval().network.get_submodule(head)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(features.labels), 1024):
            values = np.asarray(features.values[start : start + 1024], dtype=np.float32)
            logits = module(torch.tensor(values, device=device))
            rows.append(torch.softmax(logits.float(), dim=1).cpu().numpy())
    return np.concatenate(rows)
