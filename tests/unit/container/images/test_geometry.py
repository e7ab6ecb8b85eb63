from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from container.errors import BadImage
from container.images.decode import decode
from container.images.geometry import Geometry


@pytest.mark.parametrize(
    ("size", "resize"), [(8, 8), (32, 32), (64, 64), (65, 74), (224, 256), (299, 342)]
)
def test_for_size(size: int, resize: int) -> None:
    assert Geometry.for_size(size) == Geometry(resize=resize, crop=size)


@pytest.mark.parametrize(("resize", "crop"), [(10, 11), (10, 0), (0, 0)])
def test_an_impossible_geometry_is_refused(resize: int, crop: int) -> None:
    with pytest.raises(ValueError, match="expected 1 <= crop <= resize"):
        Geometry(resize, crop)


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256), (100, 90), (257, 1000)])
def test_apply_is_resize_then_centre_crop(
    shape: tuple[int, int], picture: Callable[..., Any]
) -> None:
    image = picture(*shape)
    geometry = Geometry(64, 56)
    scale = 64 / min(shape)
    height, width = (round(side * scale) for side in shape)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    top, left = (height - 56) // 2, (width - 56) // 2
    expected = np.asarray(resized)[top : top + 56, left : left + 56]
    assert np.abs(geometry.apply(image).astype(int) - expected).max() <= 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 80), st.integers(0, 30))
def test_apply_gives_the_crop_for_any_shape(
    height: Any, width: Any, crop: Any, margin: Any
) -> None:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    result = Geometry(crop + margin, crop).apply(image)
    assert (result.shape, result.dtype) == ((crop, crop, 3), np.dtype(np.uint8))


def test_a_very_long_picture_is_cropped() -> None:
    image = np.zeros((2, 60_000, 3), dtype=np.uint8)
    assert Geometry(256, 224).apply(image).shape == (224, 224, 3)


def test_a_picture_of_the_right_size_is_unchanged(picture: Callable[..., Any]) -> None:
    image = picture(32, 32)
    assert np.array_equal(Geometry(32, 32).apply(image), image)


def test_load_decodes_reduced_and_applies(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    data = encoded(picture(600, 800))
    geometry = Geometry(64, 56)
    assert np.array_equal(geometry.load(data), geometry.apply(decode(data, at_least=(300, 300))))
    exact = geometry.apply(decode(data)).astype(int)
    assert np.abs(geometry.load(data) - exact).mean() < 1


def test_a_jpeg_gives_nearly_what_the_same_pixels_give_as_png(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    random = np.random.default_rng(0)
    for side, resize in ((300, 64), (600, 64), (800, 32)):
        noise = random.normal(0, 8, (side, side, 3))
        noisy = np.clip(picture(side, side) + noise, 0, 255).astype(np.uint8)
        data = encoded(noisy, quality=90)
        as_png = encoded(decode(data), "PNG", compress_level=1)
        geometry = Geometry(resize, resize)
        difference = geometry.load(data).astype(int) - geometry.load(as_png)
        assert np.abs(difference).mean() < 1.2


def test_load_names_the_image_and_keeps_the_limit(
    picture: Callable[..., Any], encoded: Callable[..., Any]
) -> None:
    with pytest.raises(BadImage, match="^body: found 64 x 48"):
        Geometry(8, 8).load(encoded(picture()), "body", max_pixels=100)


def test_json_round_trip() -> None:
    geometry = Geometry(256, 224, "bicubic")
    assert geometry.to_json() == {"resize": 256, "crop": 224, "interpolation": "bicubic"}
    assert Geometry.from_json(geometry.to_json()) == geometry


def test_json_without_a_filter() -> None:
    assert Geometry.from_json({"resize": 256, "crop": 224}) == Geometry(256, 224, "bilinear")


@pytest.mark.parametrize("filter_", ["nearest", 3, None, ["bicubic"]])
def test_json_of_an_unknown_filter(filter_: object) -> None:
    with pytest.raises(ValueError, match="^geometry interpolation: found .*, expected one of bil"):
        Geometry.from_json({"resize": 256, "crop": 224, "interpolation": filter_})


def test_filters_differ(picture: Callable[..., Any]) -> None:
    image = picture(100, 100)
    results = [Geometry(48, 48, each).apply(image) for each in ("bilinear", "bicubic", "lanczos")]
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])


@pytest.mark.parametrize("value", [{}, {"resize": 256}, {"resize": "256", "crop": 1}])
def test_json_that_is_not_a_geometry(value: dict[str, int | str] | dict[str, int]) -> None:
    with pytest.raises(ValueError, match="^geometry (resize|crop): found .*, expected a whole"):
        Geometry.from_json(value)


def test_json_booleans_are_not_accepted_as_numbers() -> None:
    with pytest.raises(ValueError, match="found True"):
        Geometry.from_json({"resize": True, "crop": 1})
