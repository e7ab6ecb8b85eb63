"""Search and GetSearchSuggestions, through boto3."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.store import Kind, Record

Find = Callable[..., list[str]]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def jobs(client: Any, context: Context, valid: Any) -> Any:
    """Create three training jobs: a Completed (0.9), b Failed (no metric), c Completed (0.95)."""
    values = (
        ("a", "red", "Completed", 0.9, {"epochs": "3", "lr": "0.01", "arch": "resnet18"}),
        ("b", "blue", "Failed", None, {"epochs": "12", "lr": "0.5", "arch": "resnet50"}),
        ("c", None, "Completed", 0.95, {"epochs": '"7"'}),
    )
    for number, (name, team, status, accuracy, hyperparameters) in enumerate(values):
        request = valid(
            "create_training_job", TrainingJobName=name, HyperParameters=hyperparameters
        )
        request["Tags"] = [{"Key": "team.name", "Value": team}] if team else []
        client.create_training_job(**request)

        def end(record: Record, at: int = number, to: str = status, got: Any = accuracy) -> None:
            record.body["TrainingJobStatus"] = to
            record.body["CreationTime"] = START + timedelta(days=at)
            record.body["TrainingTimeInSeconds"] = 10 * at
            record.body["EnableManagedSpotTraining"] = to == "Failed"
            if got is not None:
                one = {"MetricName": "val:acc", "Value": got, "Timestamp": START}
                record.body["FinalMetricDataList"] = [one]

        context.store.update(Kind.TRAINING_JOB, name, end)
    return client


@pytest.fixture
def find(jobs: Any) -> Find:
    """Return the names of the training jobs that satisfy filters, oldest first."""

    def ask(*filters: tuple[str, ...], **rest: Any) -> list[str]:
        members = ("Name", "Operator", "Value")
        expression = {"Filters": [dict(zip(members, each, strict=False)) for each in filters]}
        expression = {**(expression if filters else {}), **rest}
        answer = jobs.search(
            Resource="TrainingJob",
            SearchExpression=expression,
            SortBy="CreationTime",
            SortOrder="Ascending",
        )
        return [each["TrainingJob"]["TrainingJobName"] for each in answer["Results"]]

    return ask


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("TrainingJobName", "Equals", "a"), "a"),
        (("TrainingJobName", "NotEquals", "a"), "bc"),
        (("TrainingJobName", "Contains", "b"), "b"),
        (("TrainingJobName", "In", "a, c,x"), "ac"),
        (("TrainingJobStatus", "Equals", "Completed"), "ac"),
        (("Tags.team.name", "Equals", "red"), "a"),
        (("Tags.team.name", "NotEquals", "red"), "bc"),
        (("Tags.team.name", "Exists"), "ab"),
        (("Tags.team.name", "NotExists"), "c"),
        (("Tags.team.name", "In", "blue,red"), "ab"),
        (("HyperParameters.lr", "LessThan", "0.5"), "a"),
        (("HyperParameters.lr", "LessThanOrEqualTo", "0.5"), "ab"),
        (("HyperParameters.epochs", "GreaterThan", "5"), "bc"),
        (("HyperParameters.epochs", "Equals", "3"), "a"),
        (("HyperParameters.epochs", "Equals", "3.0"), "a"),
        (("HyperParameters.arch", "Contains", "resnet"), "ab"),
        (("HyperParameters.arch", "Equals", "resnet50"), "b"),
        (("HyperParameters.arch", "Exists"), "ab"),
        (("Metrics.val:acc", "GreaterThan", "0.9"), "c"),
        (("Metrics.val:acc", "GreaterThanOrEqualTo", "0.9"), "ac"),
        (("Metrics.val:acc", "NotExists"), "b"),
        (("Metrics.other", "Exists"), ""),
        (("TrainingTimeInSeconds", "GreaterThan", "5"), "bc"),
        (("CreationTime", "GreaterThan", "2026-01-01T12:00:00"), "bc"),
        (("CreationTime", "LessThanOrEqualTo", "2026-01-02T00:00:00Z"), "ab"),
        (("EnableManagedSpotTraining", "Equals", "true"), "b"),
        (("ResourceConfig.InstanceType", "Equals", "ml.m5.large"), "abc"),
        (("InputDataConfig.ChannelName", "Equals", "train"), "abc"),
        (("InputDataConfig.DataSource.S3DataSource.S3Uri", "Contains", "elsewhere"), ""),
        (("FailureReason", "NotExists"), "abc"),
        (("SecondaryStatus", "NotEquals", "Starting"), ""),
    ],
)
def test_one_filter(find: Find, filters: tuple[str, ...], expected: str) -> None:
    assert "".join(find(filters)) == expected


def test_the_default_operator_is_equals(jobs: Any) -> None:
    answer = jobs.search(
        Resource="TrainingJob",
        SearchExpression={"Filters": [{"Name": "TrainingJobName", "Value": "c"}]},
    )
    assert [each["TrainingJob"]["TrainingJobName"] for each in answer["Results"]] == ["c"]


def test_several_conditions(find: Find) -> None:
    done, red = ("TrainingJobStatus", "Equals", "Completed"), ("Tags.team.name", "Equals", "red")
    assert find(done, red) == ["a"]
    assert find(done, red, Operator="Or") == ["a", "c"]
    blue = {"Filters": [{"Name": "Tags.team.name", "Value": "blue"}]}
    both = {"Filters": [{"Name": "TrainingJobName", "Value": "c"}]}
    assert find(SubExpressions=[blue, both], Operator="Or") == ["b", "c"]
    assert find(SubExpressions=[blue, both]) == []

    def channel(name: str, kind: str) -> dict[str, Any]:
        source = "InputDataConfig.DataSource.S3DataSource.S3DataType"
        return {
            "NestedPropertyName": "InputDataConfig",
            "Filters": [
                {"Name": "InputDataConfig.ChannelName", "Operator": "Equals", "Value": name},
                {"Name": source, "Operator": "Equals", "Value": kind},
            ],
        }

    assert find(NestedFilters=[channel("train", "S3Prefix")]) == ["a", "b", "c"]
    assert find(NestedFilters=[channel("train", "ManifestFile")]) == []
    tag = {
        "NestedPropertyName": "Tags",
        "Filters": [{"Name": "Tags.Key", "Value": "team.name"}, {"Name": "Value", "Value": "red"}],
    }
    assert find(NestedFilters=[tag]) == ["a"]


def test_pages_and_orders(jobs: Any) -> None:
    def names(**request: Any) -> list[str]:
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            answer = jobs.search(Resource="TrainingJob", MaxResults=1, **request, **token)
            found += [each["TrainingJob"]["TrainingJobName"] for each in answer["Results"]]
            assert answer["TotalHits"] == {"Value": 3, "Relation": "EqualTo"}
            if "NextToken" not in answer:
                return found
            token = {"NextToken": answer["NextToken"]}

    assert names() == ["c", "b", "a"]  # by LastModifiedTime, the latest first
    assert names(SortBy="TrainingJobName", SortOrder="Ascending") == ["a", "b", "c"]
    assert names(SortBy="Metrics.val:acc") == ["c", "a", "b"]
    assert names(SortBy="Metrics.val:acc", SortOrder="Ascending") == ["a", "c", "b"]
    assert names(SortBy="HyperParameters.epochs") == ["b", "c", "a"]
    assert names(SortBy="Tags.team.name", SortOrder="Ascending") == ["b", "a", "c"]


def test_the_contents_of_a_result(jobs: Any) -> None:
    [found] = jobs.search(
        Resource="TrainingJob",
        SearchExpression={"Filters": [{"Name": "Metrics.val:acc", "Value": "0.9"}]},
    )["Results"]
    job = found["TrainingJob"]
    assert job["Tags"] == [{"Key": "team.name", "Value": "red"}]
    assert job["FinalMetricDataList"][0]["Value"] == pytest.approx(0.9)
    assert job["HyperParameters"]["arch"] == "resnet18"


def test_every_type_of_resource(served: Any, valid: Any) -> None:
    def found(resource: str, name: str, value: str) -> list[dict[str, Any]]:
        expression = {"Filters": [{"Name": name, "Operator": "Equals", "Value": value}]}
        answer = served.search(Resource=resource, SearchExpression=expression)
        results: list[dict[str, Any]] = answer["Results"]
        return results

    served.create_hyper_parameter_tuning_job(
        **valid("create_hyper_parameter_tuning_job"), Tags=[{"Key": "a", "Value": "b"}]
    )
    [tuning] = found("HyperParameterTuningJob", "Tags.a", "b")
    assert tuning["HyperParameterTuningJob"]["HyperParameterTuningJobName"] == "tune"
    assert found("HyperParameterTuningJob", "HyperParameterTuningJobConfig.Strategy", "Grid") == []
    [endpoint] = found("Endpoint", "EndpointStatus", "InService")
    assert endpoint["Endpoint"]["EndpointName"] == "endpoint"
    for name in ("ModelName", "Model.ModelName"):
        [model] = found("Model", name, "model")
        assert model["Model"]["Model"]["ModelName"] == "model"
        assert [one["EndpointName"] for one in model["Model"]["Endpoints"]] == ["endpoint"]


def _filters(*given: dict[str, str]) -> dict[str, Any]:
    return {"SearchExpression": {"Filters": list(given)}}


NAME = {"Name": "TrainingJobName", "Operator": "Contains", "Value": "a"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"Resource": "Pipeline"},
            "expected TrainingJob, HyperParameterTuningJob, Endpoint, Model",
        ),
        ({"SearchExpression": {}}, "has 0 filters, nested filters and subexpressions"),
        (_filters({"Name": "Colour", "Value": "red"}), "Unknown property name: Colour"),
        (_filters({"Name": "ResourceConfig.Colour", "Value": "1"}), "ResourceConfig.Colour"),
        (_filters({"Name": "TrainingJobName", "Operator": "GreaterThan", "Value": "a"}), "is text"),
        (_filters({"Name": "Tags.a", "Operator": "LessThan", "Value": "1"}), "is text"),
        (
            _filters({"Name": "HyperParameters.a", "Operator": "LessThan", "Value": "x"}),
            "Value is 'x'; expected a number",
        ),
        (
            _filters({"Name": "TrainingTimeInSeconds", "Operator": "Contains", "Value": "1"}),
            "only for text",
        ),
        (_filters({"Name": "TrainingTimeInSeconds", "Value": "long"}), "expected a number"),
        (_filters({"Name": "CreationTime", "Value": "yesterday"}), "expected a time such as"),
        (_filters({"Name": "InputDataConfig", "Value": "a"}), "InputDataConfig is a list"),
        (_filters({"Name": "TrainingJobName"}), "Value is missing"),
        (_filters(NAME, NAME), "'CONTAINS' operator usage limit of 1 exceeded."),
        (_filters(*[{"Name": "TrainingJobName", "Value": "a"}] * 21), "less than or equal to 20"),
        ({"SortBy": "Colour"}, "Unknown property name: Colour"),
        ({"SortBy": "InputDataConfig"}, "expected a single value"),
        ({"CrossAccountFilterOption": "CrossAccount"}, "there is one account"),
        ({"VisibilityConditions": [{"Key": "a", "Value": "b"}]}, "VisibilityConditions is not sup"),
        (
            {
                "SearchExpression": {
                    "NestedFilters": [
                        {"NestedPropertyName": "TrainingJobName", "Filters": [NAME]},
                    ]
                }
            },
            "NestedPropertyName is 'TrainingJobName'; expected a list",
        ),
    ],
)
def test_invalid_requests_are_refused(
    unchecked: Any, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(unchecked.exceptions.ClientError) as caught:
        unchecked.search(**{"Resource": "TrainingJob", **changes})
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert expected in caught.value.response["Error"]["Message"]


def test_suggestions(jobs: Any) -> None:
    def names(hint: str) -> list[str]:
        answer = jobs.get_search_suggestions(
            Resource="TrainingJob",
            SuggestionQuery={"PropertyNameQuery": {"PropertyNameHint": hint}},
        )
        return [each["PropertyName"] for each in answer["PropertyNameSuggestions"]]

    assert names("Tags.") == ["Tags.team.name"]
    assert names("hyperparameters.") == [f"HyperParameters.{n}" for n in ("arch", "epochs", "lr")]
    assert "ResourceConfig.InstanceType" in names("InstanceType")
    assert "Metrics.val:acc" in names("acc")
