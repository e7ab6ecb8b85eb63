from typing import Any

import pytest


def pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


@pytest.fixture
def arn(client: Any, valid: Any) -> str:
    request = valid("create_training_job", Tags=[{"Key": "team", "Value": "a"}])
    found: str = client.create_training_job(**request)["TrainingJobArn"]
    return found


def test_tags_are_added_and_deleted(client: Any, arn: str) -> None:
    added = client.add_tags(
        ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}, {"Key": "äöü 1", "Value": ""}]
    )
    assert pairs(added["Tags"]) == {"team": "b", "äöü 1": ""}
    client.delete_tags(ResourceArn=arn, TagKeys=["team", "never there"])
    assert pairs(client.list_tags(ResourceArn=arn)["Tags"]) == {"äöü 1": ""}


def test_only_a_spot_job_takes_the_interruption_tag(client: Any, arn: str, valid: Any) -> None:
    rehearsal = [{"Key": "berth:interrupt-after", "Value": "1"}]
    with pytest.raises(client.exceptions.ClientError, match="EnableManagedSpotTraining"):
        client.add_tags(ResourceArn=arn, Tags=rehearsal)
    limits = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}
    spot = {"EnableManagedSpotTraining": True, "StoppingCondition": limits}
    request = valid("create_training_job", **spot) | {"TrainingJobName": "spot"}
    spot_arn = client.create_training_job(**request)["TrainingJobArn"]
    wrong = [{"Key": "berth:interrupt-after", "Value": "soon"}]
    with pytest.raises(client.exceptions.ClientError, match="'soon'; expected a number"):
        client.add_tags(ResourceArn=spot_arn, Tags=wrong)
    added = client.add_tags(ResourceArn=spot_arn, Tags=rehearsal)
    assert pairs(added["Tags"]) == {"berth:interrupt-after": "1"}


def test_a_resource_has_at_most_fifty_tags(client: Any, arn: str) -> None:
    many = [{"Key": f"k{n:02}", "Value": str(n)} for n in range(49)]
    client.add_tags(ResourceArn=arn, Tags=many)
    client.add_tags(ResourceArn=arn, Tags=many[:1])
    with pytest.raises(client.exceptions.ClientError, match="51 tags; expected at most 50"):
        client.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": ""}])
    tags = client.get_paginator("list_tags").paginate(ResourceArn=arn).build_full_result()["Tags"]
    assert len(tags) == 50


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("list_tags", {}),
        ("delete_tags", {"TagKeys": ["a"]}),
        ("add_tags", {"Tags": [{"Key": "a", "Value": "b"}]}),
    ],
)
def test_a_missing_resource(client: Any, method: str, more: dict[str, Any]) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/none"
    with pytest.raises(client.exceptions.ClientError) as caught:
        getattr(client, method)(ResourceArn=arn, **more)
    error = caught.value.response["Error"]
    assert (error["Code"], arn in error["Message"]) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([{"Key": "aws:x", "Value": ""}], "without the prefix aws:"),
        ([{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}], "'a' more than once"),
        ([{"Key": "a", "Value": "x" * 257}], "'tags.1.member.value' failed to satisfy constraint"),
        ([{"Key": "", "Value": ""}], "tags.1.member.key"),
    ],
)
def test_tags_that_are_refused(
    unchecked: Any, arn: str, tags: list[dict[str, str]], expected: str
) -> None:
    with pytest.raises(unchecked.exceptions.ClientError, match=expected):
        unchecked.add_tags(ResourceArn=arn, Tags=tags)
    assert pairs(unchecked.list_tags(ResourceArn=arn)["Tags"]) == {"team": "a"}
