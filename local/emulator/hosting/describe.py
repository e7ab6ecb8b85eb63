"""The DescribeEndpoint response."""

from datetime import datetime
from typing import Any

from local.emulator.errors import invalid
from local.emulator.hosting.deployment import EndpointDeployment
from local.emulator.hosting.fleet import Fleet
from local.emulator.hosting.variants import Variant

REASON = 1024
"""Most characters of a FailureReason."""
BUSY = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
"""Statuses in which no other operation is allowed."""


def variant_summaries(fleet: Fleet, since: datetime) -> list[dict[str, Any]]:
    """`ProductionVariants` of an endpoint with running containers.

    Args:
        fleet: the containers.
        since: `ResolutionTime` of the images.
    """
    summaries = []
    for variant in fleet.variants:
        summary = {
            "VariantName": variant.name,
            "DeployedImages": _images(variant, since),
            "CurrentWeight": variant.weight,
            "DesiredWeight": variant.weight,
            "CurrentInstanceCount": fleet.serving(variant.name),
            "DesiredInstanceCount": variant.count,
        }
        if variant.serverless:
            summary |= {
                "CurrentServerlessConfig": variant.serverless,
                "DesiredServerlessConfig": variant.serverless,
            }
        summaries.append(summary)
    return summaries


def pending_summary(deployment: EndpointDeployment, since: datetime) -> dict[str, Any]:
    """`PendingDeploymentSummary` while a new fleet starts."""
    variants = []
    for variant in deployment.variants:
        summary: dict[str, Any] = {
            "VariantName": variant.name,
            "DeployedImages": _images(variant, since),
            "CurrentWeight": 0.0,
            "DesiredWeight": variant.weight,
            "CurrentInstanceCount": 0,
            "DesiredInstanceCount": variant.count,
            "VariantStatus": [{"Status": "Creating", "StartTime": since}],
        }
        if variant.instance_type:
            summary["InstanceType"] = variant.instance_type
        if variant.serverless:
            summary["DesiredServerlessConfig"] = variant.serverless
        variants.append(summary)
    return {
        "EndpointConfigName": deployment.config,
        "ProductionVariants": variants,
        "StartTime": since,
    }


def describe_config(body: dict[str, Any], deployment: EndpointDeployment) -> None:
    """Set the members that describe the endpoint's configuration."""
    body["EndpointConfigName"] = deployment.config
    for name in ("DataCaptureConfig", "AsyncInferenceConfig"):
        body.pop(name, None)
    if deployment.capture is not None:
        enabled = deployment.capture.get("EnableCapture", True)
        body["DataCaptureConfig"] = {
            "EnableCapture": enabled,
            "CaptureStatus": "Started" if enabled else "Stopped",
            "CurrentSamplingPercentage": deployment.capture["InitialSamplingPercentage"],
            "DestinationS3Uri": deployment.capture["DestinationS3Uri"],
            "KmsKeyId": deployment.capture.get("KmsKeyId", ""),
        }
    if deployment.asynchronous is not None:
        body["AsyncInferenceConfig"] = deployment.asynchronous


def want_weights(body: dict[str, Any], wanted: dict[str, dict[str, Any]]) -> None:
    """Set the desired weights and counts, by variant, and the status `Updating`.

    Raises:
        ServiceError: a variant does not exist, or every weight would be 0.
    """
    known = {one["VariantName"]: one for one in body["ProductionVariants"]}
    for name, change in wanted.items():
        if name not in known:
            raise invalid(
                f'Could not find variant "{name}" of endpoint "{body["EndpointArn"]}"; it has '
                f"{', '.join(sorted(known))}."
            )
        for field in ("DesiredWeight", "DesiredInstanceCount"):
            known[name][field] = change.get(field, known[name][field])
    if not any(one["DesiredWeight"] for one in known.values()):
        raise invalid(
            "DesiredWeightsAndCapacities: every DesiredWeight of the endpoint would be 0; expected "
            "one above 0, or no request would reach a variant."
        )
    body["EndpointStatus"] = "Updating"
    set_reason(body, None)


def refuse_busy(body: dict[str, Any]) -> None:
    """Check that no other operation on the endpoint is in progress.

    Raises:
        ServiceError: one is in progress.
    """
    if body["EndpointStatus"] in BUSY:
        raise invalid(
            f'Cannot update in-progress endpoint "{body["EndpointArn"]}": its status is '
            f"{body['EndpointStatus']}."
        )


def show_restart(body: dict[str, Any]) -> None:
    """Set the status of an endpoint that a restarted server starts again."""
    if body["EndpointStatus"] not in {"Creating", "Updating"}:
        body["EndpointStatus"] = "SystemUpdating"


def show_health(
    body: dict[str, Any], summaries: list[dict[str, Any]], answers: bool, log: str
) -> None:
    """Update counts, and the status unless an operation is in progress, from container health.

    Args:
        body: the Describe response.
        summaries: the current `variant_summaries`.
        answers: whether any container is healthy.
        log: the endpoint's log group.
    """
    counts = {one["VariantName"]: one["CurrentInstanceCount"] for one in summaries}
    for summary in body.get("ProductionVariants", []):
        name = summary["VariantName"]
        summary["CurrentInstanceCount"] = counts.get(name, summary["CurrentInstanceCount"])
    if body["EndpointStatus"] == "InService" and not answers:
        body["EndpointStatus"] = "OutOfService"
        set_reason(
            body,
            f"No container answers; each is being started again. See its log: {log}",
        )
    elif body["EndpointStatus"] == "OutOfService" and answers:
        body["EndpointStatus"] = "InService"
        set_reason(body, None)


def set_reason(body: dict[str, Any], reason: str | None) -> None:
    """Set or clear the FailureReason."""
    body.pop("FailureReason", None)
    if reason is not None:
        body["FailureReason"] = reason[:REASON]


def _images(variant: Variant, since: datetime) -> list[dict[str, Any]]:
    return [
        {
            "SpecifiedImage": variant.image,
            "ResolvedImage": variant.image,
            "ResolutionTime": since,
        }
    ]
