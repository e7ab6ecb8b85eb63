"""Tar shards beside a folder of the same images: images a second, the index's time and memory.

    python tests/benchmarks/shards.py [--images 2000] [--rounds 5] [--workers 1 2]
                                      [--members 1000000]

Rounds are interleaved: in each, every way makes its loader anew and goes through one epoch of
random crops, of which nothing is kept. `streamed` is FastFile mode's order and blocks, here without
a network. The index is of class folders in shards that share one file on the disk, whose images are
holes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from container.data.index import Index
from container.data.loader import EpochLoader
from container.data.splits import read_index
from container.images.geometry import Geometry

sys.path.insert(0, str(Path(__file__).parents[1]))

from photographs import photographs

SIZE = 224
BATCH = 32
SHARDS = 8
CLASSES = 100
HOLE = 100 << 10
"""Bytes of an image that is a hole."""


def pack(folder: Path, root: Path) -> None:
    """The images of a folder <class>/<image>, shuffled, in shards."""
    photos = sorted(folder.glob("*/*"))
    photos = [photos[at] for at in np.random.default_rng(0).permutation(len(photos))]
    root.mkdir()
    for number in range(SHARDS):
        with tarfile.open(root / f"{number:03d}.tar", "w") as shard:
            for photo in photos[number::SHARDS]:
                shard.add(photo, f"{photo.parent.name}/{photo.name}")


def seconds_of_an_epoch(index: Index, workers: int, epoch: int) -> tuple[float, list[int]]:
    """One epoch's seconds, and the resident memory of all processes after each tenth, in bytes."""
    loader = EpochLoader(
        index,
        Geometry.for_size(SIZE),
        image_size=SIZE,
        batch_size=BATCH,
        seed=0,
        train=True,
        workers=workers,
    )
    every = max(1, len(loader) // 10)
    memory = []
    started = time.perf_counter()
    for number, _ in enumerate(loader.batches(epoch)):
        if number % every == 0:
            memory.append(resident())
    return time.perf_counter() - started, memory


def resident() -> int:
    """Bytes of this process and those it started, shared pages counted once each."""
    here = psutil.Process()
    return sum(process.memory_full_info().pss for process in (here, *here.children()))


def compare(folder: Path, shards: Path, rounds: int, workers: int) -> None:
    index = read_index(shards)
    ways: dict[str, Index] = {
        "folder": Index.from_folder(folder),
        "shards": index,
        "streamed": replace(index, streamed=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, list[int]] = {}
    for number in range(rounds):
        for name in np.random.default_rng(number).permutation(list(ways)).tolist():
            seconds, memory[name] = seconds_of_an_epoch(ways[name], workers, number)
            rates[name].append(len(ways[name]) / seconds)
    base = statistics.median(rates["folder"])
    for name, found in rates.items():
        tenths = ", ".join(f"{each >> 20}" for each in memory[name])
        print(
            f"{workers} workers, {name}: {statistics.median(found):.0f} images/s "
            f"({statistics.median(found) / base:.2f} of the folder's); MiB at each tenth of the "
            f"last epoch: {tenths}"
        )


def hollow_shards(root: Path, members: int) -> None:
    """`members` images of nothing in a hundred shards, all links to one file."""
    share = members // 100
    first = root / "000.tar"
    with first.open("wb") as shard:
        for number in range(share):
            info = tarfile.TarInfo(f"class{number % CLASSES:03d}/{number:08d}.jpg")
            info.size = HOLE
            shard.write(info.tobuf(tarfile.USTAR_FORMAT))
            shard.seek(-(-HOLE // 512) * 512, os.SEEK_CUR)
        shard.write(bytes(1024))
    for number in range(1, 100):
        os.link(first, root / f"{number:03d}.tar")


MEASURED = """
import psutil, resource, sys, time
from pathlib import Path
from container.data.splits import read_index
root, kind = Path(sys.argv[1]), sys.argv[2]
usage = lambda: resource.getrusage(resource.RUSAGE_SELF)
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before, start, most = psutil.Process().memory_info().rss, usage(), peak()
began = time.perf_counter()
index = read_index(root)
seconds, after, end = time.perf_counter() - began, psutil.Process().memory_info().rss, usage()
core = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
print(f"{kind}: {len(index):,} images indexed in {seconds:.1f} s, {core:.1f} core seconds; "
      f"{(after - before) / len(index):.0f} bytes each, {(peak() - most) >> 10} MiB "
      "at the peak")
"""


def measure_index(root: Path, kind: str) -> None:
    """In a process of its own, so that memory is the index's."""
    subprocess.run([sys.executable, "-c", MEASURED, str(root), kind], check=True)


def touch(folder: Path, images: int) -> None:
    """A folder of empty files."""
    for number in range(images):
        path = folder / f"class{number % CLASSES:03d}" / f"{number:08d}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()


def main() -> None:
    parser = argparse.ArgumentParser(description="Tar shards beside a folder.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--members", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        steps: list[Callable[[], None]] = [
            lambda: photographs(root / "photos", options.images),
            lambda: pack(root / "photos", root / "shards"),
        ]
        for step in steps:
            step()
        for workers in options.workers:
            compare(root / "photos", root / "shards", options.rounds, workers)
        (root / "hollow").mkdir()
        hollow_shards(root / "hollow", options.members)
        measure_index(root / "hollow", "shards")
        touch(root / "files", options.members // 10)
        measure_index(root / "files", "folder")


if __name__ == "__main__":
    main()
