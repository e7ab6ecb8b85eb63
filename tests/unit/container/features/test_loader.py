"""Features come in the order of the images, one view of each an epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from container.data.index import Index
from container.data.loader import EpochLoader
from container.data.order import EpochOrder
from container.features.extraction import Features
from container.features.loader import FeatureLoader
from container.images.geometry import Geometry


@pytest.fixture
def index(make_folder: Callable[..., Path]) -> Index:
    return Index.from_folder(make_folder({"ants": 9, "bees": 8}, side=(9, 12)))


def views(count: int, images: int = 17) -> list[Features]:
    """Return views in which row i of view v is (i, v)."""
    return [
        Features(
            np.stack([np.arange(images), np.full(images, view)], axis=1).astype(np.float32),
            np.arange(images) % 3,
            None,  # type: ignore[arg-type]
        )
        for view in range(count)
    ]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_features_are_in_the_order_of_the_images(
    index: Index, train: bool, rank: int, world: int
) -> None:
    images = EpochLoader(
        index,
        Geometry.for_size(8),
        batch_size=4,
        seed=5,
        train=train,
        workers=0,
        image_size=8,
        rank=rank,
        world=world,
    )
    pixels = np.stack([Geometry.for_size(8).load(index.read(at)) for at in range(len(index))])
    flat = pixels.transpose(0, 3, 1, 2).reshape(len(index), -1)
    features = [Features(flat, index.labels, None)]  # type: ignore[arg-type]
    loader = FeatureLoader(features, EpochOrder(len(index), 4, 5, train, rank, world))
    assert len(loader) == len(images)
    for epoch in range(2):
        pairs = zip(loader.batches(epoch, start=1), images.batches(epoch, start=1), strict=True)
        for (values, labels), (batch, expected) in pairs:
            assert torch.equal(values, batch.flatten(1).float())
            assert torch.equal(labels, expected)


def used(loader: FeatureLoader, epoch: int) -> dict[int, int]:
    """Return the view of each image in an epoch."""
    return {int(image): int(view) for values, _ in loader.batches(epoch) for image, view in values}


def test_each_epoch_uses_another_view_of_each_image() -> None:
    count = 4
    order = EpochOrder(17, 4, 0, train=False)
    loader = FeatureLoader(views(count), order)
    epochs: Sequence[dict[int, int]] = [used(loader, epoch) for epoch in range(count + 1)]
    for image in range(17):
        assert sorted(epoch[image] for epoch in epochs[:count]) == list(range(count))
    assert epochs[count] == epochs[0]
    assert len(set(epochs[0].values())) > 1, "images do not all begin with the same view"
    assert used(FeatureLoader(views(count), order), 2) == epochs[2]


def test_half_precision_is_converted_to_float32() -> None:
    values = np.arange(8, dtype=np.float16).reshape(4, 2)
    features = Features(values, np.zeros(4, dtype=np.int64), None)  # type: ignore[arg-type]
    ((batch, labels),) = FeatureLoader([features], EpochOrder(4, 8, 0, train=False)).batches(0)
    assert batch.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(batch, torch.from_numpy(values.astype(np.float32)))
