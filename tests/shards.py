"""Writes valid and invalid tar shards for tests."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

Member = tuple[str | tarfile.TarInfo, bytes]


def write_shard(
    path: Path, members: Iterable[Member], tar_format: int = tarfile.PAX_FORMAT
) -> Path:
    """Write a tar of these members, each a name (or header) and its bytes, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:", format=tar_format) as shard:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    return path


def shards_of(folder: Path, root: Path, count: int) -> Path:
    """Pack a folder of <class>/<image> files into `count` shards, in the order of their paths.

    Members are named <class>/<image>, as `tar` names them.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    share = -(-len(paths) // count)
    for number in range(count):
        part = paths[number * share : (number + 1) * share]
        members = [(str(path.relative_to(folder)), path.read_bytes()) for path in part]
        write_shard(root / f"{number}.tar", members)
    return root


def samples(labels: Iterable[str], image: bytes = b"image") -> list[Member]:
    """A KEY.cls and a KEY.jpg member for each label, as WebDataset's writers write them."""
    return [
        member
        for number, label in enumerate(labels)
        for member in ((f"{number:06d}.cls", label.encode()), (f"{number:06d}.jpg", image))
    ]
