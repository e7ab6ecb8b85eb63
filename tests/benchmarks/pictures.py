"""What becomes of odd and hostile pictures of every format, and what large ones take.

    python tests/benchmarks/pictures.py [--side 2500]

Prints two tables in Markdown. The first: each picture as it is decoded here, as Pillow opens it
(set upright, laid on white, RGB), and how far the two are apart. The second: for a square picture
of each format, the bytes a pixel that the budget counts and those the process really took, which
must be fewer, and what it kept afterwards.
"""

import argparse
import io
import math
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from container.errors import BadImage
from container.images.budget import BUDGET
from container.images.budget import LARGE as LARGE_FROM
from container.images.decode import decode, sniff, use_image
from container.images.readers import plan

sys.path.append(str(Path(__file__).parents[1] / "unit" / "container" / "images"))

from lossless import lossless_jpeg

LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("RGB", {}),
    "PNG with alpha": ("RGBA", {}),
    "PNG grey with alpha": ("LA", {}),
    "WebP": ("RGB", {}),
    "WebP lossless with alpha": ("RGBA", {"lossless": True, "quality": 0, "method": 0}),
    "AVIF": ("RGB", {"speed": 10}),
    "AVIF with alpha": ("RGBA", {"speed": 10, "subsampling": "4:4:4"}),
    "BMP": ("RGB", {}),
    "TIFF LZW": ("RGB", {"compression": "tiff_lzw"}),
    "GIF": ("P", {}),
    "PPM": ("RGB", {}),
    "JPEG2000": ("RGB", {}),
    "JPEG": ("RGB", {}),
    "JPEG progressive": ("RGB", {"progressive": True, "subsampling": 0}),
    "JPEG CMYK": ("CMYK", {}),
}


def photo(height: int = 300, width: int = 400, channels: int = 3) -> np.ndarray:
    """A smooth random picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as a file."""
    stream = io.BytesIO()
    # Copies, as Pillow leaves one format's settings on an image for the next.
    if others := options.get("append_images"):
        options["append_images"] = [other.copy() for other in others]
    image.copy().save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    """An EXIF block whose Orientation is a LONG."""
    tag = struct.pack(">HHII", 0x0112, 4, 1, orientation)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + tag + bytes(4)


