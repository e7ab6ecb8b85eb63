import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.emulator.api.operations import OPERATIONS
from local.emulator.errors import ServiceError
from local.emulator.shapes.parser import parse
from local.emulator.shapes.service_model import operation_model

NAME = {"TrainingJobName": "job"}


def read(operation: str, request: Any) -> dict[str, Any]:
    return parse(operation_model(operation).input_shape, json.dumps(request).encode())


def refusal(operation: str, request: Any) -> tuple[str, str]:
    with pytest.raises(ServiceError) as caught:
        read(operation, request)
    assert caught.value.status == 400
    return caught.value.code, caught.value.message


PATTERN = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
TUNING_LISTS = "ListTrainingJobsForHyperParameterTuningJob"


@pytest.mark.parametrize(
    ("operation", "request_", "constraint"),
    [
        (
            "DescribeTrainingJob",
            {"TrainingJobName": "my_job"},
            f"Value 'my_job' at 'trainingJobName' failed to satisfy constraint: Member must "
            f"satisfy regular expression pattern: {PATTERN}",
        ),
        (
            "DescribeTrainingJob",
            {"TrainingJobName": "a-"},
            f"Value 'a-' at 'trainingJobName' failed to satisfy constraint: Member must "
            f"satisfy regular expression pattern: {PATTERN}",
        ),
        (
            "DescribeTrainingJob",
            {},
            "Value null at 'trainingJobName' failed to satisfy constraint: Member must not be null",
        ),
        (
            "DescribeTrainingJob",
            {"TrainingJobName": None},
            "Value null at 'trainingJobName' failed to satisfy constraint: Member must not be null",
        ),
        (
            TUNING_LISTS,
            {"HyperParameterTuningJobName": "t", "MaxResults": 101},
            "Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less "
            "than or equal to 100",
        ),
        (
            TUNING_LISTS,
            {"HyperParameterTuningJobName": "t", "MaxResults": 0},
            "Value '0' at 'maxResults' failed to satisfy constraint: Member must have value "
            "greater than or equal to 1",
        ),
        (
            "ListTrainingJobs",
            {"SortOrder": "Up"},
            "Value 'Up' at 'sortOrder' failed to satisfy constraint: Member must satisfy enum "
            "value set: [Ascending, Descending]",
        ),
        (
            "ListTrainingJobs",
            {"SortOder": "Ascending"},
            "Unknown member 'SortOder' in the request; did you mean SortOrder?",
        ),
        (
            "DeleteTags",
            {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m", "TagKeys": []},
            "Value '[]' at 'tagKeys' failed to satisfy constraint: Member must have length greater "
            "than or equal to 1",
        ),
        (
            "AddTags",
            {
                "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m",
                "Tags": [{"Key": "ok", "Value": "ok"}, {"Key": "k*", "Value": "v"}],
            },
            "Value 'k*' at 'tags.2.member.key' failed to satisfy constraint: Member must satisfy "
            r"regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
        ),
    ],
)
def test_a_violated_constraint_is_described_as_by_aws(
    operation: str, request_: Any, constraint: str
) -> None:
    code, message = refusal(operation, request_)
    assert code == "ValidationException"
    assert message == f"1 validation error detected: {constraint}"


def test_all_violated_constraints_are_listed_at_once() -> None:
    _, message = refusal("ListTrainingJobs", {"MaxResults": 0, "SortOrder": "x", "Nme": 1})
    assert message.startswith("3 validation errors detected: Value '0' at 'maxResults'")
    assert message.count("; ") >= 2


def test_a_map_names_the_entry() -> None:
    _, message = refusal(
        "CreateTrainingJob", {**NAME, "HyperParameters": {"ok": "1", "k": "x" * 2501}}
    )
    assert "at 'hyperParameters' failed to satisfy constraint: Map value must satisfy" in message
    assert "[Member must have length less than or equal to 2500]" in message
    assert "{k=xxx" in message
    assert "x" * 300 not in message
    _, message = refusal("CreateTrainingJob", {**NAME, "Environment": {"1A": "x"}})
    assert "Map key must satisfy constraint: [Member must satisfy regular expression" in message


def test_the_nearest_of_many_allowed_values_are_named() -> None:
    _, message = refusal(
        "CreateTrainingJob", {**NAME, "ResourceConfig": {"InstanceType": "ml.m5.lrge"}}
    )
    assert "[ml.m5.large" in message
    assert " more]" in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("operation", "request_", "expected"),
    [
        ("DescribeTrainingJob", {"TrainingJobName": 3}, "'trainingJobName' is the number '3'"),
        ("ListTrainingJobs", {"MaxResults": "3"}, "'maxResults' is the string '3'"),
        ("ListTrainingJobs", {"MaxResults": True}, "'maxResults' is the boolean 'true'"),
        ("ListTrainingJobs", {"MaxResults": 1.5}, "'maxResults' is the number '1.5'"),
        ("ListTrainingJobs", {"MaxResults": 2**31}, "whole number of 31 bits"),
        ("ListTrainingJobs", {"CreationTimeAfter": "noon"}, "'creationTimeAfter' is the string"),
        ("ListTrainingJobs", {"CreationTimeAfter": 1e300}, "'creationTimeAfter' is the number"),
        ("ListTrainingJobs", {"CreationTimeAfter": True}, "'creationTimeAfter' is the boolean"),
        ("CreateTrainingJob", {"InputDataConfig": {}}, "'inputDataConfig' is the object"),
        ("CreateTrainingJob", {"StoppingCondition": []}, "'stoppingCondition' is the list '[]'"),
        ("CreateTrainingJob", {"HyperParameters": []}, "'hyperParameters' is the list"),
        ("CreateTrainingJob", {"HyperParameters": {"a": 1}}, "'hyperParameters.a' is the number"),
        ("CreateTrainingJob", {"EnableNetworkIsolation": 1}, "expected a boolean"),
        ("CreateTrainingJob", {"Tags": [None]}, "'tags.1.member' is the null"),
    ],
)
def test_a_wrong_type_is_a_serialization_error(
    operation: str, request_: Any, expected: str
) -> None:
    code, message = refusal(operation, request_)
    assert code == "SerializationException"
    assert expected in message


