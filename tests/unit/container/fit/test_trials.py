from pathlib import Path

from container.fit.state import TrialResult
from container.fit.trials import promising
from tests.unit.container.fit.planned import planned

SMALL = TrialResult("resnet18", 64, 0.70, 0.002)
MIDDLE = TrialResult("resnet18", 128, 0.80, 0.008)
LARGE = TrialResult("resnet18", 224, 0.85, 0.024)
OTHER = TrialResult("resnet50", 224, 0.90, 0.080)


def test_with_much_time_each_backbones_best_size_is_promising(tmp_path: Path) -> None:
    fit, _ = planned(tmp_path, 3600, [SMALL, MIDDLE, LARGE, OTHER])
    assert promising(fit) == [OTHER, LARGE]


def test_with_little_time_the_best_size_that_fits_is(tmp_path: Path) -> None:
    # 1,200 images take 36 s at 0.024 s each and a quarter more: above 40 % of 60 s.
    fit, _ = planned(tmp_path, 60, [SMALL, MIDDLE, LARGE, OTHER])
    assert promising(fit) == [MIDDLE]


def test_the_cheapest_is_promising_in_any_case(tmp_path: Path) -> None:
    fit, _ = planned(tmp_path, 5, [LARGE, OTHER])
    assert promising(fit) == [LARGE]
