from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.services import Services
from local.emulator.store import Kind, Record

NOW = datetime(2025, 1, 1, tzinfo=UTC)

LISTS = {
    "list_training_jobs": (Kind.TRAINING_JOB, "TrainingJob", "TrainingJobSummaries"),
    "list_hyper_parameter_tuning_jobs": (
        Kind.TUNING_JOB,
        "HyperParameterTuningJob",
        "HyperParameterTuningJobSummaries",
    ),
    "list_transform_jobs": (Kind.TRANSFORM_JOB, "TransformJob", "TransformJobSummaries"),
    "list_models": (Kind.MODEL, "Model", "Models"),
    "list_endpoint_configs": (Kind.ENDPOINT_CONFIG, "EndpointConfig", "EndpointConfigs"),
    "list_endpoints": (Kind.ENDPOINT, "Endpoint", "Endpoints"),
}
STATUSES = {Kind.ENDPOINT: ("InService", "Creating", "Failed")}
WITHOUT_STATUS = ("list_models", "list_endpoint_configs")
OLDEST_FIRST = ("list_training_jobs",)

Fill = Callable[[str], Callable[..., list[str]]]


@pytest.fixture
def fill(client: Any, context: Context) -> Fill:
    """Create three resources, b the oldest; return a function that lists their names."""

    def make(method: str) -> Callable[..., list[str]]:
        kind, prefix, items = LISTS[method]
        statuses = STATUSES.get(kind, ("Completed", "Failed", "InProgress"))
        for hour, (name, status) in enumerate(zip(("b-1", "c-2", "a-2"), statuses, strict=True)):
            body: dict[str, Any] = {
                f"{prefix}Name": name,
                f"{prefix}Arn": context.arn(kind, name),
                "CreationTime": NOW + timedelta(hours=hour),
            }
            if method not in WITHOUT_STATUS:
                body |= {f"{prefix}Status": status, "LastModifiedTime": NOW}
            if kind is Kind.TUNING_JOB:
                body |= {
                    "HyperParameterTuningJobConfig": {
                        "Strategy": "Random",
                        "ResourceLimits": {"MaxParallelTrainingJobs": 1},
                    },
                    "TrainingJobStatusCounters": {},
                    "ObjectiveStatusCounters": {},
                }
            context.store.add(kind, name, body[f"{prefix}Arn"], body)

        def names(**request: Any) -> list[str]:
            return [one[f"{prefix}Name"] for one in getattr(client, method)(**request)[items]]

        return names

    return make


@pytest.mark.parametrize("method", LISTS)
def test_orders(fill: Fill, method: str) -> None:
    names = fill(method)
    assert names(SortBy="Name", SortOrder="Ascending") == ["a-2", "b-1", "c-2"]
    assert names(SortBy="Name", SortOrder="Descending") == ["c-2", "b-1", "a-2"]
    assert names(SortBy="CreationTime", SortOrder="Ascending") == ["b-1", "c-2", "a-2"]
    assert names(SortBy="CreationTime", SortOrder="Descending") == ["a-2", "c-2", "b-1"]


@pytest.mark.parametrize("method", [name for name in LISTS if name not in WITHOUT_STATUS])
def test_by_status(fill: Fill, method: str) -> None:
    names = fill(method)
    kind = LISTS[method][0]
    order = ["c-2", "a-2", "b-1"] if kind is Kind.ENDPOINT else ["b-1", "c-2", "a-2"]
    assert names(SortBy="Status", SortOrder="Ascending") == order
    assert names(StatusEquals="Failed") == (["a-2"] if kind is Kind.ENDPOINT else ["c-2"])


def test_the_default_orders(fill: Fill) -> None:
    assert fill("list_training_jobs")() == ["b-1", "c-2", "a-2"]
    assert fill("list_hyper_parameter_tuning_jobs")() == ["a-2", "b-1", "c-2"]
    for method in ("list_transform_jobs", "list_models", "list_endpoint_configs", "list_endpoints"):
        assert fill(method)() == ["a-2", "c-2", "b-1"], method


@pytest.mark.parametrize("method", LISTS)
def test_filters(fill: Fill, method: str) -> None:
    names = fill(method)
    hour = timedelta(hours=1)
    assert sorted(names(NameContains="2")) == ["a-2", "c-2"]
    assert names(NameContains="zz") == []
    assert sorted(names(CreationTimeAfter=NOW)) == ["a-2", "c-2"]
    assert names(CreationTimeBefore=NOW + hour) == ["b-1"]
    assert names(CreationTimeAfter=NOW, CreationTimeBefore=NOW + 2 * hour) == ["c-2"]


