from collections.abc import Callable
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.store import Kind

Refused = Callable[..., str]
CREATE = "create_transform_job"
SOURCE = "TransformInput.DataSource.S3DataSource"


@pytest.fixture(autouse=True)
def _model(client: Any, valid: Any) -> None:
    client.create_model(**valid("create_model"))


def test_from_create_to_stop(client: Any, context: Context, valid: Any) -> None:
    arn = client.create_transform_job(**valid(CREATE))["TransformJobArn"]
    assert arn == context.arn(Kind.TRANSFORM_JOB, "batch")
    listed = client.list_transform_jobs()["TransformJobSummaries"][0]
    assert listed["TransformJobArn"] == arn
    assert listed["LastModifiedTime"] >= listed["CreationTime"]
    client.stop_transform_job(TransformJobName="batch")
    described = client.describe_transform_job(TransformJobName="batch")
    assert described["TransformJobStatus"] == "Stopping"
    with pytest.raises(client.exceptions.ResourceInUse, match="with the name batch already"):
        client.create_transform_job(**valid(CREATE))


@pytest.mark.parametrize("method", ["describe_transform_job", "stop_transform_job"])
def test_a_missing_job(client: Any, method: str) -> None:
    with pytest.raises(client.exceptions.ClientError) as caught:
        getattr(client, method)(TransformJobName="nowhere")
    assert caught.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": "Could not find requested job with name: nowhere.",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"MaxConcurrentTransforms": 0},
        {"TransformInput.SplitType": "Line", "DataProcessing": {"InputFilter": "$"}},
        {"MaxConcurrentTransforms": 16},
        {"MaxPayloadInMB": 100},
        {"MaxPayloadInMB": 0, "MaxConcurrentTransforms": 1000},
        {"MaxPayloadInMB": 20, "MaxConcurrentTransforms": 5},
        {f"{SOURCE}.S3DataType": "ManifestFile", f"{SOURCE}.S3Uri": "s3://data/train/a.png"},
    ],
)
def test_valid_requests_are_accepted(client: Any, valid: Any, changes: dict[str, Any]) -> None:
    client.create_transform_job(**valid(CREATE, changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ModelName": "none"}, 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:'),
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB is 101; expected at most 100"),
        ({"MaxConcurrentTransforms": 17}, "times MaxPayloadInMB is 102 MB; expected at most 100"),
        ({"MaxPayloadInMB": 51, "MaxConcurrentTransforms": 2}, "is 102 MB"),
        (
            {f"{SOURCE}.S3Uri": "s3://data/none/"},
            'No S3 objects found under S3 URL "s3://data/none/" given in input data source.',
        ),
        ({f"{SOURCE}.S3Uri": "file:///no/such"}, "no such file or folder"),
        ({f"{SOURCE}.S3DataType": "AugmentedManifestFile"}, "'AugmentedManifestFile' is not supp"),
        ({"TransformInput.SplitType": "RecordIO"}, "SplitType 'RecordIO' is not supported"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "DataProcessing.JoinSource 'Input' is not"),
        ({"DataProcessing": {"OutputFilter": "$.id"}}, "OutputFilter '$.id' is not supported"),
        ({"TransformOutput.S3OutputPath": "s3://gone/x"}, "TransformOutput.S3OutputPath is 's3://"),
        ({"Environment": {f"A{n}": "1" for n in range(17)}}, "less than or equal to 16"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "s3://out/x"}}, "DataCaptureConfig is not"),
        ({"ExperimentConfig": {"TrialName": "t"}}, "ExperimentConfig is not supported"),
        ({"Tags": [{"Key": "k", "Value": "1"}] * 2}, "Tags has 'k' more than once"),
        ({"TransformResources.InstanceCount": 0}, "greater than or equal to 1"),
    ],
)
def test_invalid_requests_are_refused(
    refused: Refused, context: Context, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(CREATE, changes)
    assert context.store.every(Kind.TRANSFORM_JOB) == []


def test_more_hosts_than_the_executor_has(refused: Refused) -> None:
    changes = {"TransformResources.InstanceCount": 2}
    message = refused(CREATE, changes, "ResourceLimitExceeded")
    assert message == "TransformResources.InstanceCount is 2; the executor process has 1."


def test_multi_model_containers_cannot_transform(client: Any, valid: Any) -> None:
    several = {
        "PrimaryContainer.Mode": "MultiModel",
        "PrimaryContainer.ModelDataUrl": "s3://data/model/",
    }
    client.create_model(**valid("create_model", several, ModelName="several"))
    with pytest.raises(client.exceptions.ClientError, match="whose Mode is MultiModel"):
        client.create_transform_job(**valid(CREATE, ModelName="several"))
