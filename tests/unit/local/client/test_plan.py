import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

from rich.console import Console

from local.client.plan import show
from local.client.target import Target
from local.requests.hosting import Hosting

ROLE = "arn:aws:iam::123456789012:role/berth"
PLACE = Target("aws", None, "us-east-1", "123456789012", ROLE, "bucket", "berth:latest", plan=True)
HOSTING = Hosting(
    name="flowers",
    image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:latest",
    model_data="s3://bucket/job/model.tar.gz",
    role=ROLE,
    stamp="20260102",
)
EXPECTED = """\
plan: requests to AWS, account 123456789012, us-east-1

CreateModel
{
  "ModelName": "flowers-20260102",
  "PrimaryContainer": {
    "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:latest",
    "ModelDataUrl": "s3://bucket/job/model.tar.gz"
  },
  "ExecutionRoleArn": "arn:aws:iam::123456789012:role/berth"
}

CreateEndpointConfig
{
  "EndpointConfigName": "flowers-20260102",
  "ProductionVariants": [
    {
      "VariantName": "AllTraffic",
      "ModelName": "flowers-20260102",
      "InstanceType": "ml.m5.large",
      "InitialInstanceCount": 1,
      "InitialVariantWeight": 1.0
    }
  ]
}

CreateEndpoint
{
  "EndpointName": "flowers",
  "EndpointConfigName": "flowers-20260102"
}

IAM policy: for the caller of these operations
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": [
        "sagemaker:CreateModel",
        "sagemaker:DeleteModel",
        "sagemaker:DescribeModel"
      ],
      "Resource": "arn:aws:sagemaker:us-east-1:123456789012:model/flowers-20260102"
    },
    {
      "Effect": "Allow",
      "Action": [
        "iam:PassRole"
      ],
      "Resource": "arn:aws:iam::123456789012:role/berth",
      "Condition": {
        "StringEquals": {
          "iam:PassedToService": "sagemaker.amazonaws.com"
        }
      }
    },
    {
      "Effect": "Allow",
      "Action": [
        "sagemaker:CreateEndpointConfig",
        "sagemaker:DeleteEndpointConfig",
        "sagemaker:DescribeEndpointConfig"
      ],
      "Resource": "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/flowers-20260102"
    },
    {
      "Effect": "Allow",
      "Action": [
        "sagemaker:CreateEndpoint",
        "sagemaker:DeleteEndpoint",
        "sagemaker:DescribeEndpoint"
      ],
      "Resource": [
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/flowers",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/flowers-20260102"
      ]
    },
    {
      "Effect": "Allow",
      "Action": [
        "logs:DescribeLogStreams",
        "logs:FilterLogEvents",
        "logs:GetLogEvents"
      ],
      "Resource": "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/flowers:*"
    }
  ]
}

IAM policy: for the role arn:aws:iam::123456789012:role/berth
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": [
        "ecr:GetAuthorizationToken"
      ],
      "Resource": "*"
    },
    {
      "Effect": "Allow",
      "Action": [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer"
      ],
      "Resource": "arn:aws:ecr:us-east-1:123456789012:repository/berth"
    },
    {
      "Effect": "Allow",
      "Action": [
        "s3:GetObject"
      ],
      "Resource": "arn:aws:s3:::bucket/job/model.tar.gz*"
    },
    {
      "Effect": "Allow",
      "Action": [
        "s3:ListBucket"
      ],
      "Resource": "arn:aws:s3:::bucket"
    },
    {
      "Effect": "Allow",
      "Action": [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents"
      ],
      "Resource": "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/*"
    },
    {
      "Effect": "Allow",
      "Action": [
        "cloudwatch:PutMetricData"
      ],
      "Resource": "*",
      "Condition": {
        "StringLike": {
          "cloudwatch:namespace": [
            "/aws/sagemaker/*"
          ]
        }
      }
    }
  ]
}

maximum cost
  endpoint, variant AllTraffic, per month: 83.95 USD (1 x ml.m5.large at 0.115 USD/h: 0.115 USD an \
hour, 2.76 a day, 83.95 a month, until it is deleted)
  instances on demand in us-east-1, 2026-11-21; storage and transfer are extra; check \
aws.amazon.com/sagemaker/pricing

nothing was sent, nothing was created
"""


def shown(target: Target, requests: list[tuple[str, dict[str, Any]]]) -> str:
    out = io.StringIO()
    show(target, requests, Console(file=out, width=60))
    return out.getvalue()


def test_the_whole_page() -> None:
    requests = [
        ("CreateModel", HOSTING.model()),
        ("CreateEndpointConfig", HOSTING.endpoint_config()),
        ("CreateEndpoint", HOSTING.endpoint()),
    ]
    assert shown(PLACE, requests) == EXPECTED


def test_the_local_sagemaker_is_free_and_the_aws_price_is_shown() -> None:
    target = replace(PLACE, where="local")
    requests = [
        ("CreateEndpointConfig", HOSTING.endpoint_config()),
        ("CreateEndpoint", HOSTING.endpoint(timedelta(hours=2))),
    ]
    page = shown(target, requests)
    assert "the local SageMaker" in page
    assert "maximum cost: nothing on this machine; on AWS" in page
    assert "0.23 USD" in page
    assert '"berth:ttl"' in page


def test_prices_differ_in_other_regions() -> None:
    page = shown(replace(PLACE, region="eu-west-1"), [("CreateModel", HOSTING.model())])
    assert "eu-west-1" in page
    config = [("CreateEndpointConfig", HOSTING.endpoint_config())]
    assert "eu-west-1 may differ" in shown(replace(PLACE, region="eu-west-1"), config)


def test_markup_in_a_request_is_shown_literally() -> None:
    request = {"ModelName": "m", "ExecutionRoleArn": ROLE, "Tags": [{"Key": "[red]", "Value": "é"}]}
    assert '"Key": "[red]"' in shown(PLACE, [("CreateModel", request)])
