import contextlib
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import validate_parameters

from local.emulator.errors import ServiceError, invalid
from local.emulator.store import Exists, Kind
from local.emulator.tuning import search
from local.emulator.tuning.ranges import Space
from local.emulator.tuning.search import Direction, Known
from tests.unit.local.emulator.tuning_harness import METRIC, FakeRun, TuningHarness, tuning_request

Build = Callable[[Callable[[dict[str, str]], FakeRun]], TuningHarness]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    monkeypatch.setattr("local.emulator.tuning.run.available_cpus", lambda: 8)
    with contextlib.ExitStack() as stack:

        def build(script: Callable[[dict[str, str]], FakeRun]) -> TuningHarness:
            return stack.enter_context(contextlib.closing(TuningHarness.build(tmp_path, script)))

        yield build


def score(hyperparameters: dict[str, str]) -> float:
    """Return an objective with its maximum of 1 at a rate of 0.01."""
    return 1 - abs(math.log10(float(hyperparameters["rate"])) + 2) / 4


def learns(hyperparameters: dict[str, str]) -> FakeRun:
    final = score(hyperparameters)
    return FakeRun([final - 0.2, final - 0.1, final])


def by_number(*acts: FakeRun) -> Callable[[dict[str, str]], FakeRun]:
    """Run successive trials with these scripts."""
    left = list(acts)
    return lambda _: left.pop(0)


