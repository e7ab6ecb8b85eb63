"""Shrinking of images that are too large for a request."""

import io
import math
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from local.errors import UserError

QUALITY = 92
"""JPEG quality, high enough not to affect a classifier."""
SMALLEST = 32
"""Smallest length of the shorter side, in pixels."""

# Large images are expected here; Pillow's error at twice the warning's size stays.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def resize_to_fit(data: bytes, limit: int, name: str) -> bytes:
    """The image as a JPEG of at most `limit` bytes, upright, on a white background.

    It is re-encoded and, if that is not enough, scaled down until it fits. Orientation and
    transparency are handled as in the container, so that the prediction is for the same view.

    Raises:
        UserError: it is not an image, or cannot be shrunk enough.
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
        raise UserError(f"{name}: cannot shrink it: {error}") from None
    size = image.size
    while True:
        encoded = _encode(image)
        if len(encoded) <= limit:
            return encoded
        # Size is about proportional to the number of pixels; 5 % less avoids many rounds.
        scale = 0.95 * math.sqrt(limit / len(encoded))
        size = (int(size[0] * scale), int(size[1] * scale))
        if min(size) < SMALLEST:
            raise UserError(f"{name}: cannot shrink it to {limit:,} bytes")
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
