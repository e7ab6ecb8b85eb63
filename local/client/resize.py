"""A picture made small enough to send: the same view, fewer pixels."""

import io
import math
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from local.errors import UserError

QUALITY = 92
"""JPEG quality of what is re-encoded: no difference a classifier sees."""
SMALLEST = 32
"""Pixels of the shorter side below which nothing is made smaller."""

# Large pictures are what this is for; Pillow's error at twice the size stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def shrink(data: bytes, limit: int, name: str) -> bytes:
    """The picture as a JPEG of at most `limit` bytes, upright and on white where transparent.

    First only re-encoded; if that is not enough, scaled down until it fits. The container reads
    orientation and transparency the same way, so the answer is about the same picture.

    Raises:
        UserError: it is no picture, or cannot be made small enough.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = _flat(ImageOps.exif_transpose(opened))
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{name}: cannot be made smaller: {error}") from None
    size = picture.size
    while True:
        encoded = _encode(picture)
        if len(encoded) <= limit:
            return encoded
        # Bytes grow about as the number of pixels; a little less, so that it soon ends.
        scale = 0.95 * math.sqrt(limit / len(encoded))
        size = (int(size[0] * scale), int(size[1] * scale))
        if min(size) < SMALLEST:
            raise UserError(f"{name}: cannot be made smaller than {limit:,} bytes")
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _flat(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        alpha = picture.convert("RGBA")
        white = Image.new("RGBA", alpha.size, "white")
        return Image.alpha_composite(white, alpha).convert("RGB")
    return picture.convert("RGB")


def _encode(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()
