"""The DescribeTrainingJob response and its changes until the job ends."""

import math
from datetime import UTC, datetime
from typing import Any

from local.emulator.training.rules import rules_requested
from local.s3_location import Location

DAY_SECONDS = 86_400
"""Default MaxRuntimeInSeconds (API reference, StoppingCondition)."""
REASON_LENGTH = 1024
"""Most characters in a FailureReason (API reference)."""
MESSAGES = {
    "Starting": "Starting the training job",
    "Pending": "Training job waiting for capacity",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
"""AWS's message for each secondary status."""
_ECHOED = (
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "CheckpointConfig",
    "DebugHookConfig",
    "ExperimentConfig",
    "DebugRuleConfigurations",
    "TensorBoardOutputConfig",
    "ProfilerConfig",
    "ProfilerRuleConfigurations",
    "Environment",
    "RetryStrategy",
    "RemoteDebugConfig",
    "InfraCheckConfig",
)
_NOT_WORKING = {"Starting", "Pending", "Interrupted"}

Body = dict[str, Any]


def new_body(request: dict[str, Any], arn: str, tuning_job_arn: str | None, now: datetime) -> Body:
    """The response right after CreateTrainingJob."""
    body: Body = {
        "TrainingJobName": request["TrainingJobName"],
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "ModelArtifacts": {"S3ModelArtifacts": str(model_location(request))},
        "CreationTime": now,
        "LastModifiedTime": now,
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": request.get(
            "EnableInterContainerTrafficEncryption", False
        ),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
        "ProfilingStatus": profiling(request),
        "SecondaryStatusTransitions": [],
    }
    if tuning_job_arn is not None:
        body["TuningJobArn"] = tuning_job_arn
    body.update({field: request[field] for field in _ECHOED if field in request})
    body["StoppingCondition"] = {
        "MaxRuntimeInSeconds": DAY_SECONDS,
        **request.get("StoppingCondition", {}),
    }
    body |= rules_requested(request, arn, now)
    enter(body, "Starting", now)
    return body


def reconfigure(body: Body, request: dict[str, Any], arn: str, now: datetime) -> None:
    """Apply an UpdateTrainingJob: the profiler, new rules, the warm pool."""
    for field in ("ProfilerConfig", "ProfilerRuleConfigurations", "ResourceConfig"):
        if field in request:
            body[field] = request[field]
    body["ProfilingStatus"] = profiling(request)
    for field, statuses in rules_requested(request, arn, now).items():
        known = body.setdefault(field, [])
        names = {status["RuleConfigurationName"] for status in known}
        known += [status for status in statuses if status["RuleConfigurationName"] not in names]


def output_location(request: dict[str, Any]) -> Location:
    """`<S3OutputPath>/<job>/output`, the prefix of the archives.

    Raises:
        BadLocation: the path is not an S3 URI.
    """
    place = Location.parse(request["OutputDataConfig"]["S3OutputPath"])
    return place / str(request["TrainingJobName"]) / "output"


def model_location(request: dict[str, Any]) -> Location:
    """`…/output/model.tar.gz`, or `…/output/model/` for an uncompressed model.

    Raises:
        BadLocation: the output path is not an S3 URI.
    """
    plain = request["OutputDataConfig"].get("CompressionType") == "NONE"
    return output_location(request) / ("model/" if plain else "model.tar.gz")


def report_location(request: dict[str, Any]) -> Location | None:
    """The prefix of the profiler's report, as in AWS's rule ProfilerReport.

    It is None without an S3OutputPath.
    """
    root = request.get("ProfilerConfig", {}).get("S3OutputPath")
    name = "ProfilerReport"
    for configuration in request.get("ProfilerRuleConfigurations", []):
        if configuration.get("RuleParameters", {}).get("rule_to_invoke") == name:
            name = configuration["RuleConfigurationName"]
            root = configuration.get("S3OutputPath", root)
            break
    if not root:
        return None
    job = str(request["TrainingJobName"])
    return Location.parse(root) / job / "rule-output" / name / "profiler-output"


def enter(body: Body, status: str, now: datetime, message: str | None = None) -> None:
    """Start a secondary status and end the previous one; the same status only gets a new message.

    `message` defaults to AWS's.
    """
    text = message or MESSAGES.get(status, "")
    transitions = body["SecondaryStatusTransitions"]
    if transitions and transitions[-1]["Status"] == status:
        transitions[-1]["StatusMessage"] = text
    else:
        if transitions:
            transitions[-1].setdefault("EndTime", now)
        transitions.append({"Status": status, "StartTime": now, "StatusMessage": text})
    body["SecondaryStatus"] = status
    if status == "Stopping":
        body["TrainingJobStatus"] = "Stopping"
    if status == "Downloading":
        body.setdefault("TrainingStartTime", now)


def end(body: Body, status: str, secondary: str, now: datetime, reason: str | None = None) -> None:
    """End the job: set its statuses, times and FailureReason."""
    enter(body, secondary, now, reason)
    body["SecondaryStatusTransitions"][-1]["EndTime"] = now
    body["TrainingJobStatus"] = status
    if reason is not None:
        body["FailureReason"] = reason[:REASON_LENGTH]
    started = body.get("TrainingStartTime")
    if started is not None:
        body["TrainingEndTime"] = now
        whole = (now - started).total_seconds()
        body["TrainingTimeInSeconds"] = math.ceil(whole)
        body["BillableTimeInSeconds"] = math.ceil(whole - _idle_seconds(body, started))


def seconds_in(body: Body, status: str, now: datetime) -> float:
    """The total time in a secondary status, in seconds."""
    seconds = 0.0
    for visit in body["SecondaryStatusTransitions"]:
        if visit["Status"] == status:
            seconds += (visit.get("EndTime", now) - visit["StartTime"]).total_seconds()
    return seconds


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def _idle_seconds(body: Body, started: datetime) -> float:
    """The time after the first start that is not billed, because the job had no instances."""
    seconds = 0.0
    for visit in body["SecondaryStatusTransitions"]:
        if visit["Status"] in _NOT_WORKING and visit["StartTime"] > started:
            seconds += (visit["EndTime"] - visit["StartTime"]).total_seconds()
    return seconds


def profiling(request: dict[str, Any]) -> str:
    """The ProfilingStatus for a request."""
    config = request.get("ProfilerConfig")
    return "Disabled" if config is None or config.get("DisableProfiler", False) else "Enabled"
