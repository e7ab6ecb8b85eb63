"""Digests of files that were decoded without a fault, kept from one job to the next.

The same bytes need not be decoded again to know that they can be: a tuning job's trials read the
same images. A file of digests counts for one version of the decoders.
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
"""Digests that are kept at most: 64 MiB."""
_DECODERS = ("pillow", "simplejpeg")
_DTYPE = np.dtype(f"V{DIGEST_BYTES}")


class DecodableFiles:
    """A set of files' digests.

    Args:
        kept: where they are kept; None to keep none.
        given: where more of them are read from.

    A file that cannot be read, or is of other decoders, holds none.
    """

    def __init__(self, kept: Path | None, given: Iterable[Path] = ()) -> None:
        self._kept = kept
        files = [*([] if kept is None else [kept]), *given]
        self._known = frozenset[bytes]().union(*map(_read, files))

    def __contains__(self, digest: object) -> bool:
        """Whether a file with this digest was decoded before."""
        return digest in self._known

    def __len__(self) -> int:
        """How many files are known."""
        return len(self._known)

    def add(self, indexes: Iterable[Index]) -> None:
        """Keep the digests of images that `container.data.lint` has let pass.

        Nothing is kept where the folder cannot be written, or there would be too many.
        """
        rows: list[npt.NDArray[np.uint8]] = [
            index.digests for index in indexes if index.digests is not None
        ]
        found = {each.tobytes() for digests in rows for each in digests}
        whole = self._known | found
        if self._kept is None or whole == self._known or len(whole) > MOST:
            return
        self._known = whole
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(self._kept) as aside:
                aside.write_bytes(_header() + b"\n" + b"".join(sorted(whole)))
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