def cases() -> Iterator[tuple[str, bytes]]:
    """Every picture's description and bytes."""
    rgb = Image.fromarray(photo())
    alpha = Image.fromarray(photo(channels=4))
    grey = rgb.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    pages = {"save_all": True, "append_images": [grey.convert("RGB"), rgb.rotate(90)]}
    sound = {
        "JPEG": encoded(rgb, "JPEG", quality=95),
        "PNG": encoded(rgb, "PNG"),
        "WebP": encoded(rgb, "WEBP", lossless=True),
        "BMP": encoded(rgb, "BMP"),
        "TIFF": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "GIF": encoded(rgb, "GIF"),
        "PPM": encoded(rgb, "PPM"),
        "AVIF": encoded(rgb, "AVIF", quality=90),
        "JPEG 2000": encoded(rgb, "JPEG2000"),
    }
    for kind, data in sound.items():
        yield kind, data
        yield f"{kind}, other bytes behind it", data + b"\xff\xda\xff\xc3PK\3\4" * 100
        yield f"{kind}, cut at nine tenths", data[: len(data) * 9 // 10]
        yield f"{kind}, cut at a twentieth", data[: max(12, len(data) // 20)]
    yield "JPEG progressive", encoded(rgb, "JPEG", progressive=True)
    yield "JPEG grey", encoded(grey, "JPEG")
    yield "JPEG CMYK (Adobe)", encoded(rgb.convert("CMYK"), "JPEG", quality=95)
    yield "JPEG 4:1:1", encoded(rgb, "JPEG", subsampling="4:1:1")
    yield "JPEG of two pictures (MPO)", encoded(rgb, "MPO", **pages)
    yield "JPEG lossless", lossless_jpeg(photo(60, 80))
    jpeg = sound["JPEG"]
    at = jpeg.index(b"\xff\xc0")
    frame = jpeg[at : at + 19]
    yield "JPEG with two frame headers", jpeg[:at] + frame + jpeg[at:]
    yield "JPEG with fill bytes and stray bytes", jpeg[:at] + b"\0\0\xff\xff\xff" + jpeg[at:]
    yield "JPEG 12 bits", jpeg[: at + 4] + b"\x0c" + jpeg[at + 5 :]
    yield "JPEG hierarchical", jpeg[: at + 1] + b"\xc5" + jpeg[at + 2 :]
    yield "JPEG-LS", jpeg[: at + 1] + b"\xf7" + jpeg[at + 2 :]
    yield "JPEG without a height (DNL)", jpeg[: at + 5] + b"\0\0" + jpeg[at + 7 :]
    yield "JPEG of 65,535 x 65,535", jpeg[: at + 5] + b"\xff" * 4 + jpeg[at + 9 :]
    for kind in ("JPEG", "PNG", "WEBP"):
        yield f"{kind}, Orientation 6 as LONG", encoded(rgb, kind, exif=exif(6), quality=95)
    turned = Image.Exif()
    turned[0x0112] = 8
    yield "TIFF, Orientation 8", encoded(rgb, "TIFF", exif=turned)
    yield "AVIF, irot", encoded(rgb, "AVIF", exif=turned)
    yield "PNG palette, transparent", encoded(rgb.quantize(16), "PNG", transparency=3)
    yield "PNG with alpha", encoded(alpha, "PNG")
    yield "PNG grey with alpha", encoded(alpha.convert("LA"), "PNG")
    yield "PNG 1 bit", encoded(grey.convert("1"), "PNG")
    yield "PNG 16 bits", encoded(deep, "PNG")
    yield "PNG animated", encoded(rgb, "PNG", **pages)
    yield "WebP animated", encoded(rgb, "WEBP", lossless=True, **pages)
    yield "WebP with alpha", encoded(alpha, "WEBP", lossless=True, exact=True)
    yield "GIF animated", encoded(rgb, "GIF", **pages)
    yield "GIF transparent", encoded(rgb.quantize(16), "GIF", transparency=3)
    yield "TIFF of three pages", encoded(rgb, "TIFF", **pages)
    yield "TIFF CMYK", encoded(rgb.convert("CMYK"), "TIFF")
    yield "TIFF 1 bit, fax", encoded(grey.convert("1"), "TIFF", compression="group4")
    yield "TIFF 16 bits", encoded(deep, "TIFF")
    yield "TIFF float", encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    yield "TIFF of 64 bits (BigTIFF)", encoded(rgb, "TIFF", big_tiff=True)
    yield "PGM", encoded(grey, "PPM")
    yield "PGM 16 bits", encoded(deep, "PPM")
    yield "PBM", encoded(grey.convert("1"), "PPM")
    yield "AVIF with alpha", encoded(alpha, "AVIF", quality=90)
    yield "AVIF sequence", encoded(rgb, "AVIF", quality=90, **pages)
    yield "JPEG 2000 codestream", encoded(rgb, "JPEG2000", no_jp2=True)
    yield "JPEG 2000 16 bits", encoded(deep, "JPEG2000")
    yield (
        "WebP of 64 megapixels in 34 bytes",
        (b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0/\xfe\xff\xce\x03\x07\x10\x11\xfd\x0fDD\xff\x03"),
    )
    yield "PNG of 1 x 64,000,000", _png(1, 64_000_000)
    yield "PNG of 60,000 x 60,000", _png(60_000, 60_000)
    yield "HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    yield "JPEG XL", b"\xff\x0a" + bytes(99)
    yield "icon", encoded(rgb.resize((32, 32)), "ICO")
    yield "SVG", b"<svg/>"


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def beside(data: bytes) -> tuple[str, str, str]:
    """What is decoded here, what Pillow opens, and the PSNR of one to the other."""
    try:
        ours: np.ndarray | None = decode(data, name="")
        here = "x".join(map(str, ours.shape[1::-1]))
    except BadImage as error:
        ours, here = None, str(error).removeprefix(": ").replace("|", "/")
    # It would allocate a few of these whole.
    if ours is None and "pixels" in here:
        return here, "not asked", ""
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = Image.alpha_composite(
                Image.new("RGBA", image.size, "white"), image.convert("RGBA")
            )
        theirs = np.asarray(image.convert("RGB"))
        there = "x".join(map(str, image.size))
    except Exception as error:
        return here, f"{type(error).__name__}", ""
    if ours is None or ours.shape != theirs.shape:
        return here, there, ""
    squared = float(((ours.astype(float) - theirs) ** 2).mean())
    return here, there, "same" if not squared else f"{10 * math.log10(255**2 / squared):.0f} dB"


def take(name: str, side: int) -> str:
    """A row of the second table, measured in this process."""
    mode, options = LARGE[name]
    kind = name.split()[0]
    image = Image.fromarray(photo(side, side, 4 if "A" in mode else 3)).convert(mode)
    data = encoded(image, {"WebP": "WEBP"}.get(kind, kind), **options)
    del image
    use_image(encoded(Image.new("RGB", (8, 8)), "JPEG"), lambda _: None)
    counted = plan(data, sniff(data) or "", side * side, None).cost
    with BUDGET.hold(LARGE_FROM):
        pass  # Gives back what encoding left.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _status("VmRSS"), time.perf_counter()
    use_image(data, lambda _: None, max_pixels=side * side)
    seconds = time.perf_counter() - started
    taken = _status("VmHWM") - before
    pixels = side * side
    return (
        f"| {name} | {counted / pixels:.1f} | {taken / pixels:.1f} | "
        f"{(_status('VmRSS') - before) / 1e6:.1f} | {seconds:.2f} |"
    )


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=2500)
    parser.add_argument("--take", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take:
        print(take(options.take, options.side))
        return
    warnings.simplefilter("ignore")
    print("| picture | here | Pillow | PSNR |\n|---|---|---|---|")
    for name, data in cases():
        print(f"| {name} | " + " | ".join(beside(data)) + " |")
    print(f"\nOne budget: {BUDGET.total / 1e6:,.0f} MB\n")
    print("| format | bytes a pixel counted | taken | MB kept | seconds |\n|---|---|---|---|---|")
    for name in LARGE:
        command = [sys.executable, __file__, "--take", name, "--side", str(options.side)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
