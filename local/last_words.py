"""What a container said last, from CloudWatch Logs."""

import time
from typing import Any

from local.errors import code

LINES = 20
"""Most lines shown."""
WAIT = 15.0
"""Seconds the last lines of a container may take to reach CloudWatch Logs."""


def last_words(
    logs: Any,
    group: str,
    *,
    prefix: str = "",
    since: float = 0.0,
    lines: int = LINES,
    wait: float = WAIT,
) -> list[str]:
    """The last lines of the stream written to last; empty when there are none after `wait` s.

    `logs` is boto3's client; `prefix` narrows the streams of the group, and `since` (UTC seconds)
    leaves out those that were there before: in an update, the containers that still serve.
    """
    end = time.monotonic() + wait
    while True:
        found = _read(logs, group, prefix, since, lines)
        if found or time.monotonic() >= end:
            return found
        time.sleep(min(1.0, wait))


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
        answer = logs.get_log_events(
            logGroupName=group,
            logStreamName=latest["logStreamName"],
            limit=lines,
            startFromHead=False,
        )
    except Exception as error:
        if code(error) == "ResourceNotFoundException":
            return []
        raise
    return [event["message"].rstrip("\n") for event in answer["events"]][-lines:]


def _last_written(stream: dict[str, Any]) -> int:
    return int(stream.get("lastEventTimestamp") or stream.get("creationTime") or 0)
