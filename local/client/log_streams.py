"""CloudWatch Logs, read as they grow: a job's streams, an endpoint's."""

import re
from dataclasses import dataclass, field
from typing import Any

from local.client.polling import THROTTLED
from local.errors import code

PAGES = 50
"""Most pages (a page is at most 1 MB) read of one stream at a time, so that all get their turn."""


@dataclass(frozen=True)
class LogLine:
    """A line of a stream: `<job>/algo-1-<seconds>` or `<variant>/i-<hex>`."""

    stream: str
    text: str
    timestamp: float

    @property
    def host(self) -> str:
        """`algo-1`, or the instance's id."""
        return re.sub(r"(?<=\d)-\d+$", "", self.stream.rpartition("/")[2])


@dataclass
class LogReader:
    """Gives the lines that are new since the last `read`.

    Attributes:
        client: of CloudWatch Logs.
        group: the log group.
        prefix: of the streams' names; "" for all.
        host: only this one's lines.
    """

    client: Any
    group: str
    prefix: str = ""
    host: str | None = None
    _tokens: dict[str, str | None] = field(default_factory=dict)

    def read(self) -> list[LogLine]:
        """The new lines, each stream's in order; none while the service is too busy to answer."""
        from botocore.exceptions import ClientError

        lines: list[LogLine] = []
        try:
            for stream in self._streams():
                if stream not in self._tokens:
                    self._tokens[stream] = None
                self._read(stream, lines)
        except ClientError as error:
            if code(error) not in THROTTLED:
                raise
        return sorted(lines, key=lambda line: line.timestamp)

    def last(self, count: int) -> list[LogLine]:
        """The last lines of all streams together, oldest first."""
        lines: list[LogLine] = []
        for stream in self._streams():
            answer = self.client.get_log_events(
                logGroupName=self.group,
                logStreamName=stream,
                startFromHead=False,
                limit=max(1, min(count, 10_000)),
            )
            lines += _lines(stream, answer)
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
        """Append a stream's new lines; those read before an error are there, and read only once."""
        for _ in range(PAGES):
            token = self._tokens[stream]
            arguments = {} if token is None else {"nextToken": token}
            answer = self.client.get_log_events(
                logGroupName=self.group, logStreamName=stream, startFromHead=True, **arguments
            )
            lines += _lines(stream, answer)
            self._tokens[stream] = answer["nextForwardToken"]
            if answer["nextForwardToken"] == token:
                return


def _lines(stream: str, answer: dict[str, Any]) -> list[LogLine]:
    return [
        LogLine(stream, event["message"].rstrip("\n"), event["timestamp"] / 1000)
        for event in answer["events"]
    ]
