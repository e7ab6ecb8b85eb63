from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from container.data.crop import AREA, RATIO, RandomCrop, _part, resize_by_pillow, resize_by_torch
from container.errors import BadImage
from container.images.geometry import Interpolation


def generator(seed: int = 0) -> Any:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(100, 100), (375, 500), (500, 120), (90, 1000), (1, 1)])
def test_crops_respect_area_and_ratio(size: tuple[int, int]) -> None:
    random = generator()
    for _ in range(200):
        top, left, height, width = _part(size, random.random((10, 2)), random.random(2))
        assert top >= 0
        assert left >= 0
        assert top + height <= size[0] + 1e-6
        assert left + width <= size[1] + 1e-6
        assert RATIO[0] - 1e-6 <= width / height <= RATIO[1] + 1e-6
        if size == (100, 100):
            assert AREA[0] - 1e-6 <= width * height / 10_000 <= AREA[1] + 1e-6


def test_a_strip_too_long_for_any_ratio_gives_its_full_height() -> None:
    _, _, height, width = _part((10, 1000), np.ones((10, 2)), np.zeros(2))
    assert (height, round(width, 6)) == (10, round(10 * RATIO[1], 6))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_load_resizes_the_crop(
    kind: str, picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    data = encoded(picture(200, 300), kind)
    random = generator(4)
    top, left, height, width = _part((200, 300), random.random((10, 2)), random.random(2))
    box = (left, top, left + width, top + height)
    expected = Image.fromarray(picture(200, 300)).resize(
        (72, 72), Image.Resampling.BILINEAR, box=box
    )
    pixels = RandomCrop(72).load(data, "x", generator(4))
    assert (pixels.shape, pixels.dtype) == ((72, 72, 3), np.dtype(np.uint8))
    assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() < 3


def test_a_large_jpeg_decoded_at_reduced_size_gives_the_same_crop(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    large = picture(900, 1200)
    reduced = RandomCrop(72).load(encoded(large, quality=95), "x", generator(2)).astype(int)
    whole = RandomCrop(72).load(encoded(large, "PNG"), "x", generator(2))
    assert np.abs(reduced - whole).mean() < 3


def test_a_sideways_jpeg_gives_the_crop_of_the_upright_picture(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = encoded(np.rot90(picture(400, 900), 1), exif=exif.tobytes(), quality=95)
    upright = encoded(picture(400, 900), quality=95)
    one = RandomCrop(72).load(sideways, "x", generator(3)).astype(int)
    assert np.abs(one - RandomCrop(72).load(upright, "x", generator(3))).mean() < 3


def test_crops_depend_only_on_the_generator(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    data = encoded(picture(100, 120))
    crop = RandomCrop(80)
    one, again, other = (crop.load(data, "x", generator(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_small_pictures_are_enlarged(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    assert RandomCrop(96).load(encoded(picture(10, 12)), "x", generator()).shape == (96, 96, 3)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 400), (41, 500), (3, 2), (1, 1), (1200, 900)])
def test_pillow_and_torch_resize_crops_alike(
    size: tuple[int, int], interpolation: Interpolation, picture: Callable[..., Any]
) -> None:
    part = picture(size[0] + 20, size[1] + 30).copy()[7 : size[0] + 7, 11 : size[1] + 11]
    one = resize_by_torch(part, 96, interpolation)
    other = resize_by_pillow(part, 96, interpolation)
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    error = np.square(one.astype(float) - other).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 45


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (900, 2)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_every_filter_crops_images_of_any_shape(
    size: tuple[int, int],
    interpolation: Interpolation,
    picture: Callable[..., Any],
    encoded: Callable[..., Any],
) -> None:
    crop = RandomCrop(96, interpolation)
    data = encoded(picture(*size), "PNG")
    for seed in range(5):
        assert crop.load(data, "x", generator(seed)).shape == (96, 96, 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"GIF89a"])
def test_bad_images_are_named(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"^bad\.jpg: "):
        RandomCrop(96).load(data, "bad.jpg", generator())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_a_cached_image_gives_the_same_pixels(
    kind: str, picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    data = encoded(picture(200, 300), kind)
    crop = RandomCrop(72)
    kept: list[Any] = []
    for seed in range(5):
        loaded = crop.load(data, "x", generator(seed), kept.append)
        assert np.array_equal(crop.crop(kept[-1], generator(seed)), loaded)
    assert kept[0].shape == (200, 300, 3)


def test_an_image_whose_crops_need_different_scales_is_not_cached(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    kept: list[Any] = []
    for seed in range(5):
        RandomCrop(16).load(encoded(picture(200, 300)), "x", generator(seed), kept.append)
    assert kept == []
