"""Validation of batch transform jobs."""

from typing import Any

from local.emulator.api.validation.data import check_input, check_output
from local.emulator.api.validation.fields import refuse_present, unsupported
from local.emulator.api.validation.hosting import is_multi_model
from local.emulator.api.validation.tags import check_tags
from local.emulator.context import Context
from local.emulator.errors import invalid, limit_exceeded
from local.emulator.store import Kind

MAX_PAYLOAD = 100
"""Largest MaxPayloadInMB, and largest product of it and MaxConcurrentTransforms (API reference)."""

DEFAULT_PAYLOAD = 6
"""Default MaxPayloadInMB (API reference)."""

SPLITS = ("None", "Line")
"""The supported SplitTypes."""

NO_PROCESSING = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
"""The only supported DataProcessing, which changes nothing."""

UNSUPPORTED = {
    "ExperimentConfig": "leave it out: there are no experiments",
    "DataCaptureConfig": "leave it out",
}


def check_transform(request: dict[str, Any], context: Context) -> None:
    """Check a CreateTransformJob request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
    """
    check_tags(request)
    refuse_present(request, UNSUPPORTED)
    model = context.hosted(Kind.MODEL, request["ModelName"])
    if is_multi_model(model.body):
        raise invalid(
            f"ModelName is {request['ModelName']}, whose Mode is MultiModel; expected a model with "
            "Mode SingleModel."
        )
    _check_payload(request)
    hosts, most = request["TransformResources"]["InstanceCount"], context.executor.max_hosts
    if hosts > most:
        raise limit_exceeded(
            f"TransformResources.InstanceCount is {hosts}; the executor {context.executor.name} "
            f"has {most}."
        )
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    split = request["TransformInput"].get("SplitType", "None")
    if split not in SPLITS:
        raise unsupported(f"TransformInput.SplitType '{split}'", f"expected {' or '.join(SPLITS)}")
    for member, default in NO_PROCESSING.items():
        value = request.get("DataProcessing", {}).get(member, default)
        if value != default:
            raise unsupported(f"DataProcessing.{member} '{value}'", f"expected {default}")
    check_input(source, "TransformInput", model.body.get("ExecutionRoleArn"), context)
    check_output(
        request["TransformOutput"]["S3OutputPath"], "TransformOutput.S3OutputPath", context
    )


def _check_payload(request: dict[str, Any]) -> None:
    payload = request.get("MaxPayloadInMB", DEFAULT_PAYLOAD)
    if payload > MAX_PAYLOAD:
        raise invalid(f"MaxPayloadInMB is {payload}; expected at most {MAX_PAYLOAD}.")
    together = payload * request.get("MaxConcurrentTransforms", 1)
    if together > MAX_PAYLOAD:
        raise invalid(
            f"MaxConcurrentTransforms times MaxPayloadInMB is {together} MB; expected at most "
            f"{MAX_PAYLOAD}."
        )
