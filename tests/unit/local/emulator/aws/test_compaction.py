"""The journal stays small, however often resources are created and deleted."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from local.emulator.aws.journal import Journal
from local.emulator.aws.requests import Request
from local.emulator.home import Home
from tests.unit.local.emulator.aws.test_application import DOCUMENT, MANIFEST, POLICY
from tests.unit.local.emulator.server_harness import client, serve

CYCLES = 3
Cycle = Callable[[Any, int], None]


def role(iam: Any, n: int) -> None:
    name = f"role-{n}"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=DOCUMENT)
    iam.tag_role(RoleName=name, Tags=[{"Key": "a", "Value": "b"}])
    iam.delete_role_policy(RoleName=name, PolicyName="inline")
    iam.delete_role(RoleName=name)


def policy(iam: Any, n: int) -> None:
    arn = iam.create_policy(PolicyName=f"p-{n}", PolicyDocument=DOCUMENT)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="berth", PolicyArn=arn)
    iam.detach_role_policy(RoleName="berth", PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)


def inline_policy(iam: Any, n: int) -> None:
    iam.put_role_policy(RoleName="berth", PolicyName=f"p-{n}", PolicyDocument=DOCUMENT)
    iam.delete_role_policy(RoleName="berth", PolicyName=f"p-{n}")


def user(iam: Any, n: int) -> None:
    name = f"user-{n}"
    iam.create_user(UserName=name)
    iam.create_group(GroupName=name)
    iam.add_user_to_group(UserName=name, GroupName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]["AccessKeyId"]
    iam.create_login_profile(UserName=name, Password="a pass word 1A")
    iam.delete_login_profile(UserName=name)
    iam.delete_access_key(UserName=name, AccessKeyId=key)
    iam.remove_user_from_group(UserName=name, GroupName=name)
    iam.delete_group(GroupName=name)
    iam.delete_user(UserName=name)


def instance_profile(iam: Any, n: int) -> None:
    name = f"profile-{n}"
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName="berth")
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName="berth")
    iam.delete_instance_profile(InstanceProfileName=name)


def tags(iam: Any, n: int) -> None:
    iam.tag_role(RoleName="berth", Tags=[{"Key": "a", "Value": str(n)}])
    iam.untag_role(RoleName="berth", TagKeys=["a"])


def repository(ecr: Any, n: int) -> None:
    name = f"repository-{n}"
    ecr.create_repository(repositoryName=name)
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=POLICY)
    ecr.put_image(repositoryName=name, imageManifest=MANIFEST, imageTag="one")
    ecr.delete_repository(repositoryName=name, force=True)


def image(ecr: Any, n: int) -> None:
    if n == 0:
        ecr.create_repository(repositoryName="images")
    manifest = json.dumps(json.loads(MANIFEST) | {"annotations": {"n": str(n)}})
    ecr.put_image(repositoryName="images", imageManifest=manifest, imageTag=f"t-{n}")
    ecr.batch_delete_image(repositoryName="images", imageIds=[{"imageTag": f"t-{n}"}])


def rows(home: Home) -> int:
    journal = Journal(home.path / "requests.sqlite")
    try:
        return len(journal.numbered())
    finally:
        journal.close()


def test_deleted_resources_are_removed_from_the_journal(home: Home) -> None:
    cycles: dict[Cycle, tuple[str, int]] = {
        role: ("iam", 0),
        policy: ("iam", 0),
        inline_policy: ("iam", 0),
        user: ("iam", 0),
        instance_profile: ("iam", 0),
        tags: ("iam", 1),
        repository: ("ecr", 0),
        image: ("ecr", 1),
    }
    with serve(home) as server:
        client(server.url, "iam").list_roles()
        for cycle, (service, left) in cycles.items():
            before = rows(home)
            for n in range(CYCLES):
                cycle(client(server.url, service), n)
            assert rows(home) - before == left, cycle.__name__
    with serve(home) as server:
        assert {one["RoleName"] for one in client(server.url, "iam").list_roles()["Roles"]} == {
            "berth"
        }
        assert client(server.url, "iam").list_role_tags(RoleName="berth")["Tags"] == []


def test_resources_with_the_same_name_are_kept(home: Home) -> None:
    other = json.dumps(json.loads(MANIFEST) | {"annotations": {"other": "1"}})
    with serve(home) as server:
        iam, ecr = client(server.url, "iam"), client(server.url, "ecr")
        far = client(server.url, "ecr", "eu-west-1")
        # A user, a group and a role with one name; a repository with one name in two regions.
        iam.create_user(UserName="same")
        iam.create_group(GroupName="same")
        iam.create_role(RoleName="same", AssumeRolePolicyDocument="{}")
        iam.delete_user(UserName="same")
        for one in (ecr, far):
            one.create_repository(repositoryName="same")
        ecr.delete_repository(repositoryName="same")
        # A tag that moved, and an image with two tags.
        for manifest, tag in ((MANIFEST, "a"), (other, "a"), (MANIFEST, "b"), (MANIFEST, "c")):
            far.put_image(repositoryName="same", imageManifest=manifest, imageTag=tag)
        far.batch_delete_image(repositoryName="same", imageIds=[{"imageTag": "b"}])
        before = _images(far)
    with serve(home) as server:
        iam = client(server.url, "iam")
        assert [one["GroupName"] for one in iam.list_groups()["Groups"]] == ["same"]
        assert iam.get_role(RoleName="same")["Role"]["RoleName"] == "same"
        assert iam.list_users()["Users"] == []
        assert client(server.url, "ecr").describe_repositories()["repositories"] == []
        assert _images(client(server.url, "ecr", "eu-west-1")) == before


def _images(ecr: Any) -> list[tuple[str, list[str]]]:
    found = ecr.describe_images(repositoryName="same")["imageDetails"]
    return sorted((one["imageDigest"], sorted(one.get("imageTags", []))) for one in found)


def test_a_journal_of_an_older_version_is_compacted(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> None:
        pass

    with monkeypatch.context() as patched, serve(home) as server:
        for method in ("name", "settle", "forget", "unset"):
            patched.setattr(Journal, method, nothing)
        for n in range(CYCLES):
            role(client(server.url, "iam"), n)
        assert rows(home) == 1 + CYCLES * 5
    with serve(home) as server:
        client(server.url, "iam").list_roles()
    assert rows(home) == 1


def test_buckets_and_log_groups_of_an_older_journal_are_imported(home: Home) -> None:
    region = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint>"
    bucket = f"{region}</CreateBucketConfiguration>".encode()
    group = json.dumps({"logGroupName": "/kept"}).encode()
    target = {"HTTP_X_AMZ_TARGET": "Logs_20140328.CreateLogGroup"}
    journal = Journal(home.path / "requests.sqlite")
    host = {"HTTP_HOST": "127.0.0.1"}
    journal.add(Request("s3", "eu-west-1", "PUT", "/kept", host, bucket))
    journal.add(Request("s3", "us-east-1", "PUT", "/gone", host, b""))
    journal.add(Request("s3", "us-east-1", "DELETE", "/gone", host, b""))
    journal.add(Request("logs", "eu-west-1", "POST", "/", host | target, group))
    journal.close()
    for _ in range(2):
        with serve(home) as server:
            [found] = client(server.url, "s3").list_buckets()["Buckets"]
            assert (found["Name"], found["BucketRegion"]) == ("kept", "eu-west-1")
            groups = client(server.url, "logs", "eu-west-1").describe_log_groups()["logGroups"]
            assert [found["logGroupName"] for found in groups] == ["/kept"]
        assert rows(home) == 0
