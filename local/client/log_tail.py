"""The end of a container's log and the errors in it, from CloudWatch Logs."""

import time
from typing import Any

from local.errors import code

LINES = 20
"""Default number of lines."""
WAIT = 15.0
"""Seconds to wait for a container's last lines to reach CloudWatch Logs."""

CANNOT_SERVE = "cannot serve: "
"""Marks the last line of a `serve` that failed; SageMaker keeps calling /ping all the same."""
SAGEMAKER_MARK = "[sagemaker logs]: "
"""Starts SageMaker's own lines in a transform job's log, one for each object that failed."""


def read_log_tail(
    logs: Any,
    group: str,
    *,
    prefix: str = "",
    since: float = 0.0,
    lines: int = LINES,
    wait: float = WAIT,
) -> list[str]:
    """The last lines of the newest stream; empty if there are none after `wait` seconds.

    Args:
        logs: a boto3 client.
        group: the log group.
        prefix: prefix of the stream names.
        since: Unix time; older streams are skipped, such as those of the containers that are still
            serving during an update.
        lines: number of lines.
        wait: seconds to wait for a line.
    """
    end = time.monotonic() + wait
    while True:
        found = _read(logs, group, prefix, since, lines)
        if found or time.monotonic() >= end:
            return found
        time.sleep(min(1.0, wait))


def serving_error(logs: Any, group: str, *, prefix: str = "", since: float = 0.0) -> str:
    """The error that a container logged because it cannot serve its model; "" if there is none.

    The arguments are those of `read_log_tail`.
    """
    lines = _filtered(logs, group, prefix, since, CANNOT_SERVE.strip())
    return next((line.partition(CANNOT_SERVE)[2] for line in lines if CANNOT_SERVE in line), "")


def transform_errors(logs: Any, group: str, prefix: str, names: list[str]) -> dict[str, str]:
    """The errors in a transform job's log, by the name of the object that failed."""
    lines = [
        line.partition(SAGEMAKER_MARK)[2]
        for line in _filtered(logs, group, prefix, 0.0, SAGEMAKER_MARK.strip())
    ]
    return {
        name: line.partition(f"{name}: ")[2]
        for name in names
        for line in lines
        if f"{name}: " in line
    }


def _filtered(logs: Any, group: str, prefix: str, since: float, phrase: str) -> list[str]:
    try:
        return [
            event["message"].rstrip("\n")
            for page in logs.get_paginator("filter_log_events").paginate(
                logGroupName=group,
                filterPattern=f'"{phrase}"',
                startTime=int(since * 1000),
                **({"logStreamNamePrefix": prefix} if prefix else {}),
            )
            for event in page["events"]
        ]
    except Exception as error:
        if code(error) == "ResourceNotFoundException":
            return []
        raise


def _read(logs: Any, group: str, prefix: str, since: float, lines: int) -> list[str]:
    try:
        streams = [
            stream
            for page in logs.get_paginator("describe_log_streams").paginate(
                logGroupName=group, **({"logStreamNamePrefix": prefix} if prefix else {})
            )
            for stream in page["logStreams"]
            if stream.get("creationTime", 0) >= since * 1000
        ]
        if not streams:
            return []
        latest = max(streams, key=_last_written)
        response = logs.get_log_events(
            logGroupName=group,
            logStreamName=latest["logStreamName"],
            limit=lines,
            startFromHead=False,
        )
    except Exception as error:
        if code(error) == "ResourceNotFoundException":
            return []
        raise
    return [event["message"].rstrip("\n") for event in response["events"]][-lines:]


def _last_written(stream: dict[str, Any]) -> int:
    return int(stream.get("lastEventTimestamp") or stream.get("creationTime") or 0)
