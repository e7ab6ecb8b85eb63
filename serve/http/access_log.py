"""The server's log: one line per invocation, none for health checks and scrapes.

Text, or with BERTH_LOG_FORMAT=json one JSON object per line for everything that is logged.
"""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from gunicorn.glogging import Logger

from serve.records import RECEIVED_AT, RECORD, InvocationRecord
from serve.settings import Settings

QUIET = {"/ping", "/metrics"}
"""Paths that are requested every few seconds and not logged."""

IDS = {
    "request_id": ("HTTP_X_AMZN_REQUESTID", "HTTP_X_REQUEST_ID"),
    "inference_id": ("HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID",),
}
"""Fields of a line and their headers in WSGI's naming; the first header found is used."""

LONGEST_ID = 64
"""Characters of an id, SageMaker's maximum."""


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger, whose access lines have named fields but no address, header or body.

    POST /invocations status=200 ms=41.3 instances=1 received=30125 bytes=151 decode_ms=2.1
    queue_ms=0.2 compute_ms=38.0 request_id=… inference_id=…

    It also calls `observe` of the invocation's record, once the response is sent.
    """

    def setup(self, cfg: Any) -> None:
        """Set up both logs."""
        super().setup(cfg)
        if Settings.from_environment().log_format == "json":
            for handler in (*self.error_log.handlers, *self.access_log.handlers):
                handler.setFormatter(JsonLines())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request."""
        # gunicorn's `request_time` begins when a thread takes the request, after its body arrived.
        began = RECEIVED_AT.get(None)
        seconds = request_time.total_seconds() if began is None else monotonic() - began
        record: InvocationRecord | None = environ.get(RECORD)
        if record is not None:
            record.observe(record, resp.status_code, seconds)
        path = req.path[:100]
        if path in QUIET:
            return
        fields: dict[str, object] = {"status": resp.status_code, "ms": _milliseconds(seconds)}
        if record is not None:
            fields |= {"instances": record.images, "received": record.received}
        fields["bytes"] = resp.sent
        if record is not None:
            for stage in ("decode", "queue", "compute"):
                fields[f"{stage}_ms"] = _milliseconds(getattr(record, stage))
        for name, headers in IDS.items():
            found = next((environ[header] for header in headers if environ.get(header)), "")
            if found:
                fields[name] = _identifier(found)
        method, path = req.method, path.encode("unicode_escape").decode("ascii")
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        logged = {"method": method, "path": path, **fields}
        self.access_log.info("%s %s %s", method, path, words, extra={"fields": logged})


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, and the fields of a request or the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": time, "level": record.levelname}
        line |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _identifier(text: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "?", text[:LONGEST_ID])