def counters(body: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {k: n for k, n in body["TrainingJobStatusCounters"].items() if n}
    return found


def valid(body: dict[str, Any]) -> None:
    """Check Describe's response against botocore's model."""
    shape = (
        get_session()
        .get_service_model("sagemaker")
        .shape_for("DescribeHyperParameterTuningJobResponse")
    )
    validate_parameters(body, shape)
    assert body.keys() <= shape.members.keys()


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_a_tuning_job_runs_its_trials_and_shows_the_best(harness: Build, strategy: str) -> None:
    here = harness(learns)
    record = here.tuning.create(
        tuning_request(strategy=strategy, jobs=5, parallel=2, Tags=[{"Key": "a", "Value": "b"}])
    )
    assert record.body["HyperParameterTuningJobStatus"] == "InProgress"
    assert here.context.store.tags(record.arn) == {"a": "b"}
    body = here.ended()
    valid(body)
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert counters(body) == {"Completed": 5}
    assert body["ObjectiveStatusCounters"] == {"Succeeded": 5, "Pending": 0, "Failed": 0}
    assert "FailureReason" not in body
    best = body["BestTrainingJob"]
    scores = {job.name: score(job.body["HyperParameters"]) for job in here.trials()}
    assert best["TrainingJobName"] == max(scores, key=lambda name: scores[name])
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {
        "Type": "Maximize",
        "MetricName": METRIC,
        "Value": max(scores.values()),
    }
    assert best["ObjectiveStatus"] == "Succeeded"
    assert here.training.peak <= 2
    assert set(here.training.cpus) == {4}
    assert [job.name.rsplit("-", 1)[0] for job in here.trials()] == [
        f"job-{number:03d}" for number in range(1, 6)
    ]
    assert {job.body["TuningJobArn"] for job in here.trials()} == {record.arn}


def test_minimize_chooses_the_lowest(harness: Build) -> None:
    here = harness(by_number(FakeRun([0.5, 0.4]), FakeRun([0.9, 0.1]), FakeRun([0.0, 0.3])))
    here.tuning.create(tuning_request(jobs=3, direction="Minimize"))
    best = here.ended()["BestTrainingJob"]
    assert best["TrainingJobName"] == here.trials()[1].name
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.1


@pytest.mark.parametrize("parallel", [1, 2, 4])
def test_random_trials_depend_on_the_seed_and_not_on_timing(harness: Build, parallel: int) -> None:
    here = harness(learns)
    for name, jobs_at_once in (("one", 1), ("more", parallel)):
        here.tuning.create(tuning_request(name, jobs=4, parallel=jobs_at_once))
        here.ended(name)
    here.tuning.create(tuning_request("other", jobs=4, seed=8))
    here.ended("other")
    assert here.tuned("one") == here.tuned("more")
    assert here.tuned("one") != here.tuned("other")


def test_a_seed_repeats_a_bayesian_job(harness: Build) -> None:
    here = harness(learns)
    for name in ("one", "two"):
        here.tuning.create(tuning_request(name, strategy="Bayesian", jobs=7))
        here.ended(name)
    assert here.tuned("one") == here.tuned("two")


def test_without_a_seed_jobs_differ(harness: Build) -> None:
    here = harness(learns)
    for name in ("one", "two"):
        here.tuning.create(tuning_request(name, jobs=2, seed=None))
        here.ended(name)
    assert here.tuned("one") != here.tuned("two")


@pytest.mark.parametrize("jobs", [None, 6])
def test_a_grid_is_covered_exactly(harness: Build, jobs: int | None) -> None:
    ranges = {
        "CategoricalParameterRanges": [
            {"Name": "rate", "Values": ["0.1", "0.01", "0.001"]},
            {"Name": "optimizer", "Values": ['"sgd"', '"adam"']},
        ]
    }
    here = harness(learns)
    here.tuning.create(tuning_request(strategy="Grid", jobs=jobs, parallel=2, ranges=ranges))
    body = here.ended()
    assert counters(body) == {"Completed": 6}
    assert [(each["rate"], each["optimizer"]) for each in here.tuned()] == [
        (rate, name) for rate in ("0.1", "0.01", "0.001") for name in ('"sgd"', '"adam"')
    ]
    assert body["BestTrainingJob"]["TunedHyperParameters"]["rate"] == "0.01"


def test_a_failed_trial_counts_and_the_others_continue(harness: Build) -> None:
    here = harness(
        by_number(
            FakeRun([0.9], "Failed", "AlgorithmError: exit code 1"),
            FakeRun([0.5]),
            FakeRun([], "Failed", "InternalServerError: the engine is gone"),
            FakeRun([]),
        )
    )
    here.tuning.create(tuning_request(jobs=4))
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert counters(body) == {"Completed": 2, "NonRetryableError": 1, "RetryableError": 1}
    assert body["ObjectiveStatusCounters"] == {"Succeeded": 1, "Pending": 0, "Failed": 3}
    assert body["BestTrainingJob"]["TrainingJobName"] == here.trials()[1].name
    statuses = [job.private["tuning"]["ObjectiveStatus"] for job in here.trials()]
    assert statuses == ["Failed", "Succeeded", "Failed", "Failed"]


def test_five_failures_and_no_success_end_the_tuning_job(harness: Build) -> None:
    here = harness(lambda _: FakeRun([0.5], "Failed", "AlgorithmError: no such file"))
    here.tuning.create(tuning_request(jobs=20))
    body = here.ended()
    valid(body)
    assert body["HyperParameterTuningJobStatus"] == "Failed"
    assert body["FailureReason"].startswith("No training job succeeded after 5 attempts.")
    assert body["FailureReason"].endswith("AlgorithmError: no such file")
    assert len(here.trials()) == 5
    assert "BestTrainingJob" not in body


def test_a_missing_metric_fails_with_the_last_log_lines(harness: Build) -> None:
    here = harness(lambda _: FakeRun([]))
    here.tuning.create(tuning_request(jobs=3))
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Failed"
    reason = body["FailureReason"]
    assert "No objective metrics found after running 3 training jobs" in reason
    assert METRIC in reason
    assert "toy:score=([0-9.]+);" in reason
    assert reason.endswith(f"line 7 of {here.trials()[-1].name}")
    assert len(reason) <= 1024
    assert body["ObjectiveStatusCounters"]["Failed"] == 3


def test_a_trial_whose_objective_ends_as_nan_is_never_the_best(harness: Build) -> None:
    here = harness(by_number(FakeRun([0.9, math.nan]), FakeRun([0.1])))
    here.tuning.create(tuning_request(jobs=2))
    body = here.ended()
    assert body["BestTrainingJob"]["TrainingJobName"] == here.trials()[1].name
    lost = harness(lambda _: FakeRun([math.nan]))
    lost.tuning.create(tuning_request("lost", jobs=2))
    assert "not a finite number: nan, nan" in lost.ended("lost")["FailureReason"]


def test_a_refused_training_job_fails_the_tuning_job(harness: Build) -> None:
    here = harness(learns)
    here.training.refusal = invalid("Cannot find the image toy:latest.")
    here.tuning.create(tuning_request())
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Failed"
    assert "Cannot find the image toy:latest." in body["FailureReason"]
    assert counters(body) == {}


def test_a_name_already_used_is_refused(harness: Build) -> None:
    here = harness(learns)
    here.tuning.create(tuning_request())
    with pytest.raises(Exists):
        here.tuning.create(tuning_request())


@pytest.mark.parametrize(
    ("criteria", "scores", "ran"),
    [
        ({"TargetObjectiveMetricValue": 0.8}, [0.1, 0.8, 0.9, 0.9], 2),
        (
            {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}},
            [0.1, 0.5, 0.502, 0.504, 0.2, 0.9],
            5,
        ),
        (
            {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}},
            [0.1, 0.5] + [0.5] * 20,
            12,
        ),
        ({"ConvergenceDetected": {"CompleteOnConvergence": "Disabled"}}, [0.5] * 14, 14),
    ],
)
def test_completion_criteria(
    harness: Build, criteria: dict[str, Any], scores: list[float], ran: int
) -> None:
    here = harness(by_number(*(FakeRun([value]) for value in scores)))
    here.tuning.create(
        tuning_request(jobs=len(scores), config={"TuningJobCompletionCriteria": criteria})
    )
    body = here.ended()
    valid(body)
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert len(here.trials()) == ran
    details = body["TuningJobCompletionDetails"]
    assert ("ConvergenceDetectedTime" in details) is ("ConvergenceDetected" in criteria)


