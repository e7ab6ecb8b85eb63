"""OpenVINO, imported once and with a single core per process."""

import sys
from functools import cache
from typing import Any


def openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports each conversion to Google Analytics.

    Without DNS each report would also delay the job's end by ten seconds. OpenVINO uses a stub if
    the package is missing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable
    import openvino as ov

    return ov


@cache
def core() -> Any:
    """The process's `openvino.Core`, which is never destroyed.

    A core's CPU plugin sets a signal stack for its thread and frees it on destruction. If a second
    core was created meanwhile, or another thread destroys the first, the freed stack stays in use,
    and the next signal with a handler (SIGTERM, SIGCHLD) kills the process with SIGSEGV.
    """
    return openvino().Core()
