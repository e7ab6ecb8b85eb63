"""Errors as the user sees them: one line, no traceback."""

import sys
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class UserError(Exception):
    """An error the user can fix; its message is one line: what was found, what was expected."""


def one_line(error: BaseException) -> str | None:
    """The line to print for an error the user can fix; None for a bug in this program."""
    from container.errors import BerthError

    if isinstance(error, UserError | BerthError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        from container.extras import module_missing

        return module_missing(error)
    if isinstance(error, OSError) and error.strerror:
        # A full disk, a folder that is not writable, a file where a folder should be.
        what = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        return " ".join(what.split())
    # Code that raises a botocore error has imported botocore; importing it here would cost 0.2 s.
    if "botocore" in sys.modules:
        return _of_botocore(error)
    return None


def _of_botocore(error: BaseException) -> str | None:
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
    )

    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        message = " ".join(str(details.get("Message") or "no message").split())
        return f"{error.operation_name}: {details.get('Code', 'error')}: {message}"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        url = str(error.kwargs.get("endpoint_url"))
        if (urlsplit(url).hostname or "") in LOOPBACK:
            return f"cannot connect to {url}; is the local SageMaker running (berth up)?"
        return (
            f"cannot connect to AWS at {url}; check this machine's network (VPN, proxy) and the "
            "name of the region"
        )
    if isinstance(error, ProxyConnectionError):
        proxy = urlsplit(str(error.kwargs.get("proxy_url"))).hostname
        return f"cannot connect to AWS: the proxy {proxy} (HTTPS_PROXY) does not respond"
    transfers = sys.modules.get("boto3.exceptions")
    known = (BotoCoreError, transfers.Boto3Error) if transfers else (BotoCoreError,)
    return " ".join(str(error).split()) if isinstance(error, known) else None


def code(error: BaseException) -> str:
    """The error code of a botocore ClientError; `""` for any other exception."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def print_error(line: str) -> None:
    """Print one red line on stderr, without wrapping."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(
        line, style="red", markup=False, highlight=False, emoji=False
    )
