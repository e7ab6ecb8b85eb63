"""Finds the image that a row of labels refers to, and never outside the images' folder."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from container.files.folders import IMAGE_SUFFIXES, is_image_name, is_junk, is_utf8, readable

_ENDINGS = ("", *sorted(IMAGE_SUFFIXES), ".JPG", ".JPEG", ".PNG")


class ImageFiles:
    """The images below a folder, found by the paths in tables and manifests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._top = Path(os.path.realpath(folder))

    def find(self, path: str) -> Path | str:
        """The file at a path, or a message saying why there is none.

        The path is relative to the folder, or absolute and inside it. Its suffix may be missing. An
        S3 URI matches by the end of its key. A bare name is also searched for in all folders below,
        where it must be unique. A path outside the folder, directly or through a link, is rejected.
        """
        outside = False
        for candidate in _candidates(path):
            for ending in _ENDINGS:
                real = self._real(f"{candidate}{ending}")
                if real is None:
                    continue
                if not real.is_relative_to(self._top):
                    outside = True
                elif real != self._top and not real.is_dir() and os.path.lexists(real):
                    return real
        if outside:
            return f"{readable(path)} leads out of {readable(str(self.folder))}"
        name = PurePosixPath(path.replace("\\", "/")).name
        below = self._by_name.get(name, []) if name == path or path.startswith("s3://") else []
        if len(below) == 1:
            return below[0]
        if below:
            return f"{readable(path)} is in {len(below)} folders below {readable(str(self.folder))}"
        return f"{readable(path)} is not in {readable(str(self.folder))}"

    def unused(self, used: set[Path]) -> list[str]:
        """The images not in `used`, as paths relative to the folder."""
        return [
            str(path.relative_to(self._top))
            for path in self._all
            if Path(os.path.realpath(path)) not in used
        ]

    def _real(self, candidate: str) -> Path | None:
        if "\0" in candidate or not is_utf8(candidate):
            return None
        try:
            return Path(os.path.realpath(self._top / candidate))
        except (OSError, ValueError):
            return None

    @cached_property
    def _all(self) -> list[Path]:
        return [
            path
            for path in sorted(self._top.rglob("*"))
            if is_image_name(path.name)
            and not any(map(is_junk, path.relative_to(self._top).parts))
            and path.is_file()
            and Path(os.path.realpath(path)).is_relative_to(self._top)
        ]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self._all:
            for name in (path.name, path.stem):
                found.setdefault(name, []).append(path)
        return found


def _candidates(path: str) -> Iterator[str]:
    if path.startswith("s3://"):
        parts = PurePosixPath(path.removeprefix("s3://")).parts[1:]
        if ".." not in parts:
            yield from ("/".join(parts[at:]) for at in range(len(parts)))
        return
    yield path.removeprefix("file://")
    if "\\" in path:
        yield path.replace("\\", "/")