@pytest.mark.parametrize("method", [name for name in LISTS if name not in WITHOUT_STATUS])
def test_by_last_modified_time(fill: Fill, context: Context, method: str) -> None:
    names = fill(method)
    kind = LISTS[method][0]
    before = context.store.get(kind, "a-2").modified
    after = context.store.update(kind, "c-2", lambda _: None).modified
    assert names(LastModifiedTimeAfter=before) == ["c-2"]
    assert sorted(names(LastModifiedTimeBefore=after)) == ["a-2", "b-1"]


@pytest.mark.parametrize("method", LISTS)
def test_pages_of_boto3s_paginator(fill: Fill, client: Any, method: str) -> None:
    fill(method)
    _, prefix, items = LISTS[method]
    found = list(client.get_paginator(method).paginate(SortBy="Name", MaxResults=1))
    assert [len(part[items]) for part in found] == [1, 1, 1]
    names = [one[f"{prefix}Name"] for part in found for one in part[items]]
    assert sorted(names) == ["a-2", "b-1", "c-2"]


def test_a_token_of_another_request(fill: Fill, client: Any) -> None:
    fill("list_models")
    token = client.list_models(MaxResults=1)["NextToken"]
    for request in ({"SortBy": "Name", "NextToken": token}, {"NextToken": "nonsense"}):
        with pytest.raises(client.exceptions.ClientError) as caught:
            client.list_models(**request)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert "NextToken" in caught.value.response["Error"]["Message"]


def test_no_job_has_a_warm_pool(fill: Fill) -> None:
    assert fill("list_training_jobs")(WarmPoolStatusEquals="Available") == []


def test_a_tuning_jobs_summary_repeats_its_limits(fill: Fill, client: Any) -> None:
    fill("list_hyper_parameter_tuning_jobs")
    one = client.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"][0]
    assert one["Strategy"] == "Random"
    assert one["ResourceLimits"] == {"MaxParallelTrainingJobs": 1}


@pytest.fixture
def trials(client: Any, context: Services, valid: Any) -> str:
    """Create a tuning job with three trials, and an unrelated training job."""
    client.create_hyper_parameter_tuning_job(**valid("create_hyper_parameter_tuning_job"))
    arn = context.arn(Kind.TUNING_JOB, "tune")
    for name, status, value in (
        ("t-1", "Completed", 0.5),
        ("t-2", "Failed", None),
        ("t-3", "Completed", 0.25),
        ("other", "Completed", 1),
    ):
        request = valid("create_training_job", TrainingJobName=name)
        tuning = None if name == "other" else arn
        context.training.create(request, tuning_job_arn=tuning)

        def finish(record: Record, status: str = status, value: float | None = value) -> None:
            record.body["TrainingJobStatus"] = status
            record.private["tuning"] = {
                "TunedHyperParameters": {"lr": "0.1"},
                "ObjectiveStatus": "Failed" if value is None else "Succeeded",
            }
            if value is not None:
                record.private["tuning"]["FinalHyperParameterTuningJobObjectiveMetric"] = {
                    "MetricName": "accuracy",
                    "Value": value,
                }

        context.store.update(Kind.TRAINING_JOB, name, finish)
    return "tune"


def test_the_training_jobs_of_a_tuning_job(client: Any, trials: str) -> None:
    def names(**request: Any) -> list[str]:
        answer = client.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=trials, **request
        )
        return [one["TrainingJobName"] for one in answer["TrainingJobSummaries"]]

    assert names() == ["t-1", "t-2", "t-3"]
    assert names(SortOrder="Descending") == ["t-3", "t-2", "t-1"]
    assert names(SortBy="CreationTime") == ["t-1", "t-2", "t-3"]
    assert names(SortBy="Status") == ["t-1", "t-3", "t-2"]
    assert names(StatusEquals="Failed") == ["t-2"]
    assert names(SortBy="FinalObjectiveMetricValue") == ["t-3", "t-1"]
    assert names(SortBy="FinalObjectiveMetricValue", SortOrder="Descending") == ["t-1", "t-3"]
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName=trials, SortBy="FinalObjectiveMetricValue", MaxResults=1
    )
    assert [len(part["TrainingJobSummaries"]) for part in pages] == [1, 1]


def test_the_summary_of_a_trial(client: Any, trials: str) -> None:
    one = client.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=trials, MaxResults=1
    )["TrainingJobSummaries"][0]
    assert one["TunedHyperParameters"] == {"lr": "0.1"}
    assert one["TuningJobName"] == "tune"
    assert one["ObjectiveStatus"] == "Succeeded"
    metric = one["FinalHyperParameterTuningJobObjectiveMetric"]
    assert metric == {"MetricName": "accuracy", "Value": 0.5}
