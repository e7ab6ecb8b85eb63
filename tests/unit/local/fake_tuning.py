"""A fake of DescribeHyperParameterTuningJob and of the list of a tuning job's trials."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAME = "search"
METRIC = "validation:accuracy"


def trial(number: int, status: str, objective: float | None, **values: str) -> dict[str, Any]:
    """Return one entry of ListTrainingJobsForHyperParameterTuningJob."""
    entry: dict[str, Any] = {
        "TrainingJobName": f"{NAME}-{number:03}",
        "TrainingJobStatus": status,
        "TunedHyperParameters": values,
        "CreationTime": START,
        "TrainingStartTime": START,
    }
    if status != "InProgress":
        entry["TrainingEndTime"] = START + timedelta(seconds=65)
    if status == "Failed":
        entry["FailureReason"] = "AlgorithmError: <b>no luck</b>\nat all"
    if objective is not None:
        entry["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "MetricName": METRIC,
            "Value": objective,
            "Type": "Maximize",
        }
    return entry


def tuning_job(
    status: str = "Completed", best: dict[str, Any] | None = None, rate: str = "learning_rate"
) -> dict[str, Any]:
    """Return a response of DescribeHyperParameterTuningJob."""
    answer: dict[str, Any] = {
        "HyperParameterTuningJobName": NAME,
        "HyperParameterTuningJobStatus": status,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": METRIC},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {
                        "Name": rate,
                        "MinValue": "0.001",
                        "MaxValue": "0.1",
                        "ScalingType": "Logarithmic",
                    }
                ],
                "IntegerParameterRanges": [
                    {"Name": "epochs", "MinValue": "2", "MaxValue": "4", "ScalingType": "Auto"}
                ],
                "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["32", '"64"']}],
            },
        },
        "TrainingJobDefinition": {"StaticHyperParameters": {"arch": "resnet18"}},
        "TrainingJobStatusCounters": {"Completed": 3, "NonRetryableError": 1, "Stopped": 0},
    }
    if best:
        answer["BestTrainingJob"] = best
    return answer


class FakeTuning:
    """SageMaker with a tuning job that goes through (job, trials) states; the last one remains."""

    def __init__(self, *states: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
        self._states = list(states)
        self.current: dict[str, float] = {}

    def client(self, service: str) -> "FakeTuning":
        assert service == "sagemaker"
        return self

    def describe_hyper_parameter_tuning_job(self, **arguments: str) -> dict[str, Any]:
        assert arguments == {"HyperParameterTuningJobName": NAME}
        if len(self._states) > 1:
            self._states.pop(0)
        return self._states[0][0]

    def describe_training_job(self, *, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803
        value = self.current.get(TrainingJobName)
        metrics = [{"MetricName": "train:loss", "Value": 9.0}]
        if value is not None:
            metrics.append({"MetricName": METRIC, "Value": value})
        return {"FinalMetricDataList": metrics}

    def get_paginator(self, operation: str) -> "FakeTuning":
        assert operation == "list_training_jobs_for_hyper_parameter_tuning_job"
        return self

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        assert arguments["HyperParameterTuningJobName"] == NAME
        for entry in self._states[0][1]:
            yield {"TrainingJobSummaries": [entry]}

    def command(self, *words: str) -> str:
        return " ".join(["berth", *words])
