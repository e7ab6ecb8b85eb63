import json
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from local.client.registry import Login, create_requests, ecr_digest, ensure_repository, log_in
from local.client.target import Target
from local.errors import UserError

MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 2,
        "digest": "sha256:" + "a" * 64,
    },
    "layers": [
        {
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": 2,
            "digest": "sha256:" + "b" * 64,
        }
    ],
}


def test_the_requests_are_valid_for_ecr() -> None:
    model = botocore.session.get_session().get_service_model("ecr")
    (create, created), (policy, lifecycle) = create_requests(
        "berth", immutable=True, tags={"a": "b"}
    )
    for operation, request in ((create, created), (policy, lifecycle)):
        shape = model.operation_model(operation).input_shape
        report = ParamValidator().validate(request, shape)
        assert not report.has_errors(), report.generate_report()
    assert created["imageScanningConfiguration"] == {"scanOnPush": True}
    assert created["imageTagMutability"] == "IMMUTABLE"
    (rule,) = json.loads(lifecycle["lifecyclePolicyText"])["rules"]
    assert rule["selection"]["tagStatus"] == "untagged"
    assert rule["action"] == {"type": "expire"}


def test_a_repository_is_created_once(moto_target: Target) -> None:
    ecr = moto_target.client("ecr")
    uri, made = ensure_repository(ecr, "team/berth", immutable=False, tags={"a": "b"})
    assert uri == "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/berth"
    assert made
    (found,) = ecr.describe_repositories(repositoryNames=["team/berth"])["repositories"]
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["imageTagMutability"] == "MUTABLE"
    policy = ecr.get_lifecycle_policy(repositoryName="team/berth")["lifecyclePolicyText"]
    assert json.loads(policy)["rules"][0]["selection"]["tagStatus"] == "untagged"
    again = ensure_repository(ecr, "team/berth", immutable=True, tags={})
    assert again == (uri, False)
    (found,) = ecr.describe_repositories(repositoryNames=["team/berth"])["repositories"]
    assert found["imageTagMutability"] == "MUTABLE"  # the existing repository is unchanged


def test_the_login_does_not_show_its_token(moto_target: Target) -> None:
    login = log_in(moto_target.client("ecr"))
    assert login.host == "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    assert login.auth == {"username": "AWS", "password": "123456789012-auth-token"}
    assert "token" not in repr(login)
    assert "token" not in repr([login])


def test_the_digest_is_read_from_ecr(moto_target: Target) -> None:
    ecr = moto_target.client("ecr")
    ensure_repository(ecr, "berth", immutable=False, tags={})
    put = ecr.put_image(
        repositoryName="berth", imageTag="latest", imageManifest=json.dumps(MANIFEST)
    )
    assert ecr_digest(ecr, "berth", "latest") == put["image"]["imageId"]["imageDigest"]
    with pytest.raises(UserError, match="berth:other: ECR does not have the image"):
        ecr_digest(ecr, "berth", "other")


INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@pytest.mark.parametrize("typed", [True, False])
def test_an_index_in_ecr_is_refused(typed: bool) -> None:
    manifest: dict[str, Any] = {"schemaVersion": 2, "manifests": [{"digest": "sha256:1"}]}
    image: dict[str, Any] = {
        "imageManifest": json.dumps(manifest),
        "imageId": {"imageDigest": "sha256:" + "c" * 64},
    }
    if typed:
        image["imageManifestMediaType"] = INDEX_TYPE

    class Ecr:
        asked: dict[str, Any]

        def batch_get_image(self, **request: Any) -> dict[str, Any]:
            self.asked = request
            return {"images": [image]}

    ecr = Ecr()
    with pytest.raises(UserError, match="berth:latest: manifest: found .*--provenance=false"):
        ecr_digest(ecr, "berth", "latest")
    assert INDEX_TYPE in ecr.asked["acceptedMediaTypes"]


def test_a_login_needs_no_password() -> None:
    assert Login("127.0.0.1:5000").auth is None
