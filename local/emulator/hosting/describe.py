"""The DescribeEndpoint response."""

from datetime import datetime
from typing import Any

from local.emulator.errors import invalid
from local.emulator.hosting.deployment import EndpointDeployment
from local.emulator.hosting.fleet import Fleet
from local.emulator.hosting.variants import Variant

REASON = 1024
"""Characters a FailureReason may have."""
BUSY = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
"""The statuses in which an endpoint takes no other operation."""


def variant_summaries(fleet: Fleet, since: datetime) -> list[dict[str, Any]]:
    """`ProductionVariants` of an endpoint whose containers run.

    Args:
        fleet: the containers.
        since: when the images were resolved.
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
    """`PendingDeploymentSummary` while a new fleet comes up."""
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
    """Show which configuration an endpoint runs."""
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
    """Show the weights and counts an update requests, by variant.

    Raises:
        ServiceError: it names a variant that is not there, or leaves every weight 0.
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
    """Refuse to change an endpoint while another operation is in progress.

    Raises:
        ServiceError: one is.
    """
    if body["EndpointStatus"] in BUSY:
        raise invalid(
            f'Cannot update in-progress endpoint "{body["EndpointArn"]}": its status is '
            f"{body['EndpointStatus']}."
        )


def show_restart(body: dict[str, Any]) -> None:
    """Show that a restarted server starts an endpoint's containers again."""
    if body["EndpointStatus"] not in {"Creating", "Updating"}:
        body["EndpointStatus"] = "SystemUpdating"


def show_health(
    body: dict[str, Any], summaries: list[dict[str, Any]], answers: bool, log: str
) -> None:
    """Show the effect of a container's death or return, unless an operation is in progress.

    Args:
        body: what Describe shows.
        summaries: `variant_summaries` of now.
        answers: whether any container answers.
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
