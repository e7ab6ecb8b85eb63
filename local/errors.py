"""Errors as a person at a terminal meets them: one line, no traceback."""

import sys


class UserError(Exception):
    """Something the user can put right; its message is one line: what was found, what expected."""


def one_line(error: BaseException) -> str | None:
    """The line to print for an error a user may meet, or None for a defect of this program."""
    from container.errors import BerthError

    if isinstance(error, UserError | BerthError):
        return str(error)
    # Whoever raised one of botocore's has loaded it; loading it here would cost 0.2 s.
    if "botocore" in sys.modules:
        return _of_botocore(error)
    return None


def _of_botocore(error: BaseException) -> str | None:
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        message = " ".join(str(answer.get("Message") or "no message").split())
        return f"{error.operation_name}: {answer.get('Code', 'error')}: {message}"
    if isinstance(error, EndpointConnectionError):
        return f"nobody answers at {error.kwargs.get('endpoint_url')}; is it running (berth up)?"
    if isinstance(error, BotoCoreError):
        return " ".join(str(error).split())
    return None


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
