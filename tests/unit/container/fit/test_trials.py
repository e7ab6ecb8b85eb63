from pathlib import Path
from typing import Any

import pytest

from container.errors import TrainingError
from container.fit import trials
from container.fit.state import FitState, TrialResult
from container.fit.trials import promising, try_backbones
from tests.unit.container.fit.planned import planned

SMALL = TrialResult("resnet18", 64, 0.70, 0.002)
MIDDLE = TrialResult("resnet18", 128, 0.80, 0.008)
LARGE = TrialResult("resnet18", 224, 0.85, 0.024)
OTHER = TrialResult("resnet50", 224, 0.90, 0.080)


def test_with_much_time_each_backbones_best_size_is_promising(tmp_path: Path) -> None:
    fit, _ = planned(tmp_path, 3600, [SMALL, MIDDLE, LARGE, OTHER])
    assert promising(fit) == [OTHER, LARGE]


def test_with_little_time_the_best_size_that_fits_is_promising(tmp_path: Path) -> None:
    # 1,200 images take 36 s at 0.024 s each and a quarter more: above 40 % of 60 s.
    fit, _ = planned(tmp_path, 60, [SMALL, MIDDLE, LARGE, OTHER])
    assert promising(fit) == [MIDDLE]


def test_the_cheapest_size_is_always_promising(tmp_path: Path) -> None:
    fit, _ = planned(tmp_path, 5, [LARGE, OTHER])
    assert promising(fit) == [LARGE]


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that tries one backbone of 224 px, given its seconds per image of that size.

    It returns the sizes that were tried and the context.
    """

    def run(
        seconds: float, an_image: float, *, side: int, gone: float = 0.0, images: int = 1000
    ) -> Any:
        fit, clock = planned(tmp_path, seconds, [], images)
        clock.now += gone
        fit.__dict__["side"] = side

        def attempt(_fit: Any, arch: str, size: int, some: Any, _held: Any) -> bool:
            cost = an_image * (size / 224) ** 2
            clock.now += cost * len(some)
            fit.state.trials.append(TrialResult(arch, size, size / 1000, cost))
            return True

        monkeypatch.setattr(trials, "_try", attempt)
        monkeypatch.setattr(trials, "find_backbones", lambda *_given: (["resnet18"], "so"))
        monkeypatch.setattr(trials, "own_size", lambda *_given: 224)
        try_backbones(fit)
        return [each.image_size for each in fit.state.trials], fit

    return run


def test_photographs_are_tried_at_the_size_of_the_weights(tried: Any) -> None:
    # Of 1,000 training images 64 tell the speed, as there is nothing to compare.
    sizes, fit = tried(600, 0.02, side=500)
    assert sizes == [224]
    assert fit.budget.elapsed == pytest.approx(0.02 * 64)


def test_small_images_are_tried_at_all_sizes_that_fit_the_time(tried: Any) -> None:
    sizes, _ = tried(3600, 0.02, side=32)
    assert sizes == [64, 96, 128, 160, 192, 224]


def test_trials_get_their_share_of_the_remaining_time(tried: Any) -> None:
    sizes, _ = tried(600, 0.03, side=32, gone=200)
    assert len(sizes) > 2


def test_a_size_whose_features_take_too_long_is_not_tried(tried: Any) -> None:
    # At 224 px 1,200 images take 300 s with a quarter more; 240 are 40 % of the time.
    sizes, _ = tried(600, 0.2, side=32)
    assert sizes
    assert max(sizes) < 224


def test_with_little_time_photographs_are_tried_at_a_smaller_size(tried: Any) -> None:
    sizes, fit = tried(300, 0.2, side=500)
    assert sizes == [224, 192]
    assert promising(fit)[0].image_size == 192
    assert fit.state.choices[-1].what == "image size 192"


def test_features_of_the_speed_trial_are_not_computed_again(tried: Any) -> None:
    # 300 training images take 120 s, 60 others 30 with a quarter more.
    sizes, _ = tried(200, 0.4, side=500, images=300)
    assert sizes == [224]


def test_if_the_smallest_size_takes_too_long_fewer_images_are_used(tried: Any) -> None:
    # At 64 px an image takes 0.15 s: 1,200 take 220 s with a quarter more; 184 s are left.
    sizes, fit = tried(300, 1.8, side=500)
    assert sizes == [224, 64]
    train, validation = fit.data.splits.train, fit.data.splits.validation
    assert [len(train), len(validation)] == pytest.approx(fit.state.fewer, abs=2)
    assert 500 < len(train) < 1000
    assert min(train.counts()) >= 4
    assert "training images" in fit.state.choices[-1].what


def test_an_interrupted_job_resumes_with_the_same_images(tried: Any, tmp_path: Path) -> None:
    _, fit = tried(300, 1.8, side=500)
    fit.save()
    again, _ = planned(tmp_path, 300, [])
    again.state = FitState.load(again.checkpoints)
    again.use_fewer()
    assert again.data.splits.train.paths == fit.data.splits.train.paths
    assert again.data.splits.validation.paths == fit.data.splits.validation.paths


def test_too_little_time_for_the_smallest_size_is_an_error(tried: Any) -> None:
    with pytest.raises(TrainingError, match=r"found 1, too few for one pass over 1,200 images"):
        tried(60, 2, side=500)
