"""Computes the features of a split in one streaming pass, or finds them in the cache.

    extractor = FeatureExtractor(classifier, head, arch="resnet18", stem="standard",
                                 geometry=geometry, cache=FeatureCache.find(base), workers=2)
    features = extractor.extract(index)        # .values: memmap (N, F), .labels: int64 (N,)

With several processes, each computes its share of the shards. Processes of one host write to the
same file; hosts exchange their shards.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from container.data.augment import Augment, make_augment
from container.data.index import Index
from container.data.loader import EpochLoader, Request
from container.features.backbone import feature_width, headless, weights_digest
from container.features.cache import FeatureCache
from container.features.engine import FeatureEngine
from container.features.engines import Engines
from container.features.key import FeatureKey, View, images_digest
from container.features.store import (
    BATCH,
    DamagedFeatures,
    FeatureDraft,
    Matrix,
    MatrixLayout,
    as_bytes,
    open_matrix,
    read_description,
    read_shard,
)
from container.files.progress import ProgressBar
from container.images.geometry import Geometry
from container.models import Classifier
from container.training.checkpoint import Interrupted
from container.training.distributed import World


@dataclass(frozen=True)
class Features:
    """The features of a split's images.

    Attributes:
        values: float32 or float16 (N, F), a read-only memory map.
        labels: int64 (N,).
        key: everything the features depend on.
    """

    values: Matrix
    labels: npt.NDArray[np.int64]
    key: FeatureKey


@dataclass
class FeatureExtractor:
    """Computes features with one backbone and keeps them in a cache.

    Every process of the job must call the same methods in the same order.

    Args:
        classifier: the classifier, on the device, with rank 0's weights on every rank.
        head: name of its head within `classifier.network`.
        arch, stem: the network's architecture and stem, for the key.
        geometry: how an image becomes the network's input.
        cache: where features are kept.
        workers: number of worker processes.
        device: where the classifier is.
        world: this rank and the number of ranks.
        keep_graph: convert the backbone to OpenVINO even for few images, as the export needs it.
        say: where messages go.

    Raises:
        FeatureError: the head of this network cannot be trained on features.
    """

    classifier: Classifier
    head: str
    arch: str
    stem: str
    geometry: Geometry
    cache: FeatureCache
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    world: World = field(default_factory=World)
    keep_graph: bool = False
    say: Callable[[str], None] = print
    seconds_per_image: float | None = field(default=None, init=False)
    """Of the last pass by this process, the engine's conversion left out; None before."""
    _weights: str = field(default="", init=False)

    def __post_init__(self) -> None:  # noqa: D105
        self.width = feature_width(self.classifier, self.head, self.geometry.crop)
        self.engines = Engines(
            self.cache, self.device, threads=torch.get_num_threads(), keep=self.keep_graph
        )

    @property
    def weights(self) -> str:
        """SHA-256 of rank 0's backbone."""
        if not self._weights:
            digest = partial(weights_digest, self.classifier, self.head)
            self._weights = self.world.share(digest)
        return self._weights

    def key(self, index: Index, view: View | None = None, precision: str = "float32") -> FeatureKey:
        """The key of the features of some images."""
        classifier, weights = self.classifier, self.weights
        return self.world.share(
            lambda: FeatureKey(
                images=images_digest(index),
                count=len(index),
                arch=self.arch,
                stem=self.stem,
                weights=weights,
                geometry=self.geometry.to_json(),
                mean=_three(classifier.mean),
                std=_three(classifier.std),
                view=view,
                width=self.width,
                precision=precision,
            )
        )

    def extract(
        self,
        index: Index,
        view: View | None = None,
        *,
        name: str = "train",
        precision: str = "float32",
        in_channel: bool = True,
    ) -> Features:
        """The features of every image of an index, in its order.

        Args:
            view: the augmented view; None for the evaluation geometry.
            name: name of the split, for messages.
            precision: float32, or bfloat16 with PyTorch's autocast.
            in_channel: if there is a channel, require the features to be in it.

        Raises:
            BadImage, DataError: a file can no longer be read.
            FeatureError: they are not finite, or the channel lacks them.
            Interrupted: the job must stop; finished shards are kept.
            TrainingError: the disk is full.
        """
        key = self.key(index, view, precision)
        what = f"features of {name} images" + (f", view {view.number + 1}" if view else "")
        if self.cache.channel is not None and in_channel:
            folder = self.cache.require_in_channel(key.name, key.parts)
            values = open_matrix(folder, key, verify=self.world.local_rank == 0)
            return Features(values, index.labels, key)
        folder = self.cache.folder(key.name)
        if self.world.local_rank == 0:
            self.cache.hold(key.name)
        complete = self._is_complete(key) if self.world.local_rank == 0 else True
        if not all(self.world.gather(complete)):
            if self.world.local_rank == 0:
                with self.cache.computing(key.name, f"the {what}"):
                    self._compute(index, key, what)
            else:
                self._compute(index, key, what)
        return Features(open_matrix(folder, key, verify=False), index.labels, key)

    def _is_complete(self, key: FeatureKey, *, log: bool = True) -> bool:
        """Whether the cache has these features undamaged; logs damaged ones if `log`."""
        folder = self.cache.folder(key.name)
        if not folder.is_dir():
            return False
        try:
            open_matrix(folder, key)
        except DamagedFeatures as error:
            if log:
                self.cache.say(f"{error}: computing it again")
            return False
        return True

    def _compute(self, index: Index, key: FeatureKey, what: str) -> None:
        """On every rank: compute the shards that no host has, and copy all of them to each host."""
        world, host_main = self.world, self.world.local_rank == 0
        draft = FeatureDraft(self.cache.folder(key.name), key)
        # Another job may have computed it meanwhile.
        complete = host_main and self._is_complete(key, log=False)
        done: dict[int, str] = {}
        if complete:
            stored = read_description(self.cache.folder(key.name))["shards"]
            done = dict(enumerate(stored))
        elif host_main:
            self.cache.make_room(draft.layout.size, key.name)
            done = draft.begin()
        if all(world.gather(complete or not host_main)):
            return
        found = _merged(world.gather(done))
        layout = draft.layout
        missing = [shard for shard in range(layout.shards) if shard not in found]
        if found:
            self.say(f"{what}: {len(found)} of {layout.shards} shards exist already")
        own = missing[world.rank :: world.size]
        written: dict[int, str] = {}
        engine_name = "an earlier attempt"
        world.align(self.classifier.network.state_dict().values())
        if own:
            total = sum(len(layout.range(shard)) for shard in own)
            with (
                headless(self.classifier, self.head) as backbone,
                ProgressBar(f"computing {what}", total) as progress,
            ):
                engine = self.engines.choose(
                    backbone, key.parts, self._sample(index), key.precision, total
                )
                engine_name = engine.name
                began, done_images = time.monotonic(), 0
                for shard, values in self._shards(index, key, engine, layout, own):
                    written[shard] = draft.write(shard, as_bytes(values, layout), world.rank)
                    progress.advance(len(values))
                    done_images += len(values)
                    self.seconds_per_image = (time.monotonic() - began) / done_images
                    if self.cache.stopped():
                        break
        if world.any(self.cache.stopped(), self.device):
            raise Interrupted(f"stopped while computing {what}; finished shards are kept")
        digests = {**found, **_merged(world.gather(written))}
        self._exchange(draft, layout, done | written, complete)
        if host_main and not complete:
            draft.finish(digests, {"engine": engine_name})
        self.say(f"{what}: {key.count:,} x {key.width} {key.dtype.name} by {engine_name}")
        world.any(False, self.device)  # a barrier: no rank opens the file before it is complete

    def _sample(self, index: Index) -> Tensor:
        """A few of the images, uint8 (N, 3, H, W), to compare engines with."""
        chosen = index.spread(4)
        loaded = [self.geometry.load(index.read(at), index.paths[at]) for at in chosen.tolist()]
        return torch.from_numpy(np.stack(loaded).transpose(0, 3, 1, 2).copy())

    def _shards(
        self,
        index: Index,
        key: FeatureKey,
        engine: FeatureEngine,
        layout: MatrixLayout,
        shards: Sequence[int],
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield each shard and its features, float32 (N, F)."""
        view = key.view
        augment = _augment(view, self.geometry.crop)
        loader = EpochLoader(
            index,
            self.geometry,
            image_size=self.geometry.crop,
            batch_size=BATCH,
            seed=0 if view is None else view.seed,
            train=view is not None,
            workers=self.workers,
        )
        requests: list[Request] = [
            (0 if view is None else view.number, np.arange(start, min(start + BATCH, rows.stop)))
            for rows in map(layout.range, shards)
            for start in range(rows.start, rows.stop, BATCH)
        ]
        batches = iter(zip(requests, loader.decode(requests), strict=True))
        for shard in shards:
            rows = layout.range(shard)
            values = np.empty((len(rows), key.width), dtype=np.float32)
            for _ in range(rows.start, rows.stop, BATCH):
                (_, positions), (images, labels) = next(batches)
                if augment is not None and view is not None:
                    torch.manual_seed(_batch_seed(view, int(positions[0])))
                    images, _ = augment(images, labels)
                values[positions - rows.start] = engine(images)
            yield shard, values

    def _exchange(
        self, draft: FeatureDraft, layout: MatrixLayout, held: dict[int, str], complete: bool
    ) -> None:
        """Send every host the shards it lacks; with a single host there is nothing to send."""
        world = self.world
        if world.size == world.local_size:
            return
        path = self.cache.folder(draft.folder.stem) / draft.path.name if complete else draft.path
        held_by = world.gather(set(range(layout.shards)) if complete else set(held))
        hosts = world.gather(world.rank - world.local_rank)
        on_host: dict[int, set[int]] = {}
        for host, shards in zip(hosts, held_by, strict=True):
            on_host[host] = on_host.get(host, set()) | shards
        for shard in range(layout.shards):
            owners = [rank for rank, shards in enumerate(held_by) if shard in shards]
            if all(shard in shards for shards in on_host.values()):
                continue
            source = owners[0]
            _, size = layout.place(shard)
            sent = torch.empty(size, dtype=torch.uint8)
            if world.rank == source:
                sent = torch.frombuffer(
                    bytearray(read_shard(path, layout, shard)), dtype=torch.uint8
                )
            sent = sent.to(self.device)
            world.send(sent, source)
            if world.local_rank == 0 and shard not in on_host[world.rank]:
                draft.write(shard, sent.cpu().numpy().tobytes(), world.rank)


def _augment(view: View | None, image_size: int) -> Augment | None:
    if view is None:
        return None
    return make_augment(view.augment, image_size=image_size, mixup=0, cutmix=0, num_classes=2)


def _batch_seed(view: View, first: int) -> int:
    entropy = np.random.SeedSequence([view.seed, view.number, first])
    return int(entropy.generate_state(1, np.uint64)[0])


def _merged(found: Sequence[dict[int, str]]) -> dict[int, str]:
    return {shard: digest for each in found for shard, digest in each.items()}


def _three(buffer: Tensor) -> tuple[float, ...]:
    """Per-channel statistics of pixels 0..255."""
    return tuple(round(float(value), 4) for value in buffer.flatten())
