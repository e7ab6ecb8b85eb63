"""Features on disk: a matrix, written and verified in shards, and its description.

A set of features is a folder named after its key:

    features.bin     the matrix (N, F), row by row, float32 or float16, little-endian
    features.json    the parts of its key, its shape, and the SHA-256 of each shard (range of rows)

During computation the folder is named `<key>.partial` and has a log per process, with a line for
each shard written. The description is written last, then the folder is renamed, so a folder named
by a key is complete. Shards are verified by their checksums before use.
"""

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from container.errors import FeatureError
from container.features.key import FORMAT, FeatureKey, key_of
from container.files.json_files import read_object, to_json, written_aside
from container.training.checkpoint import disk_full, is_disk_full

DESCRIPTION = "features.json"
VALUES = "features.bin"
PARTIAL = ".partial"

BATCH = 64
"""Images per forward pass; a shard is a multiple of it."""
_SHARD_BYTES = 16 << 20
_SHARDS = 16

READ_AHEAD = 1 << 30
"""Largest matrix, in bytes, for which the system may read ahead: it fits in memory."""

Matrix = npt.NDArray[Any]


class DamagedFeatures(FeatureError):
    """Stored features are incomplete or do not match their key or checksums."""


@dataclass(frozen=True)
class MatrixLayout:
    """The layout of a matrix (count, width) in its file, in shards of `rows` rows."""

    count: int
    width: int
    dtype: np.dtype[Any]
    rows: int

    @classmethod
    def of(cls, key: FeatureKey) -> "MatrixLayout":
        """16 shards of whole batches, or more if a shard would exceed 16 MiB."""
        most = _SHARD_BYTES // (key.width * key.dtype.itemsize)
        rows = min(most, -(-key.count // _SHARDS))
        return cls(key.count, key.width, key.dtype, max(1, -(-rows // BATCH)) * BATCH)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.rows)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.count * self.width * self.dtype.itemsize

    def range(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.rows, min((shard + 1) * self.rows, self.count))

    def place(self, shard: int) -> tuple[int, int]:
        """A shard's offset in the file and its size, in bytes."""
        rows, row_bytes = self.range(shard), self.width * self.dtype.itemsize
        return rows.start * row_bytes, len(rows) * row_bytes


def read_description(folder: Path) -> dict[str, Any]:
    """Read `features.json` of a folder.

    Raises:
        DamagedFeatures: it cannot be read, or is of another format.
    """
    stored = read_object(folder / DESCRIPTION, DamagedFeatures)
    if stored.get("format") != FORMAT:
        raise DamagedFeatures(
            f"{folder / DESCRIPTION}: format {stored.get('format')!r:.20}, expected {FORMAT}; it "
            "was written by another version"
        )
    return stored


def open_matrix(folder: Path, key: FeatureKey, *, verify: bool = True) -> Matrix:
    """Map the matrix of a folder read-only.

    Args:
        key: the key it must have been written with.
        verify: verify the checksum of every shard.

    Raises:
        DamagedFeatures: it has another key, or is incomplete or damaged.
    """
    stored = read_description(folder)
    path, layout = folder / VALUES, MatrixLayout.of(key)
    if key_of(stored.get("parts") or {}) != key.name:
        raise DamagedFeatures(f"{folder / DESCRIPTION}: its parts are not those of its key")
    sums = stored.get("shards")
    if not isinstance(sums, list) or len(sums) != layout.shards:
        raise DamagedFeatures(f"{folder / DESCRIPTION}: shards: expected {layout.shards} checksums")
    size = path.stat().st_size if path.is_file() else 0
    if size != layout.size:
        raise DamagedFeatures(f"{path}: found {size:,} bytes, expected {layout.size:,}")
    if verify:
        for shard, expected in enumerate(sums):
            if shard_digest(path, layout, shard) != expected:
                raise DamagedFeatures(f"{path}: shard {shard} does not match its checksum")
    values = np.memmap(path, layout.dtype, mode="r", shape=(layout.count, layout.width))
    if layout.size > READ_AHEAD:
        mapped: Any = values.base
        advise_random(mapped)
    return values


def advise_random(mapped: mmap.mmap) -> None:
    """Disable the system's read-ahead, which is useless for shuffled rows."""
    if hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)


def shard_digest(path: Path, layout: MatrixLayout, shard: int) -> str:
    """SHA-256 of one shard of a file."""
    return hashlib.sha256(read_shard(path, layout, shard)).hexdigest()


def read_shard(path: Path, layout: MatrixLayout, shard: int) -> bytes:
    """The bytes of one shard of a file."""
    start, size = layout.place(shard)
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, start)


class FeatureDraft:
    """Features being computed, by one or several processes of a host.

    Args:
        folder: the folder's name once they are complete.
        key: their key.
    """

    def __init__(self, folder: Path, key: FeatureKey) -> None:
        self._final, self._key = folder, key
        self.folder = folder.with_name(folder.name + PARTIAL)
        self.layout = MatrixLayout.of(key)
        self.path = self.folder / VALUES

    def begin(self) -> dict[int, str]:
        """Allocate disk space; return shards that an earlier attempt finished, with their SHA-256.

        Raises:
            TrainingError: the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        done = self._finished() if self.path.is_file() else {}
        try:
            with self.path.open("r+b" if done else "wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self.layout.size)
                else:
                    file.truncate(self.layout.size)
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            if is_disk_full(error):
                raise disk_full(self._final) from None
            raise
        return done

    def _finished(self) -> dict[int, str]:
        done: dict[int, str] = {}
        for log in sorted(self.folder.glob("shards-*.jsonl")):
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    shard, digest = json.loads(line)
                except ValueError:
                    continue  # a partially written line
                if shard in range(self.layout.shards):
                    done[shard] = digest
        return {
            shard: digest
            for shard, digest in sorted(done.items())
            if shard_digest(self.path, self.layout, shard) == digest
        }

    def write(self, shard: int, values: bytes, rank: int) -> str:
        """Write a shard's bytes, log it for this rank, and return its SHA-256.

        Raises:
            TrainingError: the disk is full.
        """
        start, size = self.layout.place(shard)
        if len(values) != size:
            raise ValueError(f"shard {shard} has {len(values)} bytes, expected {size}")
        digest = hashlib.sha256(values).hexdigest()
        try:
            with self.path.open("r+b", buffering=0) as file:
                view = memoryview(values)
                while view:
                    written = os.pwrite(file.fileno(), view, start)
                    start, view = start + written, view[written:]
            with (self.folder / f"shards-{rank}.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps([shard, digest]) + "\n")
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self._final) from None
            raise
        return digest

    def finish(self, digests: Mapping[int, str], made_by: Mapping[str, Any]) -> None:
        """Write the description and rename the folder to its final name.

        Args:
            digests: SHA-256 of every shard.
            made_by: what computed the features, for information only.

        Raises:
            TrainingError: the disk is full.
        """
        stored = {
            "format": FORMAT,
            "key": self._key.name,
            "parts": self._key.parts,
            "shape": [self.layout.count, self.layout.width],
            "rows": self.layout.rows,
            "shards": [digests[shard] for shard in range(self.layout.shards)],
            "made_by": dict(made_by),
        }
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            for log in self.folder.glob("shards-*.jsonl"):
                log.unlink()
            with written_aside(self.folder / DESCRIPTION) as aside:
                aside.write_text(to_json(stored, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(self._final) from None
            raise
        # A process that has mapped damaged features keeps its file.
        shutil.rmtree(self._final, ignore_errors=True)
        self.folder.rename(self._final)


def as_bytes(values: npt.NDArray[np.float32], layout: MatrixLayout) -> bytes:
    """Encode features, float32 (N, F), for the file.

    Raises:
        FeatureError: they are not finite in the file's dtype.
    """
    with np.errstate(over="ignore"):
        stored = values.astype(layout.dtype.newbyteorder("<"))
    if not np.isfinite(stored).all():
        raise FeatureError(
            f"the backbone's features are not finite in {layout.dtype.name}: check its "
            "weights, or train with feature_cache=off"
        )
    return stored.tobytes()
