"""The `serve` command, which SageMaker runs in the image."""

import errno
import socket
import sys

from container.errors import BerthError
from container.extras import named_extra
from serve.settings import ServerSettingsError, Settings


def main() -> None:
    """Bind the port, then serve until SIGTERM. Takes no arguments: the environment configures it.

    gunicorn runs in this process, so that it receives signals as PID 1.
    """
    if len(sys.argv) > 1:
        sys.exit(f"serve: found argument {sys.argv[1]!r}, expected none; see serve/settings.py")
    try:
        with named_extra("serve", "serve"):
            from gunicorn.app.wsgiapp import WSGIApplication

            import serve.gunicorn_conf  # noqa: F401  # invalid settings end here, in one line

        _check_address(Settings.from_environment())
    except BerthError as error:
        sys.exit(f"serve: {error}")

    sys.argv[1:] = ["--config", "python:serve.gunicorn_conf", "serve.app:application()"]
    WSGIApplication("%(prog)s").run()


def _check_address(settings: Settings) -> None:
    """Raise ServerSettingsError if the server cannot listen; gunicorn would retry for seconds."""
    host, port = settings.host.strip("[]"), settings.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            variable, found = "SAGEMAKER_BIND_TO_PORT", f"port {port}"
        else:
            variable, found = "BERTH_BIND_HOST", host
        raise ServerSettingsError(
            f"{variable}: found {found}, on which the server cannot listen ({error.strerror}), "
            "expected a free one"
        ) from None


if __name__ == "__main__":
    main()
