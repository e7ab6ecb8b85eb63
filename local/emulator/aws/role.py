"""The role there is from the start, so that nobody has to make one before the first job."""

import json
from urllib.parse import urlencode

from local.emulator.aws.journal import Request

NAME = "berth"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
"""The SDK looks whether SageMaker may assume the role it is given."""


def creation(region: str) -> Request:
    """IAM's CreateRole for it, as a client would send it."""
    form = {
        "Action": "CreateRole",
        "Version": "2010-05-08",
        "RoleName": NAME,
        "AssumeRolePolicyDocument": json.dumps(TRUST),
    }
    headers = {
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
    }
    return Request("iam", region, "POST", "/", headers, urlencode(form).encode())
