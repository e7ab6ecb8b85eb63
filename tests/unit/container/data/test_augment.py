from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from container.data.augment import PerImage, RandomShift, make_augment, random_flip
from container.errors import DataError


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def batch(count: int = 64, side: int = 32) -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return images, torch.arange(count) % 4


def test_the_augmentation_none_changes_nothing() -> None:
    images, labels = batch()
    out, targets = make_augment("none", 32, 0, 0, 4)(images, labels)
    assert torch.equal(out, images)
    assert torch.equal(targets, labels)


@pytest.mark.parametrize("name", ["standard", "strong"])
@pytest.mark.parametrize("side", [8, 32, 64, 96])
def test_shape_dtype_and_input_are_preserved(name: str, side: int) -> None:
    images, labels = batch(8, side)
    before = images.clone()
    out, targets = make_augment(name, side, 0, 0, 4)(images, labels)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert torch.equal(targets, labels)
    assert not torch.equal(out, images)


def test_flips_are_random_for_each_image() -> None:
    images, _ = batch(200, 8)
    out = random_flip(images)
    flipped = [torch.equal(o, i.flip(-1)) for o, i in zip(out, images, strict=True)]
    kept = [torch.equal(o, i) for o, i in zip(out, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 60 < sum(flipped) < 140


def test_shifts_are_random_crops_of_the_mirror_padded_image() -> None:
    images, _ = batch(300, 8)
    out = RandomShift(1)(images)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    seen = set()
    for image, source in zip(out, padded, strict=True):
        places = [
            (down, across)
            for down in range(3)
            for across in range(3)
            if torch.equal(image, source[:, down : down + 8, across : across + 8])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 9


def test_a_tiny_image_is_shifted_by_less_than_its_width() -> None:
    images, _ = batch(4, 2)
    assert RandomShift(5)(images).shape == images.shape


def test_standard_only_flips_large_images() -> None:
    images, labels = batch(16, 80)
    out, _ = make_augment("standard", 80, 0, 0, 4)(images, labels)
    for image, source in zip(out, images, strict=True):
        assert torch.equal(image, source) or torch.equal(image, source.flip(-1))


def test_strong_is_random_for_each_image() -> None:
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).expand(32, -1, -1, -1)
    strong = make_augment("strong", 96, 0, 0, 4)
    out, _ = strong(images, torch.zeros(32, dtype=torch.int64))
    assert len({tuple(image.flatten().tolist()) for image in out}) > 8


def test_per_image_calls_once_per_image() -> None:
    calls: list[int] = []

    def note(image: torch.Tensor) -> torch.Tensor:
        calls.append(image.ndim)
        return image

    images, _ = batch(3)
    assert torch.equal(PerImage(note)(images), images)
    assert calls == [3, 3, 3]


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0), (0, 1.0), (0.4, 1.0)])
def test_mixes_give_float_images_and_targets(mixup: float, cutmix: float) -> None:
    images, labels = batch(16)
    out, targets = make_augment("none", 32, mixup, cutmix, 4)(images, labels)
    assert (out.dtype, out.shape) == (torch.float32, images.shape)
    assert (targets.dtype, targets.shape) == (torch.float32, (16, 4))
    assert torch.allclose(targets.sum(1), torch.ones(16))
    assert out.min() >= 0
    assert out.max() <= 255
    assert not torch.equal(out, images.float())
    assert ((targets > 0).sum(1) <= 2).all()


def test_mixup_mixes_images_and_targets_in_the_same_proportion() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[1] = 200
    out, targets = make_augment("none", 8, 0.8, 0, 2)(images, torch.tensor([0, 1]))
    assert torch.allclose(out[:, 0, 0, 0], targets[:, 1] * 200, atol=1e-3)


def test_mixup_and_cutmix_alternate() -> None:
    images, labels = batch(4, 16)
    augment = make_augment("none", 16, 1.0, 1.0, 4)
    whole = [bool((augment(images, labels)[0] % 1 == 0).all()) for _ in range(40)]
    assert 5 < sum(whole) < 35


def test_the_same_seed_gives_the_same_batch() -> None:
    images, labels = batch(16)
    augment = make_augment("strong", 32, 0.2, 1.0, 4)
    results = []
    for _ in range(2):
        torch.manual_seed(11)
        results.append(augment(images, labels))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_an_unknown_name() -> None:
    with pytest.raises(DataError, match="augment: found 'heavy', expected one of none, standard"):
        make_augment("heavy", 32, 0, 0, 4)
