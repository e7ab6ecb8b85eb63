"""A fake CloudWatch Logs with pages, tokens, a group created late, and throttling."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

PAGE = 2


class FakeLogs:
    """Streams are lists of (milliseconds, text); the next `busy` calls are throttled."""

    def __init__(self) -> None:
        self.streams: dict[str, list[tuple[int, str]]] = {}
        self.busy = 0

    def get_paginator(self, operation: str) -> "FakeLogs":
        assert operation == "describe_log_streams"
        return self

    def paginate(
        self,
        *,
        logGroupName: str,  # noqa: N803
        logStreamNamePrefix: str = "",  # noqa: N803
    ) -> Iterator[dict[str, Any]]:
        self._answer(logGroupName)
        if not self.streams:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "Describe")
        for name in sorted(self.streams):
            if name.startswith(logStreamNamePrefix):
                yield {"logStreams": [{"logStreamName": name}]}

    def get_log_events(
        self,
        *,
        logGroupName: str,  # noqa: N803
        logStreamName: str,  # noqa: N803
        startFromHead: bool,  # noqa: N803
        nextToken: str | None = None,  # noqa: N803
        limit: int = PAGE,
    ) -> dict[str, Any]:
        self._answer(logGroupName)
        events = self.streams[logStreamName]
        if not startFromHead:
            chosen, after = events[-limit:], len(events)
        else:
            start = int(nextToken or 0)
            chosen = events[start : start + PAGE]
            after = start + len(chosen)
        return {
            "events": [{"timestamp": at, "message": text + "\n"} for at, text in chosen],
            "nextForwardToken": str(after),
        }

    def _answer(self, group: str) -> None:
        assert group
        if self.busy:
            self.busy -= 1
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "GetLogEvents")