def test_reaching_the_target_stops_running_trials(harness: Build) -> None:
    here = harness(lambda each: FakeRun([0.9] if float(each["rate"]) > 0.01 else [0.1] * 10_000))
    here.training.pace = 0.005
    here.tuning.create(
        tuning_request(
            jobs=20,
            parallel=4,
            config={"TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 0.9}},
        )
    )
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert body["TrainingJobStatusCounters"]["InProgress"] == 0
    assert not here.training.running()
    assert len(here.trials()) < 20


def test_early_stopping_stops_trials_below_the_median(harness: Build) -> None:
    def script(hyperparameters: dict[str, str]) -> FakeRun:
        good = next(scripted)
        return FakeRun([0.5, 0.6, 0.7]) if good else FakeRun([0.1] * 500)

    scripted = iter([True, True, True, False, True, False])
    here = harness(script)
    here.training.pace = 0.005
    here.tuning.create(tuning_request(jobs=6, config={"TrainingJobEarlyStoppingType": "Auto"}))
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert counters(body) == {"Completed": 4, "Stopped": 2}
    assert body["ObjectiveStatusCounters"]["Succeeded"] == 6
    statuses = [job.body["TrainingJobStatus"] for job in here.trials()]
    assert [number for number, each in enumerate(statuses) if each == "Stopped"] == [3, 5]


def test_hyperband_stops_worse_trials_at_rungs_and_all_at_the_end(harness: Build) -> None:
    def script(hyperparameters: dict[str, str]) -> FakeRun:
        final = score(hyperparameters)
        return FakeRun([final] * 60)

    here = harness(script)
    here.training.pace = 0.01
    here.tuning.create(
        tuning_request(
            strategy="Hyperband",
            jobs=9,
            parallel=3,
            config={
                "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 2, "MaxResource": 18}}
            },
        )
    )
    body = here.ended()
    assert body["HyperParameterTuningJobStatus"] == "Completed"
    assert counters(body) == {"Stopped": 9}
    record = here.context.store.get(Kind.TUNING_JOB, "job")
    reasons = [each["stopped_by"] for each in record.private["trials"]]
    lengths = [len(each["reports"]) for each in record.private["trials"]]
    assert set(reasons) == {"bracket", "resource"}
    assert all(
        (18 if reason == "resource" else 2) <= length < 60
        for reason, length in zip(reasons, lengths, strict=True)
    )
    assert body["BestTrainingJob"]["TrainingJobStatus"] == "Stopped"


def test_stop(harness: Build) -> None:
    here = harness(learns)
    here.training.gate.clear()
    here.tuning.create(tuning_request(jobs=10, parallel=3))
    here.wait(lambda: len(here.trials()) == 3)
    here.tuning.stop("job")
    assert here.job()["HyperParameterTuningJobStatus"] in ("Stopping", "Stopped")
    here.wait(lambda: len(here.training.stopped) == 3)
    here.training.gate.set()
    body = here.ended()
    valid(body)
    assert body["HyperParameterTuningJobStatus"] == "Stopped"
    assert counters(body) == {"Stopped": 3}
    assert "FailureReason" not in body
    assert "HyperParameterTuningEndTime" in body
    with pytest.raises(ServiceError, match="in status Stopped"):
        here.tuning.stop("job")
    with pytest.raises(ServiceError) as caught:
        here.tuning.stop("nobody")
    assert caught.value.code == "ResourceNotFound"


def parent_of(here: TuningHarness, name: str = "parent", **changes: Any) -> dict[str, Any]:
    here.tuning.create(tuning_request(name, jobs=6, seed=3, **changes))
    return here.ended(name)


def warm(kind: str, *parents: str) -> dict[str, Any]:
    return {
        "WarmStartConfig": {
            "ParentHyperParameterTuningJobs": [
                {"HyperParameterTuningJobName": each} for each in parents
            ],
            "WarmStartType": kind,
        }
    }


@pytest.mark.parametrize("kind", ["IdenticalDataAndAlgorithm", "TransferLearning"])
def test_warm_start_reuses_matching_trials(harness: Build, kind: str) -> None:
    here = harness(learns)
    parent = parent_of(here)
    narrow = {
        "ContinuousParameterRanges": [
            {"Name": "rate", "MinValue": "0.002", "MaxValue": "0.5", "ScalingType": "Logarithmic"}
        ]
    }
    for name, more in (("cold", {}), ("warm", warm(kind, "parent"))):
        request = tuning_request(name, strategy="Bayesian", jobs=2, ranges=narrow, **more)
        here.tuning.create(request)
        valid(here.ended(name))
    inherited = here.context.store.get(Kind.TUNING_JOB, "warm").private["inherited"]
    fits = [each for each in here.tuned("parent") if 0.002 <= float(each["rate"]) <= 0.5]
    assert 0 < len(fits) < 6
    assert [each["values"]["rate"] for each in inherited] == [float(each["rate"]) for each in fits]
    objectives = [each["objective"] for each in inherited]
    if kind == "TransferLearning":
        assert math.isclose(sum(objectives), 0, abs_tol=1e-9)
        assert math.isclose(statistics.pstdev(objectives), 1)
    else:
        assert objectives == [score(each) for each in fits]
    assert here.tuned("cold") != here.tuned("warm")
    body = here.job("warm")
    assert ("OverallBestTrainingJob" in body) is (kind == "IdenticalDataAndAlgorithm")
    if kind == "IdenticalDataAndAlgorithm":
        overall = body["OverallBestTrainingJob"]
        both = [parent["BestTrainingJob"], body["BestTrainingJob"]]
        values = [each["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for each in both]
        assert overall["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == max(values)
        assert overall["TuningJobName"] == ("parent", "warm")[values.index(max(values))]


def test_after_a_transfer_objectives_are_standardized_within_each_job(
    harness: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[float | None]] = []
    propose = search.bayesian

    def watch(
        space: Space, direction: Direction, seed: int, number: int, known: list[Known]
    ) -> Any:
        shown.append([each.objective for each in known])
        return propose(space, direction, seed, number, known)

    here = harness(learns)
    parent_of(here)
    monkeypatch.setattr(search, "bayesian", watch)
    more = warm("TransferLearning", "parent")
    here.tuning.create(tuning_request("warm", strategy="Bayesian", jobs=3, **more))
    here.ended("warm")
    assert [len(each) for each in shown] == [6, 7, 8]
    assert shown[1][6] == 0
    assert sorted(map(abs, filter(None, shown[2][6:]))) == pytest.approx([1, 1])


def test_a_static_hyperparameter_of_a_parent_may_be_tuned(harness: Build) -> None:
    here = harness(learns)
    parent_of(here)
    ranges = {
        "ContinuousParameterRanges": [
            {"Name": "rate", "MinValue": "0.0001", "MaxValue": "1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [{"Name": "epochs", "MinValue": "1", "MaxValue": "5"}],
    }
    here.tuning.create(
        tuning_request(
            "warm",
            strategy="Bayesian",
            jobs=1,
            ranges=ranges,
            definition={"StaticHyperParameters": {}},
            **warm("IdenticalDataAndAlgorithm", "parent"),
        )
    )
    here.ended("warm")
    inherited = here.context.store.get(Kind.TUNING_JOB, "warm").private["inherited"]
    assert [each["values"]["epochs"] for each in inherited] == [3] * 6
