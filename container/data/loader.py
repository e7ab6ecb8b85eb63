"""Batches of decoded images, the same for any number of workers and any starting batch.

    loader = EpochLoader(index, geometry, batch_size=64, seed=0, train=True, workers=2,
                         image_size=224)
    for images, labels in loader.batches(epoch=3, start=17):
        ...                                # uint8 (N, 3, 224, 224), int64 (N,)

Small sets of small images are decoded once and kept in memory. All others are decoded in batches by
worker processes, which cache as many images as memory allows.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from container.data.crop import RandomCrop
from container.data.decoded import DecodedImages
from container.data.index import Index
from container.data.members import BLOCK, BlockReader
from container.data.order import STREAMS, WINDOW, EpochOrder, StreamedOrder
from container.errors import BerthError, DataError
from container.files.progress import ProgressBar
from container.images.budget import BUDGET, LockFile
from container.images.decode import printable
from container.images.geometry import SMALL, Geometry

CACHE_BYTES = 1 << 30
"""Decoded sets up to this size, of images up to 64 pixels, stay in memory."""

PREFETCH = 2
"""Batches that each worker keeps ready."""

_CHUNK = 256
_MEGABYTE = 1 << 20

Batch = tuple[Tensor, Tensor]
Request = tuple[int, npt.NDArray[np.int64]]


class BatchLoader(Protocol):
    """The batches of one split for one process, as the training loop reads them."""

    def __len__(self) -> int:
        """Batches per epoch for this process."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from number `start` on."""
        ...


