"""The HTTP server's handler, and which requests it refuses."""

import ipaddress
import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler
from werkzeug.wrappers import Response

ENGINES_NAMES = ("host.docker.internal", "host.containers.internal")
"""What containers call this machine, where their engine gives its loopback a name."""

logger = logging.getLogger(__name__)


class Handler(WSGIRequestHandler):
    """One connection: HTTP/1.1, so that an answer without a length comes in chunks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def make_environ(self) -> dict[str, Any]:
        """The request's environment, with the metadata of S3's objects as their client spells it.

        werkzeug leaves out headers with an underscore, which WSGI cannot tell from a hyphen. One
        that would stand for a header with a hyphen is left out here too.
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
        """Nothing: werkzeug tells a client to continue too, and once is enough."""
        return True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the server logs a line of its own."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        """What goes wrong with a connection."""
        logger.warning(f"{type}: {message.rstrip()}", *args)


class Watched:
    """An application's answer to one request; `end` is called when it was sent, or was not."""

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
        """The body."""
        yield from self._body

    def close(self) -> None:
        """The answer was sent, or the client is gone."""
        if self._end is None:
            return
        end, self._end = self._end, None
        try:
            if close := getattr(getattr(self, "_body", None), "close", None):
                close()
        finally:
            end()


def refusal(environ: dict[str, Any]) -> Response | None:
    """Why this request is not answered: it came by a name that is not this machine's.

    A web page can point its own host name at 127.0.0.1, or post here from anywhere; a browser tells
    both. AWS's clients send neither.
    """
    host = environ.get("HTTP_HOST", "")
    if not _is_loopback(f"//{host}"):
        return Response(f"Host {host!r}: only this machine's own names are answered\n", 403)
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_loopback(origin):
        return Response(f"Origin {origin!r}: other sites' pages are not answered\n", 403)
    if environ.get("HTTP_SEC_FETCH_SITE") == "cross-site":
        return Response("Other sites' pages are not answered\n", 403)
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
