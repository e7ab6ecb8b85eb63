"""Tuning jobs with several training job definitions, and the instances of a definition."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulator.tuning.trials import summary
from tests.unit.local.emulator.tuning_harness import METRIC, FakeRun, TuningHarness, tuning_request

Build = Callable[[Callable[[dict[str, str]], FakeRun]], TuningHarness]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Build]:
    with contextlib.ExitStack() as stack:

        def build(script: Callable[[dict[str, str]], FakeRun]) -> TuningHarness:
            return stack.enter_context(contextlib.closing(TuningHarness.build(tmp_path, script)))

        yield build


def several(strategy: str, ranges: dict[str, dict[str, Any]], **rest: Any) -> dict[str, Any]:
    """Return a request with a definition for each of `ranges`, each with its own objective."""
    request = tuning_request(strategy=strategy, **rest)
    single, config = request.pop("TrainingJobDefinition"), request["HyperParameterTuningJobConfig"]
    del config["ParameterRanges"], config["HyperParameterTuningJobObjective"]
    request["TrainingJobDefinitions"] = [
        {
            **single,
            "DefinitionName": name,
            "StaticHyperParameters": {"epochs": "3", "who": name},
            "TuningObjective": {"Type": "Maximize", "MetricName": METRIC},
            "HyperParameterRanges": own,
        }
        for name, own in ranges.items()
    ]
    return request


def whole(name: str, low: int, high: int) -> dict[str, Any]:
    return {"IntegerParameterRanges": [{"Name": name, "MinValue": str(low), "MaxValue": str(high)}]}


def choices(name: str, *values: str) -> dict[str, Any]:
    return {"CategoricalParameterRanges": [{"Name": name, "Values": list(values)}]}


def good(_: dict[str, str]) -> FakeRun:
    return FakeRun([0.1, 0.2, 0.3])


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_definitions_alternate_and_keep_to_their_ranges(harness: Build, strategy: str) -> None:
    def script(hyperparameters: dict[str, str]) -> FakeRun:
        return FakeRun([1.0 if hyperparameters["who"] == "deep" else 0.5])

    made = harness(script)
    ranges = {"deep": whole("layers", 2, 9), "wide": whole("width", 100, 200)}
    made.tuning.create(several(strategy, ranges, jobs=6))
    body = made.ended()
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    who = [request["HyperParameters"]["who"] for request in made.training.requests]
    assert who == ["deep", "wide"] * 3
    for request, trial in zip(made.training.requests, made.trials(), strict=True):
        given = request["HyperParameters"]
        if given["who"] == "deep":
            assert 2 <= int(given["layers"]) <= 9
            assert "width" not in given
        else:
            assert 100 <= int(given["width"]) <= 200
            assert "layers" not in given
        assert summary(trial)["TrainingJobDefinitionName"] == given["who"]
    assert body["BestTrainingJob"]["TrainingJobDefinitionName"] == "deep"
    assert [each["DefinitionName"] for each in body["TrainingJobDefinitions"]] == ["deep", "wide"]


def test_grids_of_several_definitions_are_all_covered(harness: Build) -> None:
    made = harness(good)
    ranges = {"one": choices("a", "1", "2", "3"), "two": choices("b", "x")}
    made.tuning.create(several("Grid", ranges, jobs=None))
    made.ended()
    assert sorted(map(str, made.tuned())) == [
        "{'a': '1'}",
        "{'a': '2'}",
        "{'a': '3'}",
        "{'b': 'x'}",
    ]


def test_early_stopping_compares_within_a_definition(harness: Build) -> None:
    def script(hyperparameters: dict[str, str]) -> FakeRun:
        return FakeRun([0.9] * 3 if hyperparameters["who"] == "high" else [0.1] * 3)

    made = harness(script)
    ranges = {"high": whole("a", 1, 9), "low": whole("b", 1, 9)}
    config = {"TrainingJobEarlyStoppingType": "Auto"}
    made.tuning.create(several("Random", ranges, jobs=10, config=config))
    made.ended()
    assert Counter(each.body["TrainingJobStatus"] for each in made.trials()) == {"Completed": 10}


def test_a_job_continues_with_its_definitions_after_a_restart(
    harness: Build, tmp_path: Path
) -> None:
    made = harness(good)
    ranges = {"deep": whole("layers", 2, 9), "wide": whole("width", 100, 200)}
    made.training.gate.clear()
    made.tuning.create(several("Random", ranges, jobs=4))
    made.wait(lambda: len(made.trials()) == 1)
    made.close()
    again = harness(good)
    again.training.recover()
    again.tuning.recover()
    again.ended()
    names = [summary(each)["TrainingJobDefinitionName"] for each in again.trials()]
    assert names == ["deep", "wide"] * 2


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (
            {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 7},
            {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 7},
        ),
        (
            {
                "InstanceConfigs": [
                    {"InstanceType": "ml.g5.xlarge", "InstanceCount": 8, "VolumeSizeInGB": 5},
                    {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 6},
                ],
                "AllocationStrategy": "Prioritized",
                "VolumeKmsKeyId": "key",
            },
            {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 6,
                "VolumeKmsKeyId": "key",
            },
        ),
    ],
)
def test_trials_use_the_instances_of_the_tuning_job(
    harness: Build, own: dict[str, Any], expected: dict[str, Any]
) -> None:
    made = harness(good)
    request = tuning_request(jobs=1, definition={"HyperParameterTuningResourceConfig": own})
    del request["TrainingJobDefinition"]["ResourceConfig"]
    made.tuning.create(request)
    assert made.ended()["HyperParameterTuningJobStatus"] == "Completed"
    assert [each["ResourceConfig"] for each in made.training.requests] == [expected]


def test_a_trial_without_the_objective_reports_that(harness: Build) -> None:
    acts = [FakeRun([]), FakeRun([0.5])]
    made = harness(lambda _: acts.pop(0))
    made.tuning.create(tuning_request(jobs=2))
    assert made.ended()["HyperParameterTuningJobStatus"] == "Completed"
    without, with_one = (summary(each) for each in made.trials())
    assert without["ObjectiveStatus"] == "Failed"
    assert without["FailureReason"].startswith("No objective metric found: no line of the log")
    assert "FailureReason" not in with_one
