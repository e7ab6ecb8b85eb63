import pytest

from local.errors import UserError
from local.requests.presets import PRESETS, find_preset
from local.requests.training import TrainingJobRequest, berth_metrics
from local.requests.tuning import Range, Search

RATE = Range("learning_rate", "continuous", "0.001", "0.1", "Logarithmic")
EPOCHS = Range("epochs", "integer", "2", "4")


def batch_sizes(*values: str) -> Range:
    return Range("batch_size", "categorical", values=values)


@pytest.mark.parametrize(
    ("name", "ranges", "fixed", "jobs", "parallel"),
    [
        (
            "resnet50-frozen",
            (RATE, batch_sizes("32", "64", "128"), EPOCHS),
            {"arch": "resnet50", "freeze": "true"},
            10,
            2,
        ),
        (
            "batch-size",
            (RATE, batch_sizes("16", "32", "64", "128", "256", "512")),
            {},
            10,
            2,
        ),
        (
            "momentum-cifar10",
            (RATE, Range("momentum", "continuous", "0.1", "1"), EPOCHS),
            {"arch": "resnet18", "optimizer": "sgd", "weights": "none", "image_size": "32"},
            10,
            2,
        ),
        (
            "adamw",
            (
                Range("learning_rate", "continuous", "0.0001", "0.01", "Logarithmic"),
                Range("eps", "continuous", "1e-09", "1e-07", "Logarithmic"),
                Range("weight_decay", "continuous", "0.001", "0.1", "Logarithmic"),
                batch_sizes("32", "64"),
            ),
            {"optimizer": "adamw"},
            20,
            2,
        ),
    ],
)
def test_the_ranges_of_a_preset(
    name: str, ranges: tuple[Range, ...], fixed: dict[str, str], jobs: int, parallel: int
) -> None:
    preset = find_preset(name)
    assert preset.parsed() == ranges
    assert preset.hyperparameters == fixed
    assert (preset.jobs, preset.parallel) == (jobs, parallel)


@pytest.mark.parametrize("name", PRESETS)
def test_our_image_accepts_every_preset(name: str) -> None:
    preset = find_preset(name)
    job = TrainingJobRequest(
        "berth:latest",
        "role",
        {"train": "s3://b/d/"},
        "s3://b/jobs",
        hyperparameters=preset.hyperparameters,
        metrics=berth_metrics(),
    )
    Search(preset.parsed(), max_jobs=preset.jobs, max_parallel=preset.parallel).check(job)


def test_an_unknown_preset() -> None:
    with pytest.raises(UserError, match="--preset: found 'adam', expected one of resnet50-frozen"):
        find_preset("adam")
