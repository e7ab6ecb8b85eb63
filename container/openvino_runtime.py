"""OpenVINO, imported once and with one core for the whole process."""

import sys
from functools import cache
from typing import Any


def openvino() -> Any:
    """OpenVINO without its telemetry package, which reports each conversion to Google Analytics.

    Without name resolution each report would also delay the job's end by ten seconds. OpenVINO
    falls back to a stub where the package is missing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable
    import openvino as ov

    return ov


@cache
def core() -> Any:
    """The process's `openvino.Core`, which is never destroyed.

    A core's CPU plugin gives its thread a stack for signal handlers and frees it with itself. Where
    a second core was made meanwhile, or another thread ends the first, the freed stack stays in
    use, and the next signal with a handler (SIGTERM, SIGCHLD) kills the process with SIGSEGV.
    """
    return openvino().Core()
