"""Incremental reading of the CloudWatch log streams of a job or an endpoint."""

import re
from dataclasses import dataclass, field
from typing import Any

from local.client.polling import THROTTLED
from local.errors import code

PAGES = 50
"""Most pages (of up to 1 MB) per stream and read, so that every stream gets its turn."""


@dataclass(frozen=True)
class LogLine:
    """A line of a log stream, which is named `<job>/algo-1-<seconds>` or `<variant>/i-<hex>`."""

    stream: str
    text: str
    timestamp: float

    @property
    def host(self) -> str:
        """`algo-1`, or the instance id."""
        return re.sub(r"(?<=\d)-\d+$", "", self.stream.rpartition("/")[2])


@dataclass
class LogReader:
    """Reads the lines added since the last `read`.

    Attributes:
        client: a boto3 `logs` client.
        group: the log group.
        prefix: prefix of the stream names; "" for all.
        host: read only this host's lines; None for all.
    """

    client: Any
    group: str
    prefix: str = ""
    host: str | None = None
    _tokens: dict[str, str] = field(default_factory=dict)

    def read(self) -> list[LogLine]:
        """The new lines by time; those read so far if the service throttles."""
        from botocore.exceptions import ClientError

        lines: list[LogLine] = []
        try:
            for stream in self._streams():
                self._read(stream, lines)
        except ClientError as error:
            if code(error) not in THROTTLED:
                raise
        return sorted(lines, key=lambda line: line.timestamp)

    def last(self, count: int) -> list[LogLine]:
        """The last `count` lines of all streams together, oldest first."""
        lines: list[LogLine] = []
        for stream in self._streams():
            response = self.client.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=False,
                limit=max(1, min(count, 10_000)),
            )
            lines += _lines(stream, response)
        return sorted(lines, key=lambda line: line.timestamp)[-count:]

    def _streams(self) -> list[str]:
        from botocore.exceptions import ClientError

        arguments = {"logGroupName": self.group}
        if self.prefix:
            arguments["logStreamNamePrefix"] = self.prefix
        names: list[str] = []
        try:
            for page in self.client.get_paginator("describe_log_streams").paginate(**arguments):
                names += [stream["logStreamName"] for stream in page["logStreams"]]
        except ClientError as error:
            if code(error) != "ResourceNotFoundException":
                raise
            return []  # nothing was logged yet
        if self.host is None:
            return names
        return [name for name in names if LogLine(name, "", 0).host == self.host]

    def _read(self, stream: str, lines: list[LogLine]) -> None:
        """Append a stream's new lines to `lines`, so that an error does not lose what was read."""
        for _ in range(PAGES):
            token = self._tokens.get(stream)
            arguments = {} if token is None else {"nextToken": token}
            response = self.client.get_log_events(
                logGroupName=self.group, logStreamName=stream, startFromHead=True, **arguments
            )
            lines += _lines(stream, response)
            self._tokens[stream] = response["nextForwardToken"]
            if response["nextForwardToken"] == token:
                return


def _lines(stream: str, response: dict[str, Any]) -> list[LogLine]:
    return [
        LogLine(stream, event["message"].rstrip("\n"), event["timestamp"] / 1000)
        for event in response["events"]
    ]
