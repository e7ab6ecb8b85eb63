"""Access control lists, which are stored and returned as by S3, but not enforced."""

from collections.abc import Mapping
from xml.etree import ElementTree

from werkzeug.wrappers import Response

from local.emulator.aws.s3.xml import OWNER, document, elements, malformed, parse
from local.emulator.errors import ServiceError

EVERYONE = "http://acs.amazonaws.com/groups/global/AllUsers"
SIGNED_IN = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
FULL = ("ID", "local", "FULL_CONTROL")
CANNED = {
    "private": [FULL],
    "public-read": [FULL, ("URI", EVERYONE, "READ")],
    "public-read-write": [FULL, ("URI", EVERYONE, "READ"), ("URI", EVERYONE, "WRITE")],
    "authenticated-read": [FULL, ("URI", SIGNED_IN, "READ")],
    "aws-exec-read": [FULL],
    "bucket-owner-read": [FULL],
    "bucket-owner-full-control": [FULL],
    "log-delivery-write": [FULL, ("URI", LOG_DELIVERY, "WRITE"), ("URI", LOG_DELIVERY, "READ_ACP")],
}
"""Name → grants ("Canned ACL" in the S3 user guide)."""
GRANTS = {
    "x-amz-grant-read": "READ",
    "x-amz-grant-write": "WRITE",
    "x-amz-grant-read-acp": "READ_ACP",
    "x-amz-grant-write-acp": "WRITE_ACP",
    "x-amz-grant-full-control": "FULL_CONTROL",
}
GRANTEES = {"id": "ID", "uri": "URI", "emailaddress": "EmailAddress"}
TYPES = {"ID": "CanonicalUser", "URI": "Group", "EmailAddress": "AmazonCustomerByEmail"}

Grants = list[tuple[str, str, str]]
"""Kind of grantee (`ID`, `URI`, `EmailAddress`), the grantee, the permission."""


def from_headers(headers: Mapping[str, str]) -> Grants | None:
    """The grants in a request's headers; None if there are none.

    Raises:
        ServiceError: the canned ACL is unknown, or a grant is invalid.
    """
    if canned := headers.get("x-amz-acl"):
        if canned not in CANNED:
            raise _invalid("x-amz-acl", canned, ", ".join(CANNED))
        return list(CANNED[canned])
    grants: Grants = []
    for name, permission in GRANTS.items():
        for grantee in filter(None, headers.get(name, "").split(",")):
            kind, _, value = grantee.strip().partition("=")
            if kind.lower() not in GRANTEES:
                raise _invalid(name, grantee, 'id="…", uri="…" or emailAddress="…"')
            grants.append((GRANTEES[kind.lower()], value.strip('"'), permission))
    return grants or None


def from_body(body: bytes) -> Grants:
    """The grants of an `AccessControlPolicy` document.

    Raises:
        ServiceError: MalformedXML.
    """
    return [_read(grant) for grant in parse(body).findall("AccessControlList/Grant")]


def to_document(grants: Grants | None) -> Response:
    """The `AccessControlPolicy` document of these grants; by default the owner's.

    Canonical users have a display name, because the SDKs expect it.
    """
    return document(
        "AccessControlPolicy",
        OWNER,
        "<AccessControlList>",
        *(_grant(*grant) for grant in grants or [FULL]),
        "</AccessControlList>",
    )


def _read(grant: ElementTree.Element) -> tuple[str, str, str]:
    grantee, permission = grant.find("Grantee"), grant.findtext("Permission")
    for kind in TYPES:
        value = grantee.findtext(kind) if grantee is not None else None
        if value and permission:
            return kind, value, permission
    raise malformed()


def _grant(kind: str, grantee: str, permission: str) -> str:
    who = elements({kind: grantee, "DisplayName": grantee if kind == "ID" else None})
    return (
        f'<Grant><Grantee xmlns:xsi="{INSTANCE}" xsi:type="{TYPES[kind]}">{who}</Grantee>'
        f"<Permission>{permission}</Permission></Grant>"
    )


def _invalid(name: str, found: str, expected: str) -> ServiceError:
    return ServiceError("InvalidArgument", f"{name}: found {found!r}, expected {expected}")
