"""What of the journal is not needed any more: a thing that is gone, and all that was done to it.

A request is known by what it names (its members and its answer's), and by its subject if it sets
something as a whole. When something is deleted, what named it is forgotten, the deletion too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

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
    "PutRetentionPolicy": ("logGroupName",),
    "PutSubscriptionFilter": ("logGroupName", "filterName"),
    "PutMetricFilter": ("logGroupName", "filterName"),
    "PutResourcePolicy": ("policyName",),
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
    "DeleteRetentionPolicy": "PutRetentionPolicy",
    "DeleteSubscriptionFilter": "PutSubscriptionFilter",
    "DeleteMetricFilter": "PutMetricFilter",
    "DeleteResourcePolicy": "PutResourcePolicy",
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
    "DeleteLogGroup": "logGroupName",
}
"""Operations that delete a thing, and the member that names it."""
_NAMING = {*DELETED.values(), "Arn", "resourceArn", "logGroupIdentifier"}
_ARNS = {
    "PolicyArn",
    "SerialNumber",
    "SAMLProviderArn",
    "OpenIDConnectProviderArn",
}
"""Members that hold an ARN, which an answer calls so or `Arn`."""
_WITHIN = re.compile(r"arn:[^:]+:(?:ecr|logs):.*?:(?P<kind>repository/|log-group:)(?P<name>[^:]+)")
_LEAF = re.compile(r"<(\w+)>([^<>]+)</")


def place_of(service: str, region: str) -> list[str]:
    """Where names are told apart: IAM has no regions."""
    return [service, "" if service == "iam" else region]


def subject_of(place: list[str], operation: str, members: dict[str, Any]) -> str | None:
    """What a request sets, as a whole; a later one with the same subject replaces it."""
    if operation.startswith(("Tag", "Untag")):
        keys = sorted({str(key) for key in _tag_keys(members)})
        return json.dumps([*place, "tags", sorted(names_of(place, members, "")), keys])
    setter = SAME.get(operation, UNDONE.get(operation, operation))
    if setter not in SUBJECTS:
        return None
    return json.dumps([*place, setter, *(members.get(member) for member in SUBJECTS[setter])])


def names_of(place: list[str], members: dict[str, Any], answer: str) -> set[str]:
    """What a request and its answer (XML; JSON names nothing more) name."""
    leaves = _LEAF.findall(answer) if answer.lstrip().startswith("<") else []
    found = set()
    for member, value in [*members.items(), *leaves]:
        if member in _NAMING and isinstance(value, str):
            found.add(_name(place, member, value))
    return found


def deleted_by(place: list[str], operation: str, members: dict[str, Any]) -> str | None:
    """The name of what a request deletes, with all that was done to it."""
    value = members.get(DELETED.get(operation, ""))
    return _name(place, DELETED[operation], value) if isinstance(value, str) else None


def images_of(place: list[str], members: dict[str, Any], answer: str) -> tuple[set[str], set[str]]:
    """Digests and tags, as names, of the images that PutImage or BatchDeleteImage answers with."""
    told = json.loads(answer)
    known = told["imageIds"] if "imageIds" in told else [told["image"]["imageId"]]
    repository = members.get("repositoryName")
    digests, tags = (
        {json.dumps([*place, member, repository, one[member]]) for one in known if member in one}
        for member in ("imageDigest", "imageTag")
    )
    return digests, tags


def _name(place: list[str], member: str, value: str) -> str:
    inside = _WITHIN.match(value)
    if inside is not None:
        member = "repositoryName" if inside["kind"] == "repository/" else "logGroupName"
        value = inside["name"]
    return json.dumps([*place, "Arn" if member in _ARNS else member, value])


def _tag_keys(members: dict[str, Any]) -> Iterator[Any]:
    """The keys of a request's tags, in any of the protocols."""
    for member, value in members.items():
        if re.fullmatch(r"Tags\.member\.\d+\.Key|TagKeys\.member\.\d+", member):
            yield value
        elif member in ("tags", "tagKeys", "Tags", "TagKeys"):
            for one in value:
                yield one.get("Key", one.get("key")) if isinstance(one, dict) else one
