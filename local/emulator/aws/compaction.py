"""Compacts the journal: deletes requests that later requests have replaced or undone.

A request is indexed by the resources in its members and response, and by its subject if it replaces
a whole setting. When a resource is deleted, all requests that name it are deleted, including the
deletion.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from local.emulator.aws.journal import Journal
from local.emulator.aws.requests import Request

SUBJECTS = {
    "PutLifecyclePolicy": ("repositoryName",),
    "SetRepositoryPolicy": ("repositoryName",),
    "PutImageScanningConfiguration": ("repositoryName",),
    "PutImageTagMutability": ("repositoryName",),
    "PutRegistryPolicy": (),
    "PutRolePolicy": ("RoleName", "PolicyName"),
    "PutUserPolicy": ("UserName", "PolicyName"),
    "PutGroupPolicy": ("GroupName", "PolicyName"),
    "AttachRolePolicy": ("RoleName", "PolicyArn"),
    "AttachUserPolicy": ("UserName", "PolicyArn"),
    "AttachGroupPolicy": ("GroupName", "PolicyArn"),
    "AddRoleToInstanceProfile": ("InstanceProfileName", "RoleName"),
    "AddUserToGroup": ("GroupName", "UserName"),
    "PutRolePermissionsBoundary": ("RoleName",),
    "PutUserPermissionsBoundary": ("UserName",),
    "UpdateAssumeRolePolicy": ("RoleName",),
    "UpdateAccountPasswordPolicy": (),
    "CreateLoginProfile": ("UserName",),
    "CreateAccountAlias": ("AccountAlias",),
    "PutMetricAlarm": ("AlarmName",),
    "PutDashboard": ("DashboardName",),
}
"""Operations that replace a whole setting, and the members that identify it."""
UNDONE = {
    "DeleteLifecyclePolicy": "PutLifecyclePolicy",
    "DeleteRepositoryPolicy": "SetRepositoryPolicy",
    "DeleteRegistryPolicy": "PutRegistryPolicy",
    "DeleteRolePolicy": "PutRolePolicy",
    "DeleteUserPolicy": "PutUserPolicy",
    "DeleteGroupPolicy": "PutGroupPolicy",
    "DetachRolePolicy": "AttachRolePolicy",
    "DetachUserPolicy": "AttachUserPolicy",
    "DetachGroupPolicy": "AttachGroupPolicy",
    "RemoveRoleFromInstanceProfile": "AddRoleToInstanceProfile",
    "RemoveUserFromGroup": "AddUserToGroup",
    "DeleteAccountPasswordPolicy": "UpdateAccountPasswordPolicy",
    "DeleteLoginProfile": "CreateLoginProfile",
    "DeleteAccountAlias": "CreateAccountAlias",
}
"""Operations that delete a setting, and the only operation that creates it: without both requests,
the state is the same."""
SAME = {
    "DeleteRolePermissionsBoundary": "PutRolePermissionsBoundary",
    "DeleteUserPermissionsBoundary": "PutUserPermissionsBoundary",
}
"""Operations that delete a setting which CreateRole or CreateUser may have made: they are kept."""
DELETED = {
    "DeleteRole": "RoleName",
    "DeleteServiceLinkedRole": "RoleName",
    "DeleteUser": "UserName",
    "DeleteGroup": "GroupName",
    "DeletePolicy": "PolicyArn",
    "DeleteInstanceProfile": "InstanceProfileName",
    "DeleteAccessKey": "AccessKeyId",
    "DeleteServerCertificate": "ServerCertificateName",
    "DeleteSigningCertificate": "CertificateId",
    "DeleteSSHPublicKey": "SSHPublicKeyId",
    "DeleteVirtualMFADevice": "SerialNumber",
    "DeleteSAMLProvider": "SAMLProviderArn",
    "DeleteOpenIDConnectProvider": "OpenIDConnectProviderArn",
    "DeleteRepository": "repositoryName",
}
"""Operations that delete a resource, and the member that names it."""
_NAMING = {*DELETED.values(), "Arn", "resourceArn"}
_ARNS = {
    "PolicyArn",
    "SerialNumber",
    "SAMLProviderArn",
    "OpenIDConnectProviderArn",
}
"""Members that hold an ARN; responses use the same name or `Arn`."""
_REPOSITORY = re.compile(r"arn:[^:]+:ecr:.*?:repository/(?P<name>[^:]+)")
_LEAF = re.compile(r"<(\w+)>([^<>]+)</")


Place = list[str]
"""The service and region within which names are unique; the region is empty for IAM."""


def compact(journal: Journal, number: int, request: Request, answer: str) -> None:
    """Delete the requests that are not needed after a successful request."""
    place = [request.service, "" if request.service == "iam" else request.region]
    operation, members = request.operation, request.members
    journal.name(number, _names_of(place, members, answer))
    subject = _subject_of(place, operation, members)
    if subject is not None:
        journal.settle(number, subject)
        if operation in UNDONE:
            journal.unset(subject, number)
    deleted = members.get(DELETED.get(operation, ""))
    if isinstance(deleted, str):
        journal.forget(_name(place, DELETED[operation], deleted), number)
    if operation in ("PutImage", "BatchDeleteImage"):
        _compact_images(journal, number, place, request, answer)


def _compact_images(
    journal: Journal, number: int, place: Place, request: Request, answer: str
) -> None:
    digests, tags = _images_of(place, request.members, answer)
    if request.operation == "PutImage":
        journal.name(number, digests | tags)
        return
    pushed = journal.named(digests, number)
    known = set().union(*pushed.values())
    tags_of_all = {name for name in known if json.loads(name)[2] == "imageTag"}
    by_digest = all("imageDigest" in one for one in request.members["imageIds"])
    # If a tag moved between images, or an image keeps a tag, all requests are needed.
    moved = journal.named(tags_of_all, number).keys() - pushed.keys()
    if pushed and not moved and (by_digest or tags_of_all <= tags):
        for name in digests:
            journal.forget(name, number)
        journal.remove(number)


def _subject_of(place: Place, operation: str, members: dict[str, Any]) -> str | None:
    """The setting that a request replaces; a later request with the same subject supersedes it."""
    if operation.startswith(("Tag", "Untag")):
        keys = sorted({str(key) for key in _tag_keys(members)})
        return json.dumps([*place, "tags", sorted(_names_of(place, members, "")), keys])
    setter = SAME.get(operation, UNDONE.get(operation, operation))
    if setter not in SUBJECTS:
        return None
    return json.dumps([*place, setter, *(members.get(member) for member in SUBJECTS[setter])])


def _names_of(place: Place, members: dict[str, Any], answer: str) -> set[str]:
    """The resources named in a request and its XML response; JSON responses have no others."""
    leaves = _LEAF.findall(answer) if answer.lstrip().startswith("<") else []
    found = set()
    for member, value in [*members.items(), *leaves]:
        if member in _NAMING and isinstance(value, str):
            found.add(_name(place, member, value))
    return found


def _images_of(place: Place, members: dict[str, Any], answer: str) -> tuple[set[str], set[str]]:
    """The digests and tags, as names, in the response of PutImage or BatchDeleteImage."""
    found = json.loads(answer)
    known = found["imageIds"] if "imageIds" in found else [found["image"]["imageId"]]
    repository = members.get("repositoryName")
    digests, tags = (
        {json.dumps([*place, member, repository, one[member]]) for one in known if member in one}
        for member in ("imageDigest", "imageTag")
    )
    return digests, tags


def _name(place: Place, member: str, value: str) -> str:
    if repository := _REPOSITORY.match(value):
        member, value = "repositoryName", repository["name"]
    return json.dumps([*place, "Arn" if member in _ARNS else member, value])


def _tag_keys(members: dict[str, Any]) -> Iterator[Any]:
    """The keys of a request's tags, in any protocol."""
    for member, value in members.items():
        if re.fullmatch(r"Tags\.member\.\d+\.Key|TagKeys\.member\.\d+", member):
            yield value
        elif member in ("tags", "tagKeys", "Tags", "TagKeys"):
            for one in value:
                yield one.get("Key", one.get("key")) if isinstance(one, dict) else one
