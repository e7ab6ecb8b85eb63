from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from local.errors import UserError
from local.requests.transform import Transform

PLAIN: dict[str, Any] = {
    "name": "predict-all",
    "model": "flowers",
    "source": "s3://bucket/photos/",
    "destination": "s3://bucket/answers",
}


def test_the_request() -> None:
    asked = Transform(**PLAIN, instance_type="ml.m5.xlarge", instance_count=2, tags={"a": "b"})
    assert asked.request() == {
        "TransformJobName": "predict-all",
        "ModelName": "flowers",
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/photos/"}
            },
            "ContentType": "application/x-image",
            "SplitType": "None",
            "CompressionType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": "s3://bucket/answers",
            "Accept": "application/json",
            "AssembleWith": "None",
        },
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
        "Tags": [{"Key": "a", "Value": "b"}],
    }


@pytest.mark.parametrize(
    "options", [PLAIN, PLAIN | {"kms_key": "key"}, PLAIN | {"environment": {"A": "1", "B": ""}}]
)
def test_botocore_accepts_the_request(options: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateTransformJob").input_shape
    report = ParamValidator().validate(Transform(**options).request(), shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a b"}, "--name: found 'a b'"),
        ({"source": "photos"}, "the source: found photos"),
        ({"destination": "here"}, "--output: found here"),
        ({"instance_count": 0}, "--instance-count"),
        ({"kms_key": "k", "instance_type": "ml.g5.xlarge"}, "--kms-key"),
    ],
)
def test_requests_that_aws_would_refuse(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Transform(**PLAIN | change)
