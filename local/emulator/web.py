"""The HTTP server's request handler, and the requests it rejects."""

import ipaddress
import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler
from werkzeug.wrappers import Response

ENGINES_NAMES = ("host.docker.internal", "host.containers.internal")
"""Names of this machine in containers, which engines resolve to its loopback."""

logger = logging.getLogger(__name__)


class Handler(WSGIRequestHandler):
    """Handles a connection with HTTP/1.1, so that a response without a length is chunked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def make_environ(self) -> dict[str, Any]:
        """The WSGI environment, with the original names of S3 metadata headers.

        werkzeug drops headers with an underscore, because WSGI cannot distinguish it from a hyphen.
        Here they are only dropped if there is a header with the same name but a hyphen.
        """
        environ: dict[str, Any] = super().make_environ()
        spelled = {
            name.lower(): value
            for name, value in self.headers.items()
            if name.lower().startswith("x-amz-meta-")
        }
        for name in [name for name in spelled if "_" in name]:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            if key in environ:
                del spelled[name]
            else:
                environ[key] = spelled[name]
        environ["berth.metadata"] = spelled
        return environ

    def handle_expect_100(self) -> bool:
        """Do nothing: werkzeug already sends 100 Continue."""
        return True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do nothing: the server logs its own line."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """Log errors of a connection."""
        logger.warning(f"{type}: {message.rstrip()}", *args)


class Watched:
    """An application's response; calls `end` when it was sent or the client disconnected."""

    def __init__(
        self,
        app: Any,
        environ: dict[str, Any],
        start_response: Callable[..., Any],
        end: Callable[[], None],
    ) -> None:
        self._end: Callable[[], None] | None = end
        try:
            self._body = app(environ, start_response)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the body."""
        yield from self._body

    def close(self) -> None:
        """Close the body and call `end`."""
        if self._end is None:
            return
        end, self._end = self._end, None
        try:
            if close := getattr(getattr(self, "_body", None), "close", None):
                close()
        finally:
            end()


def refusal(environ: dict[str, Any]) -> Response | None:
    """The response to a request that a web page of another site sent; None for other requests.

    A web page can send cross-site requests here, or point its own host name at 127.0.0.1 (DNS
    rebinding). Browsers reveal both in headers that AWS clients do not send.
    """
    host = environ.get("HTTP_HOST", "")
    if not _is_loopback(f"//{host}"):
        return Response(f"Host {host!r}: expected a name of this machine\n", 403)
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_loopback(origin):
        return Response(f"Origin {origin!r}: cross-site requests are rejected\n", 403)
    if environ.get("HTTP_SEC_FETCH_SITE") == "cross-site":
        return Response("Cross-site requests are rejected\n", 403)
    return None


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if name in ENGINES_NAMES or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
