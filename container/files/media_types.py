"""The media type of a file, from its first bytes or its name."""

import mimetypes
from pathlib import PurePath

UNKNOWN = "application/octet-stream"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/x-jp2-codestream"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"\xff\x0a", "image/jxl"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
# The brands of ISO base media files (ISO/IEC 23008-12, annex B; AVIF 1.1, section 6).
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif"} | dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "image/heic"
)
_NETPBM = {49: "bitmap", 52: "bitmap", 50: "graymap", 53: "graymap", 51: "pixmap", 54: "pixmap"}


def sniff_media_type(head: bytes) -> str | None:
    """The media type from a file's first bytes; None if unknown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":  # reserved; text may begin with BM too
        return "image/bmp"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, 48, 4))]
        if head[8:12] in (b"mif1", b"msf1"):  # does not name the coding
            brands.reverse()
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "video/mp4")
    if head[:1] == b"P" and head[1:2].isdigit() and head[2:3].isspace() and head[1] in _NETPBM:
        return f"image/x-portable-{_NETPBM[head[1]]}"
    return next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), None)


def media_type(head: bytes, name: str) -> str:
    """The media type of a file from its first bytes or else its name; otherwise `UNKNOWN`."""
    kind = sniff_media_type(head)
    if kind is not None and not kind.startswith("application/"):
        return kind
    # An archive's name may be more specific: a .docx is a zip too.
    guessed, encoding = mimetypes.guess_type(PurePath(name).name)
    if encoding is not None:
        return f"application/{'gzip' if encoding == 'gzip' else 'x-' + encoding}"
    if guessed is not None and not (kind is None and guessed.startswith("image/")):
        return guessed
    return kind or UNKNOWN
