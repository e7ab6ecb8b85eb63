"""The image files that command-line arguments name: files, or folders of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from container.files.folders import is_junk, left_out, readable
from local.errors import UserError

CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".jfif": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".dib": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
    ".pbm": "image/x-portable-bitmap",
    ".pgm": "image/x-portable-graymap",
    ".ppm": "image/x-portable-pixmap",
    ".avif": "image/avif",
    ".jp2": "image/jp2",
    ".j2k": "image/x-jp2-codestream",
}
"""Media types of the formats the container decodes, by file extension."""
UNKNOWN_TYPE = "application/octet-stream"
"""With this type the container detects the format from the bytes."""


@dataclass(frozen=True)
class ImageFile:
    """One file to send.

    Attributes:
        path: its path.
        name: the displayed name: its path relative to the folder it was found in.
        truth: its class folder, if it was found in one; or else None.
    """

    path: Path
    name: str
    truth: str | None = None

    @property
    def content_type(self) -> str:
        """The media type for its extension."""
        return CONTENT_TYPES.get(self.path.suffix.lower(), UNKNOWN_TYPE)


def find_images(paths: Sequence[Path]) -> list[ImageFile]:
    """The files among `paths` and the images in the folders among them, in order.

    A file may have any extension. In a folder only image files count; a note lists the others.

    Raises:
        UserError: a path does not exist or is not a regular file, or a folder contains no images.
    """
    found: list[ImageFile] = []
    for path in paths:
        if path.is_dir():
            found += _in_folder(path)
        elif path.is_file():
            found.append(ImageFile(path, readable(str(path))))
        elif path.exists():
            raise UserError(f"{readable(str(path))}: neither a regular file nor a folder")
        else:
            raise UserError(f"{readable(str(path))}: no such file or folder")
    return found


def _in_folder(folder: Path) -> list[ImageFile]:
    files: list[Path] = []
    others: list[str] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(map(is_junk, relative.parts)) or path.is_dir():
            continue
        if path.suffix.lower() in CONTENT_TYPES and path.is_file():
            files.append(path)
        else:
            others.append(str(relative))
    if not files:
        endings = " ".join(CONTENT_TYPES)
        raise UserError(f"{readable(str(folder))}: no images found, expected files with {endings}")
    if others:
        print(f"{readable(str(folder))}: {left_out('not images', others)}", file=sys.stderr)
    return [
        ImageFile(
            path,
            readable(str(path.relative_to(folder))),
            readable(path.parent.name) if path.parent != folder else None,
        )
        for path in files
    ]
