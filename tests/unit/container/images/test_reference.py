import hashlib

import pytest

from container.images.reference import reference_image


@pytest.mark.parametrize("size", [1, 7, 224])
def test_it_has_the_requested_size(size: int) -> None:
    assert reference_image(size).shape == (size, size, 3)


def test_it_never_changes() -> None:
    """Artifacts contain their models' predictions for it."""
    found = hashlib.sha256(reference_image(224).tobytes()).hexdigest()
    assert found == "009318ae9013bb19fdf2bf20c5b732cedb6f0a9d0cf13e8ad4f140d039ba2cf8"
