"""What of the journal is not needed any more: a thing that is deleted, and all that was done to it.

A request is known by what it names (its members and its answer's), and by its subject if it sets
something as a whole. When something is deleted, what named it is forgotten, the deletion too.
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
"""Operations that set something as a whole, and the members that name it."""
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
"""Operations that take back what another sets, which nothing else can have set: with the two of
them gone it is as before."""
SAME = {
    "DeleteRolePermissionsBoundary": "PutRolePermissionsBoundary",
    "DeleteUserPermissionsBoundary": "PutUserPermissionsBoundary",
}
"""Operations that take back what a resource may also have been created with: they are kept."""
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
"""Operations that delete a thing, and the member that names it."""
_NAMING = {*DELETED.values(), "Arn", "resourceArn"}
_ARNS = {
    "PolicyArn",
    "SerialNumber",
    "SAMLProviderArn",
    "OpenIDConnectProviderArn",
}
"""Members that hold an ARN, which an answer calls so or `Arn`."""
_REPOSITORY = re.compile(r"arn:[^:]+:ecr:.*?:repository/(?P<name>[^:]+)")
_LEAF = re.compile(r"<(\w+)>([^<>]+)</")


Place = list[str]
"""Where names are told apart: a service and a region, of which IAM has none."""


def compact(journal: Journal, number: int, request: Request, answer: str) -> None:
    """Forget what need not be sent again after a request that was granted."""
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
    # A tag that moved from one image to another, or an image that keeps a tag: all is needed.
    moved = journal.named(tags_of_all, number).keys() - pushed.keys()
    if pushed and not moved and (by_digest or tags_of_all <= tags):
        for name in digests:
            journal.forget(name, number)
        journal.remove(number)


def _subject_of(place: Place, operation: str, members: dict[str, Any]) -> str | None:
    """What a request sets, as a whole; a later one with the same subject replaces it."""
    if operation.startswith(("Tag", "Untag")):
        keys = sorted({str(key) for key in _tag_keys(members)})
        return json.dumps([*place, "tags", sorted(_names_of(place, members, "")), keys])
    setter = SAME.get(operation, UNDONE.get(operation, operation))
    if setter not in SUBJECTS:
        return None
    return json.dumps([*place, setter, *(members.get(member) for member in SUBJECTS[setter])])


def _names_of(place: Place, members: dict[str, Any], answer: str) -> set[str]:
    """What a request and its answer (XML; JSON names nothing more) name."""
    leaves = _LEAF.findall(answer) if answer.lstrip().startswith("<") else []
    found = set()
    for member, value in [*members.items(), *leaves]:
        if member in _NAMING and isinstance(value, str):
            found.add(_name(place, member, value))
    return found


def _images_of(place: Place, members: dict[str, Any], answer: str) -> tuple[set[str], set[str]]:
    """Digests and tags, as names, of the images that PutImage or BatchDeleteImage answers with."""
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
    """The keys of a request's tags, in any of the protocols."""
    for member, value in members.items():
        if re.fullmatch(r"Tags\.member\.\d+\.Key|TagKeys\.member\.\d+", member):
            yield value
        elif member in ("tags", "tagKeys", "Tags", "TagKeys"):
            for one in value:
                yield one.get("Key", one.get("key")) if isinstance(one, dict) else one
