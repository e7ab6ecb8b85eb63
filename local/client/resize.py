"""An image made small enough to send: the same view, fewer pixels."""

import io
import math
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from local.errors import UserError

QUALITY = 92
"""JPEG quality of what is re-encoded: no difference a classifier sees."""
SMALLEST = 32
"""Pixels of the shorter side below which nothing is made smaller."""

# Large images are what this is for; Pillow's error at twice the size stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def resize_to_fit(data: bytes, limit: int, name: str) -> bytes:
    """The image as a JPEG of at most `limit` bytes, upright and on white where transparent.

    First only re-encoded; if that is not enough, scaled down until it fits. The container reads
    orientation and transparency the same way, so the answer is about the same image.

    Raises:
        UserError: it is no image, or cannot be made small enough.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = _flat(ImageOps.exif_transpose(opened))
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{name}: cannot be made smaller: {error}") from None
    size = image.size
    while True:
        encoded = _encode(image)
        if len(encoded) <= limit:
            return encoded
        # Bytes grow about as the number of pixels; a little less, so that it soon ends.
        scale = 0.95 * math.sqrt(limit / len(encoded))
        size = (int(size[0] * scale), int(size[1] * scale))
        if min(size) < SMALLEST:
            raise UserError(f"{name}: cannot be made smaller than {limit:,} bytes")
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _flat(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = image.convert("RGBA")
        white = Image.new("RGBA", alpha.size, "white")
        return Image.alpha_composite(white, alpha).convert("RGB")
    return image.convert("RGB")


def _encode(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()