def test_a_number_is_finite() -> None:
    shape = operation_model("CreateEndpointConfig").input_shape
    body = b'{"ProductionVariants": [{"InitialVariantWeight": NaN}]}'
    with pytest.raises(ServiceError, match="a finite number"):
        parse(shape, body)


@pytest.mark.parametrize(
    "value", [1735689600, 1735689600.0, "2025-01-01T00:00:00Z", "2025-01-01T00:00:00"]
)
def test_a_time_is_a_datetime(value: Any) -> None:
    found = read("ListTrainingJobs", {"CreationTimeAfter": value})["CreationTimeAfter"]
    assert found == datetime(2025, 1, 1, tzinfo=UTC)


def test_null_means_absent() -> None:
    assert read("ListTrainingJobs", {"MaxResults": None}) == {}
    assert parse(operation_model("ListTrainingJobs").input_shape, b"") == {}


def test_file_uris_are_accepted_in_place_of_s3_uris() -> None:
    request = {"OutputDataConfig": {"S3OutputPath": "file:///tmp/x"}}
    _, message = refusal("CreateTrainingJob", request)
    assert "s3OutputPath" not in message
    _, message = refusal("CreateTrainingJob", {"OutputDataConfig": {"S3OutputPath": "ftp://x"}})
    assert "at 'outputDataConfig.s3OutputPath'" in message


@given(st.text(alphabet=string.ascii_letters + string.digits + "-", min_size=1, max_size=80))
def test_names_follow_the_rules_of_aws(name: str) -> None:
    request = {"TrainingJobName": name}
    if name[0] != "-" and name[-1] != "-" and len(name) <= 63:
        assert read("DescribeTrainingJob", request) == request
    else:
        assert "at 'trainingJobName'" in refusal("DescribeTrainingJob", request)[1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "TrainingJobName",
                    "HyperParameters",
                    "InputDataConfig",
                    "ChannelName",
                    "DataSource",
                    "S3DataSource",
                    "Tags",
                    "Key",
                    "StoppingCondition",
                    "MaxRuntimeInSeconds",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(JSON)
def test_any_json_is_parsed_or_a_service_error(value: Any) -> None:
    code, message = refusal("CreateTrainingJob", value)
    assert code in ("ValidationException", "SerializationException")
    assert message


@given(st.characters(categories=["L", "N"]))
def test_a_tag_may_hold_any_letter_or_digit(letter: str) -> None:
    request = {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m",
        "Tags": [{"Key": letter, "Value": letter}],
    }
    assert read("AddTags", request) == request


def sample(shape: Any, parents: tuple[str, ...] = ()) -> Any:
    """Return a value of a shape with all its members except recursive ones."""
    parents = (*parents, shape.name)
    match shape.type_name:
        case "structure":
            members = shape.members.items()
            return {
                name: sample(each, parents) for name, each in members if each.name not in parents
            }
        case "list":
            inner = shape.member
            return [] if inner.name in parents else [sample(inner, parents)]
        case "map":
            return {sample(shape.key): sample(shape.value)}
        case "string":
            return "a"
        case "boolean":
            return True
    return 1


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_member_and_pattern_of_an_operation_can_be_parsed(name: str) -> None:
    code = None
    try:
        read(name, sample(operation_model(name).input_shape))
    except ServiceError as error:
        code = error.code
    assert code in (None, "ValidationException")
