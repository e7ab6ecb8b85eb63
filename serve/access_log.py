"""The access log: one line a request, none for the pings of health checks."""

from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger, with an access line of named fields and no address, header or body.

    POST /invocations status=200 ms=41.3 instances=1 bytes=151
    """

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one request."""
        path = req.path[:100]
        if path == "/ping":
            return
        milliseconds = request_time.total_seconds() * 1000
        self.access_log.info(
            "%s %s status=%d ms=%.1f instances=%d bytes=%d",
            req.method,
            path.encode("unicode_escape").decode("ascii"),
            resp.status_code,
            milliseconds,
            environ.get("serve.payloads.instances", 0),
            resp.sent,
        )
