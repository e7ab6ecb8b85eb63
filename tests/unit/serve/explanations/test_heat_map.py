import io

import numpy as np
from PIL import Image

from serve.explanations.heat_map import draw, scaled


def test_only_positive_evidence_for_the_class_is_hot() -> None:
    heat = scaled(np.array([[-3.0, 0.5], [2.0, 0.0]]))
    assert heat.dtype == np.float32
    np.testing.assert_array_equal(heat, [[0, 0.25], [1, 0]])
    assert scaled(np.array([[-1.0, -2.0]])).max() == 0


def test_the_heat_map_colours_hot_parts_red() -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    with Image.open(io.BytesIO(draw(image, heat))) as cold:
        assert (cold.format, cold.size, cold.mode) == ("PNG", (60, 40), "RGB")
        np.testing.assert_array_equal(np.asarray(cold), image)
    heat[0, 0] = 1
    with Image.open(io.BytesIO(draw(image.astype(np.float32), heat))) as warm:
        pixels = np.asarray(warm).astype(int)
    assert pixels[2, 2, 0] > pixels[2, 2, 2] + 50
    np.testing.assert_array_equal(pixels[-5:, -5:], 100)
