"""Recognises image formats by the signatures in their first bytes."""

import re

ACCEPTED = "JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or JPEG 2000"

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)

# P1 to P6: bitmap, greymap and pixmap, as text and as binary (netpbm's pbm(5), pgm(5), ppm(5)).
_PORTABLE = re.compile(rb"P[1-6][\s#]")

# Image formats without a decoder here.
_UNREAD: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\x01\0", "icon (ICO)"),
    (b"\0\0\x02\0", "cursor (CUR)"),
    (b"icns", "icon (ICNS)"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"DDS ", "DDS texture"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"gimp xcf", "GIMP"),
    (b"SIMPLE  =", "FITS"),
    (b"AT&TFORM", "DjVu"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"IIU\0", "camera raw (RW2)"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\xd7\xcd\xc6\x9a", "Windows metafile"),
    (b"\x0a\x05\x01", "PCX"),
    (b"\x01\xda\x01", "SGI"),
)

# Other files that are often sent instead of images.
_OTHER: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"<", "HTML, XML or SVG text"),
    (b"{", "JSON text"),
)

# Brands of ISO media files (ISO/IEC 23008-12, annex B; AV1 Image File Format, section 6).
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevm": "HEIC",
    b"hevs": "HEIC",
    b"mif1": "HEIF",
    b"mif2": "HEIF",
    b"msf1": "HEIF",
    b"avci": "HEIF",
    b"jpeg": "HEIF",
    b"crx ": "camera raw (CR3)",
}


def sniff(data: bytes) -> str | None:
    """The accepted format, recognised by the first bytes, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return "AVIF" if _AVIF_BRANDS & set(_brands(data)) else None
    if _PORTABLE.match(data):
        return "PPM"
    return next((kind for magic, kind in _SIGNATURES if data.startswith(magic)), None)


def unread(kind: str, into: str = "JPEG or PNG") -> str:
    """The message for an image format that is not read."""
    return f"{kind} is not read here; convert it to {into}"


def refusal(data: bytes) -> str:
    """The message for bytes that `sniff` does not recognise."""
    if not data:
        return f"empty (0 bytes), expected a {ACCEPTED} image"
    image_format = next((kind for magic, kind in _UNREAD if data.startswith(magic)), None)
    if data[128:132] == b"DICM":
        image_format = "DICOM"
    if data[4:8] == b"ftyp":
        brands = (brand for brand in _brands(data) if brand in _HEIF_BRANDS)
        image_format = next((_HEIF_BRANDS[brand] for brand in brands), None)
    if image_format is not None:
        return f"not an accepted image: {unread(image_format)}"
    found = next((what for magic, what in _OTHER if data.lstrip()[:8].startswith(magic)), None)
    if found is None and data[4:8] == b"ftyp":
        found = "a video (MP4 or QuickTime)"
    if found is None and data[:4] == b"RIFF":
        found = "a sound or video (RIFF)"
    found = found or f"{len(data)} bytes starting {data[:8].hex(' ')}"
    return f"not an accepted image: found {found}, expected {ACCEPTED}"


def _brands(data: bytes) -> list[bytes]:
    """The major brand of an ISO media file, then its compatible brands."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 4096)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
