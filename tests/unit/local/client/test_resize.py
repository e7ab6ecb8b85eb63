import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from local.client.resize import resize_to_fit
from local.errors import UserError


def noisy(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def test_an_image_that_fits_once_encoded_keeps_its_pixels() -> None:
    data = encoded(noisy(300, 200), "PNG")
    small = resize_to_fit(data, 120_000, "a.png")
    assert len(small) <= 120_000 < len(data)
    with Image.open(io.BytesIO(small)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (300, 200))


@pytest.mark.parametrize("limit", [60_000, 10_000, 3_000])
def test_an_image_is_scaled_until_it_fits(limit: int) -> None:
    small = resize_to_fit(encoded(noisy(600, 400), "PNG"), limit, "a.png")
    assert limit / 3 < len(small) <= limit
    with Image.open(io.BytesIO(small)) as picture:
        width, height = picture.size
        assert width < 600
        assert width / height == pytest.approx(1.5, rel=0.05)


def test_the_orientation_is_kept() -> None:
    picture = Image.new("RGB", (200, 100), "red")
    picture.paste((0, 0, 255), (0, 0, 100, 100))  # blue left, red right
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown rotated clockwise by a quarter turn
    data = encoded(picture, "JPEG", exif=exif.tobytes(), quality=95)
    with Image.open(io.BytesIO(resize_to_fit(data, 50_000, "a.jpg"))) as small:
        assert small.size == (100, 200)
        assert not small.getexif().get(0x0112)
        top, bottom = small.getpixel((50, 20)), small.getpixel((50, 180))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[2] > 200 > bottom[2]
    assert bottom[0] > 200 > top[0]


def test_transparency_becomes_white() -> None:
    data = encoded(Image.new("RGBA", (50, 50), (0, 0, 0, 0)), "PNG")
    with Image.open(io.BytesIO(resize_to_fit(data, 50_000, "a.png"))) as small:
        assert small.getpixel((25, 25)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(noisy(40, 40), "PNG")[:200]])
def test_a_file_that_is_not_a_picture_is_named(data: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.png: cannot shrink it"):
        resize_to_fit(data, 1000, "a.png")


def test_too_small_a_limit_is_reported() -> None:
    with pytest.raises(UserError, match="cannot shrink it to 100 bytes"):
        resize_to_fit(encoded(noisy(100, 100), "PNG"), 100, "a.png")
