"""The settings of a bucket: documents, which are stored unchanged, and CORS rules."""

import fnmatch
from dataclasses import dataclass
from xml.etree import ElementTree

from local.emulator.aws.s3.store import Bucket
from local.emulator.aws.s3.xml import parse, texts
from local.emulator.errors import ServiceError


@dataclass(frozen=True)
class Setting:
    """A bucket setting, whose value is a document.

    Attributes:
        missing: the error code if the setting was never put.
        default: root element of an empty document to return instead of an error.
        json: whether the document is JSON instead of XML.
    """

    missing: str = ""
    default: str = ""
    json: bool = False


SETTINGS = {
    "accelerate": Setting(default="AccelerateConfiguration"),
    "cors": Setting("NoSuchCORSConfiguration"),
    "encryption": Setting("ServerSideEncryptionConfigurationNotFoundError"),
    "lifecycle": Setting("NoSuchLifecycleConfiguration"),
    "logging": Setting(default="BucketLoggingStatus"),
    "notification": Setting(default="NotificationConfiguration"),
    "ownershipControls": Setting("OwnershipControlsNotFoundError"),
    "policy": Setting("NoSuchBucketPolicy", json=True),
    "publicAccessBlock": Setting("NoSuchPublicAccessBlockConfiguration"),
    "replication": Setting("ReplicationConfigurationNotFoundError"),
    "requestPayment": Setting(default="RequestPaymentConfiguration"),
    "tagging": Setting("NoSuchTagSet"),
    "versioning": Setting(default="VersioningConfiguration"),
    "website": Setting("NoSuchWebsiteConfiguration"),
}
"""Subresource in the query → setting; its document is the body of its Put and Get operations."""


def missing(subresource: str) -> ServiceError:
    """The error for a setting that was never put."""
    code = SETTINGS[subresource].missing
    return ServiceError(code, f"The bucket has no {subresource} configuration", 404)


def cors_headers(
    bucket: Bucket, origin: str, method: str, wanted: str | None = None
) -> dict[str, str] | None:
    """The headers of the first CORS rule that allows this origin; None if none does.

    Args:
        bucket: the bucket.
        origin: the origin of the request.
        method: the HTTP method.
        wanted: the `Access-Control-Request-Headers` of a preflight request.
    """
    if not origin or "cors" not in bucket.settings:
        return None
    for rule in parse(bucket.settings["cors"].encode()).findall("CORSRule"):
        if _allows(rule, origin, method, wanted):
            headers = {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": ", ".join(texts(rule, "AllowedMethod")),
                "Access-Control-Allow-Headers": ", ".join(texts(rule, "AllowedHeader")),
                "Access-Control-Expose-Headers": ", ".join(texts(rule, "ExposeHeader")),
                "Access-Control-Max-Age": rule.findtext("MaxAgeSeconds", ""),
                "Vary": "Origin",
            }
            return {name: value for name, value in headers.items() if value}
    return None


def _allows(rule: ElementTree.Element, origin: str, method: str, wanted: str | None) -> bool:
    headers = [name.strip().lower() for name in (wanted or "").split(",") if name.strip()]
    patterns = [pattern.lower() for pattern in texts(rule, "AllowedHeader")]
    return (
        any(fnmatch.fnmatchcase(origin, allowed) for allowed in texts(rule, "AllowedOrigin"))
        and method in texts(rule, "AllowedMethod")
        and all(any(fnmatch.fnmatchcase(name, one) for one in patterns) for name in headers)
    )