class EpochLoader:
    """The batches of one split, for one of `world` processes.

    `train=True` orders images as `EpochOrder` does and, above 64 pixels, crops them at random with
    (seed, epoch, image) as seed; `random_crop=False` uses the evaluation geometry instead.
    Shards that are streamed are shuffled as by `StreamedOrder`, and read block by block.
    `train=False` yields every image once, in index order, through `geometry`, whose crop is
    `image_size`. `report` is called with a message if shared memory is too small for `workers`.
    `keep` is the number of bytes of decoded images to cache for later epochs.
    """

    def __init__(
        self,
        index: Index,
        geometry: Geometry,
        *,
        batch_size: int,
        seed: int,
        train: bool,
        workers: int,
        image_size: int,
        rank: int = 0,
        world: int = 1,
        random_crop: bool = True,
        keep: int = 0,
        report: Callable[[str], object] = print,
    ) -> None:
        if image_size != geometry.crop:
            raise ValueError(f"image_size {image_size} is not the geometry's crop {geometry.crop}")
        self._index, self._geometry = index, geometry
        self._batch_size, self._seed = batch_size, seed
        order = EpochOrder(len(index), batch_size, seed, train, rank, world)
        self._order: EpochOrder | StreamedOrder = order
        self._streamed = train and index.streamed and index.members is not None
        if self._streamed and index.members is not None:
            self._order = StreamedOrder(order, index.members.blocks())
        self._workers, self._report = workers, report
        self._crop = None
        if train and random_crop and image_size > SMALL:
            self._crop = RandomCrop(image_size, geometry.interpolation)
        side = geometry.crop
        self._small = side <= SMALL and len(index) * side * side * 3 <= CACHE_BYTES
        self._decoded: Tensor | None = None
        self._labels = torch.from_numpy(index.labels)
        self._sampler = _BatchSampler()
        self._keep = keep
        self._processes: DataLoader[Batch | BerthError] | None = None
        self._files: _BatchDataset | None = None
        # Locked by the worker that decodes a large image; deleted with this loader.
        self._lock_file = LockFile()

    @property
    def in_memory(self) -> bool:
        """Whether all images are decoded once and kept in memory."""
        return self._small

    @property
    def workers(self) -> int:
        """Number of worker processes; 0 for a set in memory."""
        return 0 if self._small else self._workers

    def __len__(self) -> int:
        """Batches per epoch for this process."""
        return len(self._order)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from number `start` on; earlier ones are not decoded.

        Yields images uint8 (N, 3, crop, crop) and labels int64 (N,). Raises BadImage or DataError,
        one line, for a file that can no longer be read, and DataError when a worker dies.
        """
        return self.decode([(epoch, batch) for batch in self._order.batches(epoch)[start:]])

    def decode(self, requests: list[Request]) -> Iterator[Batch]:
        """Yield a batch, as `batches` does, for each request: an epoch and int64 positions."""
        if not requests:
            return iter(())
        return self._from_memory(requests) if self._small else self._from_files(requests)

    def _from_memory(self, requests: list[Request]) -> Iterator[Batch]:
        if self._decoded is None:
            self._decoded = torch.from_numpy(decode_all(self._index, self._geometry))
        for _, positions in requests:
            at = torch.from_numpy(positions)
            yield self._decoded.index_select(0, at), self._labels.index_select(0, at)

    def _from_files(self, requests: list[Request]) -> Iterator[Batch]:
        if self._processes is None:
            self._processes = self._start()
        self._sampler.requests = requests
        try:
            for batch in self._processes:
                if isinstance(batch, BerthError):
                    raise batch
                yield batch
        except Exception as error:
            # Stop the workers now: the traceback would keep them alive until garbage collection.
            self._processes = None
            if not isinstance(error, RuntimeError) or "DataLoader worker" not in str(error):
                raise
            message = printable(str(error))
            files = self._files.current_files(message) if self._files else []
            where = f" at {', '.join(map(printable, files[:5]))}" if files else ""
            raise DataError(
                f"a data-loading worker died{where} ({message}); "
                "set fewer workers, or give the container more memory and --shm-size"
            ) from error

    def _start(self) -> "DataLoader[Batch | BerthError]":
        side = self._geometry.crop
        workers = affordable_workers(
            self._workers, PREFETCH, self._batch_size * 3 * side * side, report=self._report
        )
        kept = None
        if self._keep and DecodedImages.possible():
            kept = DecodedImages(len(self._index), self._keep)
        held = 0
        if self._streamed:
            # What the places of the epoch that a worker reads from have before them.
            held = -(-STREAMS // max(1, workers)) * WINDOW * BLOCK
        self._files = _BatchDataset(
            self._index, self._geometry, self._crop, self._seed, workers, kept, held
        )
        begin = partial(_begin, lock_file=self._lock_file.path, files=self._files)
        return DataLoader(
            self._files,
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
            worker_init_fn=begin if workers else None,
            pin_memory=torch.cuda.is_available(),
            # Without its own generator it would draw from the global one, which the caller seeds.
            generator=torch.Generator().manual_seed(self._seed),
        )


class _BatchSampler(Sampler[Request]):
    """The requests that workers process; replaced for each epoch."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


