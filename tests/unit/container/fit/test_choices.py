import pytest

from container.fit.choices import (
    MANY_EPOCHS,
    Choice,
    batch_size_for,
    candidate_sizes,
    ema_for,
    epochs_for,
)


@pytest.mark.parametrize(
    ("own", "side", "sizes"),
    [
        (224, 375, (224,)),
        (224, 150, (224,)),
        (224, 32, (64, 96, 128, 160, 192, 224)),
        (224, 8, (64, 96, 128)),
        (224, 100, (160, 192, 224)),
        (224, 2, (224,)),
        (64, 10, (64,)),
    ],
)
def test_photographs_get_the_networks_size_and_small_images_several(
    own: int, side: int, sizes: tuple[int, ...]
) -> None:
    assert candidate_sizes(own, side) == sizes


def test_as_many_epochs_as_fit_are_planned() -> None:
    assert epochs_for(100, 11) == 9
    assert epochs_for(21, 11) == 1
    assert epochs_for(10, 11) == 0
    assert epochs_for(10_000, 1) == MANY_EPOCHS


def test_small_data_sets_get_small_steps_and_short_averages() -> None:
    assert [batch_size_for(images) for images in (40, 200, 4000)] == [8, 16, 32]
    assert ema_for(20) == 0.9
    assert ema_for(5000) == 0.998


def test_a_choice_gives_its_reason() -> None:
    assert str(Choice("image_size=224", "photographs")) == "chosen: image_size=224, as photographs"
