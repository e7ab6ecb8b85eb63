import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from container.data.decoded import ALIGNMENT, DecodedImages


def image(seed: int, height: int = 5, width: int = 7) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_is_returned() -> None:
    images = DecodedImages(3, 10_000)
    images.put(1, image(1))
    kept = images.get(1)
    assert kept is not None
    assert np.array_equal(kept, image(1))
    assert images.get(0) is images.get(2) is None


def test_too_large_images_are_skipped_and_smaller_ones_kept() -> None:
    images = DecodedImages(3, 2 * ALIGNMENT)
    images.put(0, image(0, 4, 4))
    images.put(1, image(1, 20, 20))
    images.put(2, image(2, 4, 4))
    assert images.get(1) is None
    assert np.array_equal(images.get(0), image(0, 4, 4))  # type: ignore[arg-type]
    assert np.array_equal(images.get(2), image(2, 4, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, 1])
def test_a_limit_of_zero(limit: int) -> None:
    images = DecodedImages(1, limit)
    images.put(0, image(0))
    assert images.get(0) is None


def test_a_forked_process_shares_the_images() -> None:
    images = DecodedImages(2, 10_000)
    images.put(0, image(0))

    def other(images: DecodedImages) -> None:
        kept = images.get(0)
        images.put(1, image(1) if kept is not None else image(2))

    process = multiprocessing.get_context("fork").Process(target=other, args=(images,))
    process.start()
    process.join()
    assert np.array_equal(images.get(1), image(1))  # type: ignore[arg-type]


def test_concurrent_puts_do_not_overlap() -> None:
    count = 200
    images = DecodedImages(count, 1 << 20)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: images.put(n, image(n, 1 + n % 9, 3)), range(count)))
    for number in range(count):
        kept = images.get(number)
        assert kept is not None
        assert np.array_equal(kept, image(number, 1 + number % 9, 3))
