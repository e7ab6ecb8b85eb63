import json
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from local.emulator.aws.journal import Journal
from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import Signed, client, serve

MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {},
        "layers": [],
    }
)
POLICY = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "description": "few",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "imageCountMoreThan",
                    "countNumber": 10,
                },
                "action": {"type": "expire"},
            }
        ]
    }
)

DOCUMENT = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
)


def test_roles_keep_their_id_policies_and_date_after_a_restart(home: Home) -> None:
    with serve(home) as server:
        iam = client(server.url, "iam")
        iam.create_role(RoleName="runner", AssumeRolePolicyDocument="{}", Path="/service/")
        iam.attach_role_policy(RoleName="runner", PolicyArn=_policy(iam, "full")["Arn"])
        iam.put_role_policy(RoleName="runner", PolicyName="inline", PolicyDocument=DOCUMENT)
        key = iam.create_access_key(UserName=iam.create_user(UserName="me")["User"]["UserName"])
        iam.create_role(RoleName="gone", AssumeRolePolicyDocument="{}")
        iam.delete_role(RoleName="gone")
        before = _roles(iam)
    with serve(home) as server:
        iam = client(server.url, "iam")
        assert _roles(iam) == before
        keys = iam.list_access_keys(UserName="me")["AccessKeyMetadata"]
        assert [item["AccessKeyId"] for item in keys] == [key["AccessKey"]["AccessKeyId"]]
        assert {role["RoleName"] for role in before[0]} == {"berth", "runner"}


def _policy(iam: Any, name: str) -> Any:
    return iam.create_policy(PolicyName=name, PolicyDocument=DOCUMENT)["Policy"]


def _roles(iam: Any) -> Any:
    return (
        iam.list_roles()["Roles"],
        iam.list_attached_role_policies(RoleName="runner")["AttachedPolicies"],
        iam.list_role_policies(RoleName="runner")["PolicyNames"],
    )


def test_repositories_keep_their_policy_and_images_after_a_restart(home: Home) -> None:
    with serve(home) as server:
        ecr = client(server.url, "ecr")
        ecr.create_repository(
            repositoryName="berth", imageScanningConfiguration={"scanOnPush": True}
        )
        for _ in range(3):
            ecr.put_lifecycle_policy(repositoryName="berth", lifecyclePolicyText=POLICY)
        ecr.put_image(repositoryName="berth", imageManifest=MANIFEST, imageTag="one")
        before = _repository(ecr)
    with serve(home) as server:
        assert _repository(client(server.url, "ecr")) == before
        journal = Journal(home.path / "requests.sqlite")
        assert [kept.service for _, kept in journal.numbered()] == ["iam"] + ["ecr"] * 3
        journal.close()


def _repository(ecr: Any) -> Any:
    return (
        ecr.describe_repositories()["repositories"],
        ecr.get_lifecycle_policy(repositoryName="berth")["lifecyclePolicyText"],
        ecr.describe_images(repositoryName="berth")["imageDetails"],
    )


def test_bucket_settings_survive_a_restart_and_a_deleted_bucket_stays_deleted(home: Home) -> None:
    with serve(home) as server:
        s3 = client(server.url, "s3", "eu-west-1")
        where = {"LocationConstraint": "eu-west-1"}
        s3.create_bucket(Bucket="kept", CreateBucketConfiguration=where)
        s3.create_bucket(Bucket="gone", CreateBucketConfiguration=where)
        s3.put_object(Bucket="gone", Key="x", Body=b"x")
        with pytest.raises(ClientError, match="BucketNotEmpty"):
            s3.delete_bucket(Bucket="gone")
        s3.delete_objects(Bucket="gone", Delete={"Objects": [{"Key": "x"}]})
        s3.delete_bucket(Bucket="gone")
        s3.put_bucket_tagging(Bucket="kept", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    with serve(home) as server:
        s3 = client(server.url, "s3", "eu-west-1")
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["kept"]
        assert s3.get_bucket_location(Bucket="kept")["LocationConstraint"] == "eu-west-1"
        assert s3.get_bucket_tagging(Bucket="kept")["TagSet"] == [{"Key": "a", "Value": "b"}]


def test_a_refused_request_is_not_written_to_the_journal(home: Home) -> None:
    with serve(home) as server:
        ecr = client(server.url, "ecr")
        ecr.create_repository(repositoryName="berth")
        with pytest.raises(ClientError, match="RepositoryAlreadyExistsException"):
            ecr.create_repository(repositoryName="berth")
    journal = Journal(home.path / "requests.sqlite")
    assert [kept.service for _, kept in journal.numbered()] == ["iam"] + ["ecr"] * 1
    journal.close()


def test_every_action_is_allowed(server: Server) -> None:
    iam = client(server.url, "iam")
    role = iam.create_role(RoleName="runner", AssumeRolePolicyDocument="{}")["Role"]
    actions = ["s3:GetObject", "s3:PutObject", "ecr:BatchGetImage"]
    answer = iam.simulate_principal_policy(PolicySourceArn=role["Arn"], ActionNames=actions)
    decisions = [
        (item["EvalActionName"], item["EvalDecision"]) for item in answer["EvaluationResults"]
    ]
    assert decisions == [(action, "allowed") for action in actions]
    assert answer["IsTruncated"] is False
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=role["Arn"],
        ActionNames=actions,
        ResourceArns=["arn:aws:s3:::a", "arn:aws:s3:::b"],
        PaginationConfig={"PageSize": 4},
    )
    sizes = [len(page["EvaluationResults"]) for page in pages]
    assert sizes == [4, 2]


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("ec2", "describe_instances"),
        ("lambda", "list_functions"),
        ("dynamodb", "list_tables"),
        ("sqs", "list_queues"),
    ],
)
def test_another_service_is_an_error_that_names_what_there_is(
    server: Server, service: str, operation: str
) -> None:
    with pytest.raises(ClientError) as error:
        getattr(client(server.url, service), operation)()
    assert "it has sagemaker" in error.value.response["Error"]["Message"]
    assert error.value.response["Error"]["Code"] == "UnknownService"