class _BatchDataset(Dataset[Batch | BerthError]):
    """Decodes a batch per request, in a worker process or without workers."""

    def __init__(
        self,
        index: Index,
        geometry: Geometry,
        crop: RandomCrop | None,
        seed: int,
        workers: int,
        kept: DecodedImages | None,
        held: int,
    ) -> None:
        self._index, self._geometry, self._crop, self._seed = index, geometry, crop, seed
        self._kept = kept
        self._read = index.read
        if held and index.members is not None:
            self._read = BlockReader(index.members, held).read
        # A row for each worker: its pid, and the position being decoded or -1.
        self._at = torch.full((workers, 2), -1, dtype=torch.int64)
        if workers:
            self._at.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, worker: int) -> None:
        """Register a worker process before its first batch."""
        self._at[worker, 0] = os.getpid()

    def current_files(self, message: str) -> list[str]:
        """The files being decoded by the workers whose pids are in `message`, or by all workers."""
        pids = {int(number) for number in re.findall(r"\d+", message)}
        rows = [(pid, position) for pid, position in self._at.tolist() if position >= 0]
        dead = [position for pid, position in rows if pid in pids]
        return [self._index.paths[at] for at in dead or [position for _, position in rows]]

    def __getitem__(self, request: Request) -> Batch | BerthError:
        epoch, positions = request
        side = self._geometry.crop
        images = torch.empty((len(positions), 3, side, side), dtype=torch.uint8)
        pixels = images.numpy()
        info = get_worker_info()
        here = self._at[info.id] if info else torch.empty(2, dtype=torch.int64)
        try:
            for row, position in enumerate(positions.tolist()):
                here[1] = position
                pixels[row] = self._load(epoch, position).transpose(2, 0, 1)
        except BerthError as error:
            # Returned, because raising it would wrap it in the worker's traceback.
            return error
        finally:
            here[1] = -1
        return images, torch.from_numpy(self._index.labels[positions])

    def _load(self, epoch: int, position: int) -> npt.NDArray[np.uint8]:
        random = np.random.default_rng((self._seed, epoch, position))
        kept = None if self._kept is None else self._kept.get(position)
        if kept is not None:
            return kept if self._crop is None else self._crop.crop(kept, random)
        name = self._index.paths[position]
        data = self._read(position)
        keep = None if self._kept is None else partial(self._kept.put, position)
        if self._crop is not None:
            return self._crop.load(data, name, random, keep)
        pixels = self._geometry.load(data, name)
        if keep is not None:
            keep(pixels)
        return pixels


def _begin(worker: int, *, lock_file: Path, files: _BatchDataset) -> None:
    """Set up a worker process.

    Ctrl-C reaches the whole process group, but only the trainer must handle it. SIGTERM needs
    nothing here: torch installs its own handler in a worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    BUDGET.use_lock_file(lock_file)
    files.begin(worker)


def decode_all(index: Index, geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Decode every image with `geometry`: uint8 (N, 3, crop, crop) RGB, in index order.

    Raises BadImage or DataError for the first file that cannot be used.
    """
    side = geometry.crop
    pixels = np.empty((len(index), 3, side, side), dtype=np.uint8)

    def fill(start: int) -> int:
        stop = min(start + _CHUNK, len(index))
        for position in range(start, stop):
            image = geometry.load(index.read(position), index.paths[position])
            pixels[position] = image.transpose(2, 0, 1)
        return stop - start

    with (
        ThreadPoolExecutor() as threads,
        ProgressBar("decoding images", len(index)) as progress,
    ):
        for count in threads.map(fill, range(0, len(index), _CHUNK)):
            progress.advance(count)
    return pixels


def affordable_workers(
    wanted: int,
    prefetch: int,
    batch_bytes: int,
    *,
    report: Callable[[str], object] = print,
    shared_memory: Path = Path("/dev/shm"),  # noqa: S108
) -> int:
    """The number of workers that fit in shared memory, at most `wanted`; calls `report` if fewer.

    A worker holds `prefetch` finished batches of `batch_bytes` and fills another. At most half of
    the free memory is used, as the workers of the validation loader run at the same time. Without
    enough memory a worker dies of a bus error; plain `docker run` gives a container only 64 MB.
    """
    if wanted < 1:
        return 0
    free = _free_bytes(shared_memory)
    if free is None:
        return wanted
    per_worker = (prefetch + 1) * batch_bytes
    workers = min(wanted, free // 2 // per_worker)
    if workers < wanted:
        needed = 2 * wanted * per_worker
        report(
            f"{shared_memory} has {free // _MEGABYTE} MB free, too little for {wanted} "
            f"data-loading workers: using {workers}; for all of them start the container with "
            f"--shm-size={-(-needed // _MEGABYTE)}m"
        )
    return workers


def _free_bytes(shared_memory: Path) -> int | None:
    """Free bytes; None if the platform has no such folder."""
    try:
        room = os.statvfs(shared_memory)
    except FileNotFoundError:
        return 0 if sys.platform == "linux" else None
    return room.f_bavail * room.f_frsize
