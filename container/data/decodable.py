"""Digests of files that were decoded without error, kept from one job to the next.

A file whose bytes were decoded once needs no second check: a tuning job's trials read the same
images. A file of digests is valid for one version of the decoders.
"""

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from container.data.index import DIGEST_BYTES, Index
from container.files.json_files import written_aside

NAME = "decodable.bin"
MOST = 1 << 22
"""Digests to keep at most: 64 MiB."""
_DECODERS = ("pillow", "simplejpeg")
_DTYPE = np.dtype(f"V{DIGEST_BYTES}")


class DecodableFiles:
    """A set of files' digests.

    Args:
        kept: the file to read and update; None to keep none.
        given: further files to read.

    A file that cannot be read or is of other decoder versions is ignored.
    """

    def __init__(self, kept: Path | None, given: Iterable[Path] = ()) -> None:
        self._kept = kept
        files = [*([] if kept is None else [kept]), *given]
        self._known = frozenset[bytes]().union(*map(_read, files))

    def __contains__(self, digest: object) -> bool:
        """Whether a file with this digest was decoded before."""
        return digest in self._known

    def __len__(self) -> int:
        """Number of known files."""
        return len(self._known)

    def add(self, indexes: Iterable[Index]) -> None:
        """Keep the digests of images that `container.data.lint` accepted.

        Does nothing if the folder is not writable or there would be too many.
        """
        rows: list[npt.NDArray[np.uint8]] = [
            index.digests for index in indexes if index.digests is not None
        ]
        found = {each.tobytes() for digests in rows for each in digests}
        known = self._known | found
        if self._kept is None or known == self._known or len(known) > MOST:
            return
        self._known = known
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(self._kept) as aside:
                aside.write_bytes(_header() + b"\n" + b"".join(sorted(known)))
        except OSError:
            return


def _read(path: Path) -> frozenset[bytes]:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return frozenset()
    if head != _header() or len(body) % DIGEST_BYTES:
        return frozenset()
    return frozenset(np.frombuffer(body, dtype=_DTYPE).tolist())


def _header() -> bytes:
    versions = " ".join(f"{name}={metadata.version(name)}" for name in _DECODERS)
    return f"decoded by {versions}".encode()