def test_an_operation_missing_from_moto_is_not_implemented(server: Server) -> None:
    with pytest.raises(ClientError) as error:
        client(server.url, "logs").get_log_record(logRecordPointer="x")
    assert error.value.response["Error"]["Code"] == "NotImplemented"


def test_the_caller_is_the_local_account(server: Server) -> None:
    assert client(server.url, "sts").get_caller_identity()["Account"] == "123456789012"


def test_a_presigned_url_works_without_a_signature_in_the_header(server: Server) -> None:
    s3 = client(server.url, "s3", signature_version="s3v4")
    s3.create_bucket(Bucket="bucket")
    put = s3.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "a b"})
    assert requests.put(put, data=b"bytes", timeout=60).status_code == 200
    get = s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "a b"})
    assert requests.get(get, timeout=60).content == b"bytes"
    assert requests.get(f"{server.url}/bucket/a b", timeout=60).status_code == 403


def test_a_bucket_in_the_host_name(server: Server) -> None:
    with requests.Session() as session:
        session.headers["Host"] = f"bucket.localhost:{server.port}"
        session.auth = Signed(server.url)
        assert session.put(server.url, timeout=60).status_code == 200
        url = f"{server.url}/folder/key"
        assert session.put(url, b"bytes", timeout=60).status_code == 200
        assert server.services.objects.read("bucket", "folder/key") == b"bytes"
        assert session.get(url, timeout=60).content == b"bytes"


def test_the_reset_page_of_moto_is_not_served(server: Server) -> None:
    client(server.url, "s3").create_bucket(Bucket="bucket")
    requests.post(f"{server.url}/moto-api/reset", timeout=60)
    assert server.services.objects.bucket_exists("bucket")


def test_a_role_for_sagemaker_exists_from_the_start(home: Home) -> None:
    for _ in range(2):
        with serve(home) as server:
            role = client(server.url, "iam").get_role(RoleName="berth")["Role"]
            (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
            assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}


@pytest.mark.parametrize(
    "name", ["Photos", "my_photos", "ab", "-photos", "photos.", "a..b", "127.0.0.1", "x" * 64]
)
def test_invalid_bucket_names_are_refused(server: Server, name: str) -> None:
    s3 = client(server.url, "s3")
    with pytest.raises(ClientError, match=f"found '{name}', expected 3 to 63") as caught:
        s3.create_bucket(Bucket=name)
    assert caught.value.response["Error"]["Code"] == "InvalidBucketName"
    assert s3.list_buckets()["Buckets"] == []


def test_alarms_survive_a_restart(home: Home) -> None:
    alarm = {
        "AlarmName": "slow",
        "Namespace": "mine",
        "MetricName": "latency",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 0.5,
        "Statistic": "Average",
        "ComparisonOperator": "GreaterThanThreshold",
    }
    with serve(home) as server:
        cloudwatch = client(server.url, "cloudwatch")
        for threshold in (0.25, 0.5):
            cloudwatch.put_metric_alarm(**alarm | {"Threshold": threshold})
    with serve(home) as server:
        [found] = client(server.url, "cloudwatch").describe_alarms()["MetricAlarms"]
        assert {name: found[name] for name in alarm} == alarm


def test_earlier_state_of_moto_is_cleared(tmp_path: Path) -> None:
    """moto's state belongs to the process, in which other servers may have run before."""
    for name in ("one", "two"):
        with serve(Home.find(tmp_path / name)) as server:
            iam, cloudwatch = client(server.url, "iam"), client(server.url, "cloudwatch")
            assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["berth"]
            assert cloudwatch.list_metrics()["Metrics"] == []
            iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
            point = {"MetricName": name, "Value": 1}
            cloudwatch.put_metric_data(Namespace="mine", MetricData=[point])
