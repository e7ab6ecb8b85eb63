"""Errors as a person at a terminal meets them: one line, no traceback."""

import sys
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class UserError(Exception):
    """Something the user can put right; its message is one line: what was found, what expected."""


def one_line(error: BaseException) -> str | None:
    """The line to print for an error a user may meet, or None for a defect of this program."""
    from container.errors import BerthError

    if isinstance(error, UserError | BerthError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        from container.extras import module_missing

        return module_missing(error)
    if isinstance(error, OSError) and error.strerror:
        # A full disk, a folder that may not be written, a file where a folder should be.
        what = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        return " ".join(what.split())
    # Whoever raised one of botocore's has loaded it; loading it here would cost 0.2 s.
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
        answer = error.response.get("Error", {})
        message = " ".join(str(answer.get("Message") or "no message").split())
        return f"{error.operation_name}: {answer.get('Code', 'error')}: {message}"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        url = str(error.kwargs.get("endpoint_url"))
        if (urlsplit(url).hostname or "") in LOOPBACK:
            return f"nobody answers at {url}; is it running (berth up)?"
        return (
            f"AWS cannot be reached: nobody answers at {url}; look at this machine's network (VPN, "
            "proxy) and at the region's name"
        )
    if isinstance(error, ProxyConnectionError):
        proxy = urlsplit(str(error.kwargs.get("proxy_url"))).hostname
        return f"AWS cannot be reached: the proxy {proxy} (HTTPS_PROXY) does not answer"
    transfers = sys.modules.get("boto3.exceptions")
    known = (BotoCoreError, transfers.Boto3Error) if transfers else (BotoCoreError,)
    return " ".join(str(error).split()) if isinstance(error, known) else None


def code(error: BaseException) -> str:
    """AWS's code of a botocore ClientError, `""` for anything else."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def print_error(line: str) -> None:
    """One red line on stderr, never wrapped."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(
        line, style="red", markup=False, highlight=False, emoji=False
    )
