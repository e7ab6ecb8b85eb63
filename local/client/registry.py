"""Repositories, logins and image manifests of ECR and other registries."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from local.errors import UserError, code
from local.image import ACCEPTED_MANIFEST, manifest_problem

MANIFESTS = (
    ACCEPTED_MANIFEST,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
"""Every manifest format ECR may store, whether or not SageMaker accepts it."""
UNTAGGED_DAYS = 14
"""Days after which ECR deletes an untagged image."""


@dataclass(frozen=True)
class Login:
    """A registry and the credentials for it; its repr does not contain the password.

    Attributes:
        host: the registry's host, with a port if there is one.
        auth: the engine API's `auth_config`, `{"username", "password"}`; None for the engine's own.
    """

    host: str
    auth: dict[str, str] | None = None

    def __repr__(self) -> str:
        """The host only."""
        return f"Login({self.host!r})"


def create_requests(
    repository: str, *, immutable: bool, tags: dict[str, str]
) -> list[tuple[str, dict[str, Any]]]:
    """The CreateRepository and PutLifecyclePolicy requests."""
    policy = {
        "rules": [
            {
                "rulePriority": 1,
                "description": "untagged images",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": UNTAGGED_DAYS,
                },
                "action": {"type": "expire"},
            }
        ]
    }
    return [
        (
            "CreateRepository",
            {
                "repositoryName": repository,
                "imageTagMutability": "IMMUTABLE" if immutable else "MUTABLE",
                "imageScanningConfiguration": {"scanOnPush": True},
                "tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            },
        ),
        (
            "PutLifecyclePolicy",
            {"repositoryName": repository, "lifecyclePolicyText": json.dumps(policy)},
        ),
    ]


def ensure_repository(
    ecr: Any, repository: str, *, immutable: bool, tags: dict[str, str]
) -> tuple[str, bool]:
    """The repository's URI and whether it was created; an existing one is not changed."""
    try:
        found = ecr.describe_repositories(repositoryNames=[repository])
        return str(found["repositories"][0]["repositoryUri"]), False
    except Exception as error:
        if code(error) != "RepositoryNotFoundException":
            raise
    (_, create), (_, lifecycle) = create_requests(repository, immutable=immutable, tags=tags)
    created = ecr.create_repository(**create)
    ecr.put_lifecycle_policy(**lifecycle)
    return str(created["repository"]["repositoryUri"]), True


def log_in(ecr: Any) -> Login:
    """A login for the account's registry, with a token that is valid for twelve hours."""
    data = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    host = data["proxyEndpoint"].partition("://")[2] or data["proxyEndpoint"]
    return Login(host.rstrip("/"), {"username": user, "password": password})


def ecr_digest(ecr: Any, repository: str, tag: str) -> str:
    """The digest of a tag in ECR.

    Raises:
        UserError: ECR has no such image, or SageMaker would reject it.
    """
    response = ecr.batch_get_image(
        repositoryName=repository,
        imageIds=[{"imageTag": tag}],
        acceptedMediaTypes=list(MANIFESTS),
    )
    if not response["images"]:
        raise UserError(f"{repository}:{tag}: ECR does not have the image after the push")
    image = response["images"][0]
    manifest = json.loads(image["imageManifest"])
    media_type = image.get("imageManifestMediaType") or manifest.get("mediaType")
    check(f"{repository}:{tag}", manifest | ({"mediaType": media_type} if media_type else {}))
    return str(image["imageId"]["imageDigest"])


def registry_digest(engine: Any, name: str, auth: dict[str, str] | None = None) -> str:
    """The digest of `host/repository:tag` in a registry, queried through the engine.

    Raises:
        UserError: the registry has no such image or is unreachable, or SageMaker would reject it.
    """
    from docker.errors import APIError

    try:
        descriptor = engine.images.get_registry_data(name, auth_config=auth).attrs["Descriptor"]
    except APIError as error:
        raise UserError(f"{name}: {error.explanation or error}") from None
    check(name, descriptor)
    return str(descriptor["digest"])


def check(name: str, manifest: dict[str, Any]) -> None:
    """Check that SageMaker would accept a manifest, or the descriptor of one.

    Raises:
        UserError: it would not.
    """
    problem = manifest_problem(manifest)
    if problem:
        raise UserError(f"{name}: {problem}")
